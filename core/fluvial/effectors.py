"""For authors: services written in Python that scripts can call.

An effector is a class with a ``service_id`` and functions marked with ``@function``; type hints are the argument check and the
interface. Published as a plugin it is offered in ``fluvial_register`` and switched on by ``[effectors.NAME]`` in ``fluvial.toml``::

    class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
        station_file: str

    class Weather(Effector[Config]):
        service_id = "weather"

        @function
        async def temperature(self, call: Call, city: str) -> float:
            \"\"\"Degrees Celsius; status 404 if the station does not know the city.\"\"\"
            ...

The same class, without a config, is a native service: ``Node.serve(Weather())`` and ``client.serve(…)`` answer calls with it.

Possible hints: ``str``, ``bool``, ``int`` (and the exact ``I64``, ``U64``, ``U32``, ``U8``), ``float``, ``PeerId``, ``None``, ``Any``,
``list[…]``, ``tuple[…]``, ``dict[str, …]``, ``Literal``, unions and optionals of them, ``msgspec.Struct``, dataclasses and TypedDicts. Scripts
may leave out parameters with a default; ``*args: T`` takes any number. A caller's mistake never reaches the function: it fails with
status 4 and a text that names the parameter. Arguments belong to the particle; a function must not change them in place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Final, Generic, Self, TypeAlias, TypeVar, get_args, get_origin, overload

import msgspec

from fluvial.errors import PluginError, ServiceError
from fluvial.fairness import Payer, Upstream
from fluvial.identity import PeerId

I64: TypeAlias = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""A signed 64-bit integer."""

U64: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
"""An unsigned integer; no JSON value of fluvial exceeds 2**64 - 1."""

U32: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
"""An unsigned 32-bit integer."""

U8: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=255)]
"""A byte; ``list[U8]`` is how scripts carry bytes."""

EffectorError = ServiceError
"""Raise it in a function to fail the call in a way that scripts can catch: ``EffectorError(404, "no such city")``."""


class Tetraplet(msgspec.Struct, frozen=True):
    """Where an argument comes from: the call that made it and the path into its result; empty texts for a literal."""

    peer: str
    service: str = ""
    function: str = ""
    lens: str = ""


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One service call, as its function sees it.

    Attributes:
        particle_id: id of the particle that makes the call.
        initiator: the peer that began the particle.
        service: service id or alias as the script has it.
        function: function name.
        arguments: the arguments as JSON values.
        tetraplets: for each argument where it comes from; one for a value, one per element for a canonicalised stream.
        timestamp_ms: when the particle began.
        ttl_ms: how long it lives.
        script_hash: SHA-256 of the flow's script.
        credentials: what the initiator shows to authorizations: ``Header.credentials``.
        paid_by: see :attr:`payer`; None for the initiator itself.
    """

    particle_id: str
    initiator: PeerId
    service: str
    function: str
    arguments: Sequence[Any]
    tetraplets: Sequence[Sequence[Tetraplet]] = ()
    timestamp_ms: int = 0
    ttl_ms: int = 0
    script_hash: bytes = b""
    credentials: Sequence[bytes] = ()
    paid_by: Payer | None = None

    @property
    def payer(self) -> Payer:
        """Whose share the call uses of what a service has little of. Names are free: whoever shares by initiator alone gives all of it to one stranger."""
        return self.paid_by or Payer(Upstream(self.initiator), self.initiator)


class NoConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For effectors without options."""


ConfigT = TypeVar("ConfigT")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
_NO_CONFIG: Final = NoConfig()
_MARK: Final = "__fluvial_function__"


class Declaration(msgspec.Struct, frozen=True):
    """What ``@function`` notes about a method.

    Attributes:
        name: how scripts call it.
        inline: a plain ``def`` that runs on the event loop instead of in a thread.
        timeout_s: its own time limit in seconds; None for the effector's.
        light_bytes: arguments that take more memory are heavy, if it is inline; None for what is heavy for most functions.
    """

    name: str
    inline: bool = False
    timeout_s: float | None = None
    light_bytes: int | None = None


@overload
def function(method: FunctionT, /) -> FunctionT: ...
@overload
def function(
    *, inline: bool = False, timeout_s: float | None = None, light_bytes: int | None = None
) -> Callable[[FunctionT], FunctionT]: ...


def function(
    method: FunctionT | None = None,
    /,
    *,
    inline: bool = False,
    timeout_s: float | None = None,
    light_bytes: int | None = None,
) -> FunctionT | Callable[[FunctionT], FunctionT]:
    """Make a method callable from scripts under its own name (a trailing ``_`` is dropped: ``list_`` is called ``list``).

    An ``async def`` runs on the event loop and is cancelled at its time limit. A plain ``def`` runs in a worker thread; its caller is
    answered at the time limit, but nobody can end the thread: it keeps one of a bounded number of places until it returns.

    Args:
        method: the method, when used without parentheses.
        inline: run a plain ``def`` on the event loop, without time limit: only for what takes microseconds, and may be done again after a
            crash even if what follows from it was begun, too, as long as that was inline.
        timeout_s: time limit of this function in seconds, instead of the effector's.
        light_bytes: for an inline function, arguments that take more memory than this are heavy: it waits for its turn with them, and if the effector
            is ``pure`` a thread goes through them. 256 KiB by default; less for one whose result takes much more than its arguments, such as a parser.
    """

    def mark(marked: FunctionT) -> FunctionT:
        setattr(marked, _MARK, Declaration(marked.__name__.rstrip("_"), inline, timeout_s, light_bytes))
        return marked

    return mark if method is None else mark(method)


class Effector(Generic[ConfigT]):
    """A service written in Python; see the module's docstring.

    One without options derives from ``Effector[NoConfig]`` and is built without argument.

    Class attributes:
        service_id: how scripts call it.
        timeout_s: a call that takes longer fails with status 3; None for the node's default.
        calls_max: how many calls may be in progress at once, further ones wait; None for the node's default.
        placeless: functions whose calls take none of these places, as they only let time pass; the effector bounds them itself.
        pure: whether its inline functions use nothing but their arguments; then a thread does those that have heavy ones.
    """

    service_id: ClassVar[str]
    timeout_s: ClassVar[float | None] = None
    calls_max: ClassVar[int | None] = None
    placeless: ClassVar[frozenset[str]] = frozenset()
    pure: ClassVar[bool] = False

    @overload
    def __init__(self: Effector[NoConfig]) -> None: ...
    @overload
    def __init__(self, config: ConfigT) -> None: ...

    def __init__(self, config: Any = _NO_CONFIG) -> None:
        self.config: ConfigT = config

    @classmethod
    def config_type(cls) -> type[Any]:
        """The Struct in ``Effector[…]``, or NoConfig.

        Raises:
            PluginError: the class has no ``service_id``.
        """
        if not isinstance(getattr(cls, "service_id", None), str):
            raise PluginError(
                f"effector {cls.__module__}.{cls.__qualname__} has no service_id", hint='add: service_id = "…"'
            )
        for base in (base for ancestor in cls.__mro__ for base in vars(ancestor).get("__orig_bases__", ())):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Effector) and isinstance(get_args(base)[0], type):
                config: type[Any] = get_args(base)[0]
                return config
        return NoConfig

    @classmethod
    def from_options(cls, options: Any) -> Self:
        """An instance for ``[effectors.NAME]``: built with its options (of :meth:`config_type`), or without argument if it has no options."""
        make: Callable[..., Self] = cls
        return make() if cls.config_type() is NoConfig else make(options)

    @classmethod
    def declared(cls) -> dict[str, Declaration]:
        """The declarations of all functions by attribute name, in the order of the source, inherited ones first.

        Raises:
            PluginError: two attributes would have one name for scripts.
        """
        found: dict[str, Declaration] = {}
        for attribute in dict.fromkeys(name for ancestor in reversed(cls.__mro__) for name in vars(ancestor)):
            if isinstance(declaration := getattr(getattr(cls, attribute, None), _MARK, None), Declaration):
                found[attribute] = declaration
        names = [declaration.name for declaration in found.values()]
        if twice := {name for name in names if names.count(name) > 1}:
            raise PluginError(f"effector {cls.__module__}.{cls.__qualname__} declares {sorted(twice)[0]!r} twice")
        return found

    async def start(self) -> None:
        """Called before the first call; open what the effector needs. May be called again after :meth:`stop`."""

    async def stop(self) -> None:
        """Called when the service is withdrawn or the node stops. No further call begins, but one that was given up may still run in a thread."""
