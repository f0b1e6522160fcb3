"""For authors: how a peer's owner gives scripts something to call.

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
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

import msgspec

from fluvial.errors import PluginError, ServiceError
from fluvial.identity import PeerId

EffectorError = ServiceError
"""Raise it in a function to fail the call in a way that scripts can catch: ``EffectorError(404, "no such city")``."""


@dataclass(frozen=True, slots=True)
class Tetraplet:
    """Where an argument comes from: the call that made it and the path into its result; empty texts for a literal."""

    peer: str
    service: str = ""
    function: str = ""
    lens: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
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
    """

    particle_id: str
    initiator: PeerId
    service: str
    function: str
    arguments: Sequence[Any]
    tetraplets: Sequence[Sequence[Tetraplet]] = ()
    timestamp_ms: int = 0
    ttl_ms: int = 0


class NoConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For effectors without options."""


ConfigT = TypeVar("ConfigT")
FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])
_MARK = "__fluvial_function__"


def function(method: FunctionT) -> FunctionT:
    """Make a method callable from scripts under its own name (a trailing ``_`` is dropped: ``list_`` is called ``list``)."""
    setattr(method, _MARK, method.__name__.rstrip("_"))
    return method


class Effector(Generic[ConfigT]):
    """A service written in Python; see the module's docstring.

    Class attributes:
        service_id: how scripts call it.
        timeout_s: a call that takes longer fails with status 3; None for the node's default.
    """

    service_id: ClassVar[str]
    timeout_s: ClassVar[float | None] = None

    def __init__(self, config: ConfigT = NoConfig()) -> None:  # noqa: B008 - immutable  # type: ignore[assignment]  # NoConfig where there is none
        self.config = config

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
        for base in getattr(cls, "__orig_bases__", ()):
            origin = get_origin(base)
            if isinstance(origin, type) and issubclass(origin, Effector) and isinstance(get_args(base)[0], type):
                config: type[Any] = get_args(base)[0]
                return config
        return NoConfig

    async def start(self) -> None:
        """Called once before the first call; open what the effector needs."""

    async def stop(self) -> None:
        """Called once when the node stops."""
