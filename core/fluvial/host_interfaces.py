"""For authors: functions of a peer for guests, the WebAssembly modules that its services are made of.

An effector for guests is a plugin that gives a :class:`HostInterface` among the ``extensions`` of its contributions: a WIT interface, and Python
functions behind it. The owner of the peer grants it to modules, blueprints or owners in the settings of the execution; a guest imports it like any
interface, and each service that has the grant calls it with the settings of that grant::

    class Dice(HostInterface):
        effector = "dice"
        wit = \"\"\"
            package example:dice@0.1.0;
            interface rolls { roll: func(sides: u32) -> result<u32, string>; }
        \"\"\"
        options = DiceOptions

        def session(self, guest, options):
            async def roll(sides):
                if sides > options.sides_max:
                    raise EffectorError(400, f"no die has {sides} sides")
                return rng.randint(1, sides)
            return HostSession({"roll": roll})

Values are JSON, as :mod:`fluvial_fce_wasm` describes it; for ``list<u8>`` a function may return bytes, which is quicker. If a function's WIT result is ``result<…, string>``, what the Python function
returns is the ``ok``, and an ``EffectorError`` is the ``err``. Any other exception stops the guest.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, ClassVar

import msgspec

from fluvial.effectors import Call, NoConfig
from fluvial.identity import PeerId


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks.

    Attributes:
        service: id of the service whose guest it is; it stays the same when modules are replaced.
        owner: of the service.
        call: the call that the service is answering.
    """

    service: str
    owner: PeerId
    call: Call


async def _nothing() -> None:
    """What there is to keep of a session that has gathered nothing."""


class HostSession(msgspec.Struct, frozen=True):
    """The functions for one call of a service, made when the guest uses the first of them.

    Attributes:
        functions: by their names in WIT; awaited on the event loop, with a deadline, one at a time.
        keep: awaited once, after the guests have ended well and before the call's result is given: effects that were gathered are made durable in it, all or
            none. If the call fails it is not awaited.
    """

    functions: Mapping[str, Callable[..., Awaitable[Any]]]
    keep: Callable[[], Awaitable[None]] = _nothing


class HostInterface(ABC):
    """An interface for guests.

    Class attributes:
        effector: by which grants name it.
        wit: a WIT package with one interface, whose functions use no resources.
        options: what a grant may set: a msgspec Struct with a default for every key.
    """

    effector: ClassVar[str]
    wit: ClassVar[str]
    options: ClassVar[type[msgspec.Struct]] = NoConfig

    @abstractmethod
    def session(self, guest: Guest, options: Any) -> HostSession:
        """The functions for one call; no I/O.

        Args:
            guest: who asks.
            options: of the grant, an instance of :attr:`options`.
        """

    async def forget(self, service: str) -> None:
        """A service was removed: delete what was kept for it."""
        return
