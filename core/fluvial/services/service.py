"""An effector made callable: its functions are read once; each call is checked, has a time limit and is contained."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache, partial
from typing import Any, Final, TypeVar, cast

import msgspec

from fluvial.air.data.weight import LIGHT_BYTES, EncodedJson, is_light, weight_within
from fluvial.effectors import Call, Declaration, Effector
from fluvial.errors import FluvialError, PluginError, ServiceError
from fluvial.guard.guard import Guard, PluginFailed
from fluvial.seats import Json
from fluvial.services.hints import Texts
from fluvial.services.interface import FunctionInterface, Interface, docstring
from fluvial.services.signature import Signature
from fluvial.services.status import STATUS_MAX, STATUS_MIN, Status, listed, shortened
from fluvial.services.threads import Threads
from fluvial.services.turns import InTurn, at_once
from fluvial.services.values import RESULT_BYTES_MAX, is_plain, to_result

T = TypeVar("T")

SERVICE_ID_CHARACTERS_MAX: Final = 128
NAME_CHARACTERS_MAX: Final = 80
"""Of a service or function in a message."""
START_S_MAX: Final = 30.0
"""How long ``start`` and ``stop`` of an effector may take, in seconds."""


class _Function(msgspec.Struct, frozen=True):
    attribute: str
    declaration: Declaration
    signature: Signature
    doc: str
    is_async: bool

    @property
    def interface(self) -> FunctionInterface:
        return FunctionInterface(self.declaration.name, self.signature.parameters, self.signature.returns, self.doc)


def describe(effector: type[Effector[Any]]) -> Interface:
    """The interface of an effector's class.

    Raises:
        PluginError: it has no service id, or a function that scripts could not call; the message says what to change.
    """
    return _reflect(cast(Any, effector))[0]  # Any: mypy takes classes for unhashable


@lru_cache(maxsize=256)
def _reflect(effector: type[Effector[Any]]) -> tuple[Interface, Mapping[str, _Function]]:
    effector.config_type()
    service_id, name = effector.service_id, f"{effector.__module__}.{effector.__qualname__}"
    if not 1 <= len(service_id) <= SERVICE_ID_CHARACTERS_MAX:
        raise PluginError(f"effector {name}: its service_id does not have 1 to {SERVICE_ID_CHARACTERS_MAX} characters")
    texts = Texts()
    functions = {}
    for attribute, declaration in effector.declared().items():
        method = inspect.getattr_static(effector, attribute)
        if not inspect.isfunction(method):
            raise PluginError(
                f"effector {name}: {attribute} is no plain method", hint="put @function on `def` or `async def`"
            )
        is_async = inspect.iscoroutinefunction(method)
        if declaration.inline and is_async:
            raise PluginError(f"effector {name}: {attribute} is async, which inline=True is not for")
        functions[declaration.name] = _Function(
            attribute, declaration, Signature.of(method, texts), docstring(method), is_async
        )
    if not functions:
        raise PluginError(f"effector {name} has no function", hint="mark its methods with @function")
    interfaces = {each: function.interface for each, function in functions.items()}
    return Interface(service_id, interfaces, texts.records, docstring(effector)), functions


class Service:
    """An effector and its functions.

    Args:
        effector: the object whose functions are called.
        threads: where its plain functions run.
        guard: makes the calls.
        plugin: the plugin whose code it is, for log and metrics; its class by default.
        result_bytes_max: limit of one result in its canonical encoding.

    Raises:
        PluginError: see :func:`describe`.
    """

    def __init__(
        self,
        effector: Effector[Any],
        *,
        threads: Threads,
        guard: Guard,
        plugin: str = "",
        result_bytes_max: int = RESULT_BYTES_MAX,
    ) -> None:
        self.interface, self._functions = _reflect(cast(Any, type(effector)))
        self.effector = effector
        self.plugin = plugin or f"{type(effector).__module__}:{type(effector).__qualname__}"
        self._threads = threads
        self._guard = guard
        self._result_bytes_max = result_bytes_max

    @property
    def id(self) -> str:
        """The name by which scripts call it."""
        return self.interface.service_id

    async def start(self) -> None:
        """Start the effector.

        Raises:
            PluginError: its ``start`` failed or took longer than 30 s. Another FluvialError: as it raised it.
        """
        await self._change(self.effector.start)

    async def stop(self) -> None:
        """Stop the effector.

        Raises:
            PluginError: its ``stop`` failed or took longer than 30 s. Another FluvialError: as it raised it.
        """
        await self._change(self.effector.stop)

    async def _change(self, change: Callable[[], Awaitable[None]]) -> None:
        what = f"effector {type(self.effector).__name__} (service {self.id!r}): {change.__name__}()"
        try:
            await self._guard.call(self.plugin, what, change, timeout_s=START_S_MAX, passes=(FluvialError,))
        except PluginFailed as error:
            raise error.for_operator() from error.cause

    def is_inline(self, function: str) -> bool:
        """Whether a function answers at once, without waiting for anything; also true for an unknown function."""
        return function not in self._functions or self._functions[function].declaration.inline

    def is_light(self, call: Call) -> bool:
        """Whether an inline function can go through its arguments at once."""
        function = self._functions.get(call.function)
        own = None if function is None else function.declaration.light_bytes
        most = LIGHT_BYTES if own is None else own
        return weight_within(call.arguments, most) <= most

    def read(self, call: Call, *, timeout_s: float) -> Callable[[], Any]:
        """The function of a call with its arguments, which are checked now; nothing of the effector is used yet. Args and errors as for :meth:`call`."""
        function, timeout_s = self._declared(call, timeout_s)
        with ServiceErrors(call, timeout_s=timeout_s):
            return self._bound(name_of(call), function, call)

    def answer(self, call: Call, *, timeout_s: float, work: Callable[[], Any] | None = None) -> Json | EncodedJson:
        """The result of a call of an inline function. Args and errors as for :meth:`call`; ``work`` is what :meth:`read` has given, if it was asked before."""
        function, timeout_s = self._declared(call, timeout_s)
        name = name_of(call)
        with ServiceErrors(call, timeout_s=timeout_s):
            return self._converted(name, self._quick(name, work or self._bound(name, function, call)))

    async def call(self, call: Call, *, timeout_s: float, in_turn: InTurn = at_once) -> Json | EncodedJson:
        """The result of a call.

        Args:
            call: what to call; its ``service`` is not looked at.
            timeout_s: the time limit where neither function nor effector set their own.
            in_turn: where heavy arguments are read, in a thread, and heavy results are converted.

        Raises:
            ServiceError: the function failed on purpose, or status 2 to 6 of :class:`Status`.
        """
        function, timeout_s = self._declared(call, timeout_s)
        name = name_of(call)
        with ServiceErrors(call, timeout_s=timeout_s):
            read = partial(self._bound, name, function, call)
            work = read() if is_light(call.arguments) else await in_turn(read, pure=True)
            if function.declaration.inline:
                value = self._quick(name, work)
            else:
                value = await self._guard.call(
                    self.plugin,
                    name,
                    work if function.is_async else partial(self._threads.run, work, call.payer.upstream.sender),
                    timeout_s=timeout_s,
                    passes=(ServiceError,),
                    at_once=True,
                )
            if is_light((value,)):
                return self._converted(name, value)
            return await in_turn(lambda: self._converted(name, value))

    def _declared(self, call: Call, timeout_s: float) -> tuple[_Function, float]:
        if (function := self._functions.get(call.function)) is None:
            raise ServiceError(
                Status.UNKNOWN_FUNCTION,
                f"service {call.service!r} has no function {shortened(call.function, 80)!r}; "
                f"it has: {listed(list(self._functions))}",
            )
        if (own_s := function.declaration.timeout_s) is None and (own_s := self.effector.timeout_s) is None:
            return function, timeout_s
        return function, own_s

    # Reading arguments and converting results runs code of the author, too: of Structs, dataclasses and mappings.

    def _bound(self, name: str, function: _Function, call: Call) -> Callable[[], Any]:
        arguments = self._quick(name, partial(function.signature.read, call))
        return partial(getattr(self.effector, function.attribute), *arguments)

    def _converted(self, name: str, value: Any) -> Json | EncodedJson:
        if is_plain(value, bytes_max=self._result_bytes_max):
            return cast(Json, value)
        convert = partial(to_result, value, of=name, bytes_max=self._result_bytes_max)
        return self._quick(name, convert)

    def _quick(self, name: str, work: Callable[[], T]) -> T:
        return self._guard.run(self.plugin, name, work, passes=(ServiceError,))


def name_of(call: Call) -> str:
    """``service.function``, cut to what a log line and a message may hold."""
    service, function = call.service, call.function
    if len(service) > NAME_CHARACTERS_MAX or len(function) > NAME_CHARACTERS_MAX:
        service, function = shortened(service, NAME_CHARACTERS_MAX), shortened(function, NAME_CHARACTERS_MAX)
    return f"{service}.{function}"


class ServiceErrors:
    """For ``with``: translates what the guard raises about a service's code into errors that scripts see.

    Raises:
        ServiceError: as the code raised it; status 3 if its deadline passed; status 5 with an id if it failed in any other way.
    """

    __slots__ = ("_call", "_timeout_s")

    def __init__(self, call: Call, *, timeout_s: float) -> None:
        self._call = call
        self._timeout_s = timeout_s

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PluginFailed):
            if error.timed_out:
                text = f"{name_of(self._call)} took longer than {self._timeout_s:g} s"
                raise ServiceError(Status.TIMED_OUT, text) from error
            raise ServiceError(Status.FAILED, error.message) from error
        if isinstance(error, ServiceError):
            self._check(error)

    def _check(self, error: ServiceError) -> None:
        """Raise another error in the place of one that is not well-formed."""
        name = name_of(self._call)
        if not (isinstance(error.status, int) and STATUS_MIN <= error.status <= STATUS_MAX):
            text = f"{name} failed with the impossible status {shortened(repr(error.status), 80)}"
            raise ServiceError(Status.FAILED, text) from error
        if not isinstance(error.message, str):
            raise ServiceError(Status.FAILED, f"{name} failed without a text") from error
        if len(error.message) > len(short := shortened(error.message)):
            raise ServiceError(error.status, short) from error
