"""One effector, ready to be called: its functions reflected once, every call checked, limited in time and contained."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, cast

import anyio
import structlog

from fluvial.effectors import Call, Declaration, Effector
from fluvial.errors import FluvialError, PluginError, ServiceError
from fluvial.seats import Json
from fluvial.services.hints import Texts
from fluvial.services.interface import FunctionInterface, Interface, docstring
from fluvial.services.signature import Signature
from fluvial.services.status import STATUS_MAX, STATUS_MIN, Status, listed, shortened
from fluvial.services.threads import Threads
from fluvial.services.values import RESULT_BYTES_MAX, to_json

SERVICE_ID_CHARACTERS_MAX: Final = 128
START_S_MAX: Final = 30.0
"""How long ``start`` and ``stop`` of an effector may take, in seconds."""


@dataclass(frozen=True, slots=True)
class _Function:
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
        log: gets an event with traceback for every exception in a function.
        result_bytes_max: limit of one result in its canonical encoding.

    Raises:
        PluginError: see :func:`describe`.
    """

    def __init__(
        self,
        effector: Effector[Any],
        *,
        threads: Threads,
        log: structlog.stdlib.BoundLogger,
        result_bytes_max: int = RESULT_BYTES_MAX,
    ) -> None:
        self.interface, self._functions = _reflect(cast(Any, type(effector)))
        self.effector = effector
        self._threads = threads
        self._log = log
        self._result_bytes_max = result_bytes_max

    @property
    def id(self) -> str:
        """The name by which scripts call it."""
        return self.interface.service_id

    async def start(self) -> None:
        """Start the effector.

        Raises:
            PluginError: its ``start`` failed or took longer than 30 s.
        """
        await self._change(self.effector.start)

    async def stop(self) -> None:
        """Stop the effector.

        Raises:
            PluginError: its ``stop`` failed or took longer than 30 s.
        """
        await self._change(self.effector.stop)

    async def _change(self, change: Callable[[], Awaitable[None]]) -> None:
        what = f"effector {type(self.effector).__name__} (service {self.id!r}): {change.__name__}()"
        with anyio.move_on_after(START_S_MAX) as scope:
            try:
                await change()
            except FluvialError as error:
                raise PluginError(f"{what} failed: {error.message}", hint=error.hint) from error
            except Exception as error:  # the plugin boundary
                raise PluginError(f"{what} failed: {type(error).__name__}: {error}") from error
        if scope.cancelled_caught:
            raise PluginError(f"{what} took longer than {START_S_MAX:g} s")

    def is_inline(self, function: str) -> bool:
        """Whether a function answers at once, without waiting for anything; also true for one that is not there."""
        return function not in self._functions or self._functions[function].declaration.inline

    async def call(self, call: Call, *, timeout_s: float) -> Json:
        """The result of a call.

        Args:
            call: what to call; its ``service`` is not looked at.
            timeout_s: the time limit where neither function nor effector set their own.

        Raises:
            ServiceError: the function failed on purpose, or status 2 to 6 of :class:`Status`.
        """
        if (function := self._functions.get(call.function)) is None:
            raise ServiceError(
                Status.UNKNOWN_FUNCTION,
                f"service {call.service!r} has no function {shortened(call.function, 80)!r}; "
                f"it has: {listed(list(self._functions))}",
            )
        arguments = function.signature.read(call)
        work = functools.partial(getattr(self.effector, function.attribute), *arguments)
        limits = (function.declaration.timeout_s, self.effector.timeout_s, timeout_s)
        value = await contained(
            lambda: self._run(function, work),
            call=call,
            timeout_s=next(limit for limit in limits if limit is not None),
            log=self._log,
        )
        return to_json(value, of=f"{call.service}.{call.function}", bytes_max=self._result_bytes_max)

    async def _run(self, function: _Function, work: Callable[[], Any]) -> Any:
        if function.is_async:
            return await work()
        return work() if function.declaration.inline else await self._threads.run(work)


async def contained(
    work: Callable[[], Awaitable[Any]], *, call: Call, timeout_s: float, log: structlog.stdlib.BoundLogger
) -> Any:
    """The result of somebody else's code, limited in time; whatever goes wrong in it becomes a ServiceError.

    Raises:
        ServiceError: as ``work`` raised it; status 3 when the time was over; status 5 for any other exception, which is logged.
    """
    name = f"{call.service}.{call.function}"
    with anyio.move_on_after(timeout_s):
        try:
            return await work()
        except ServiceError as error:
            if not STATUS_MIN <= error.status <= STATUS_MAX:
                raise ServiceError(Status.FAILED, f"{name} failed with the impossible status {error.status}") from error
            if len(error.message) > len(short := shortened(error.message)):
                raise ServiceError(error.status, short) from error
            raise
        except Exception as error:  # the plugin boundary: a service must not bring down the node
            log.exception("service_failed", service=call.service, function=call.function, particle=call.particle_id)
            text = f"{name} failed: {type(error).__name__}: {error}"
            raise ServiceError(Status.FAILED, shortened(text)) from error
    raise ServiceError(Status.TIMED_OUT, f"{name} took longer than {timeout_s:g} s")
