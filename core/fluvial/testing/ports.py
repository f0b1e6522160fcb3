"""Ports for parts that are tested without a node: small implementations whose answers a test sets, and the door before each port.

The door lets a part use what the table in ``fluvial.ports`` allows for its kind, from its ``run`` on; anything else fails the test. A test can
also close it, to see how a part behaves when the rest of the node fails or hangs.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias, TypeVar

import anyio

from fluvial.errors import FluvialError, Refused, StorageError, Unreachable
from fluvial.identity import PeerId
from fluvial.ports import NO_BLOCKS, Capability, Provider, View

T = TypeVar("T")

PartKind: TypeAlias = Literal["transport", "routing", "authorization", "execution", "consensus", "extra"]

ALL: Final[frozenset[str]] = frozenset({"*"})
NOTHING: Final[frozenset[str]] = frozenset()
PORTS: Final = ("peers", "database", "trust", "ledger", "directory", "blobs", "extensions")

ALLOWED: Final[Mapping[PartKind, Mapping[str, frozenset[str]]]] = {
    "transport": {"trust": frozenset({"version", "weight"})},
    "routing": {
        "peers": ALL,  # contacts only: the port itself refuses a lookup
        "database": ALL,
        "trust": ALL,
        "directory": frozenset({"own"}),
        "extensions": ALL,
    },
    "authorization": {"peers": ALL, "database": ALL, "ledger": frozenset({"view"}), "extensions": ALL},
    "execution": {
        "peers": ALL,
        "database": ALL,
        "ledger": frozenset({"view"}),
        "directory": ALL,
        "blobs": ALL,
        "extensions": ALL,
    },
    "consensus": {"peers": ALL, "database": ALL, "blobs": ALL},
    "extra": dict.fromkeys(PORTS, ALL),
}
"""What each kind of part may call, by port; the table in ``fluvial.ports``."""


class NotAllowed(AssertionError):
    """A part has called what it must not call, or too early."""


class PortDoors:
    """The doors before all ports of one part.

    Args:
        kind: of the part.

    Attributes:
        open: whether the part may use its ports; from its ``run`` on.
    """

    def __init__(self, kind: PartKind) -> None:
        self.kind: Final = kind
        self.open = False
        self._troubles: dict[str, Literal["fail", "hang"]] = {}

    def fail(self, *ports: str) -> None:
        """Make every awaited call of these ports raise an error that the port may raise; of all ports if none is named."""
        self._troubles |= dict.fromkeys(ports or PORTS, "fail")

    def hang(self, *ports: str) -> None:
        """Make every awaited call of these ports hang; of all ports if none is named."""
        self._troubles |= dict.fromkeys(ports or PORTS, "hang")

    def work(self) -> None:
        """Let all calls through again; calls that hang already stay as they are."""
        self._troubles.clear()

    def door(self, name: str, port: object) -> Any:
        """The door of a port."""
        return _Door(self, name, port)

    def trouble(self, name: str) -> str:
        """``fail``, ``hang`` or nothing."""
        return self._troubles.get(name, "")


class _Door:
    def __init__(self, doors: PortDoors, name: str, port: object) -> None:
        self._doors = doors
        self._name = name
        self._port = port

    def __getattr__(self, attribute: str) -> Any:
        doors = self._doors
        allowed = ALLOWED[doors.kind].get(self._name, NOTHING)
        if allowed is not ALL and attribute not in allowed:
            raise NotAllowed(
                f"`context.{self._name}.{attribute}` is not for a part of kind {doors.kind!r}: see the table in fluvial.ports"
            )
        if not doors.open:
            raise NotAllowed(f"`context.{self._name}.{attribute}` was used before `run`: ports are there from then on")
        value = getattr(self._port, attribute)
        return self._troubled(value) if inspect.iscoroutinefunction(value) else value

    def _troubled(self, work: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        async def call(*args: Any, **more: Any) -> T:
            match self._doors.trouble(self._name):
                case "hang":
                    await anyio.sleep_forever()
                case "fail" if (error := _errors().get(self._name)) is not None:
                    raise error
            return await work(*args, **more)

        return call


def _errors() -> dict[str, FluvialError]:
    """The error that each port fails with; a port that is not here never raises."""
    return {
        "peers": Unreachable("nobody can be reached in this test"),
        "database": StorageError("the database fails in this test"),
        "ledger": Refused("no transaction is taken in this test", reason="test"),
        "blobs": Unreachable("no content can be had in this test"),
    }


class WeightsTrust:
    """The port ``trust`` with weights that a test sets.

    Attributes:
        weights: by peer; everybody else is a stranger. Call :meth:`set` to change them.
    """

    def __init__(self) -> None:
        self.weights: dict[PeerId, int] = {}
        self._version = 0

    def set(self, weights: Mapping[PeerId, int]) -> None:
        """New weights; the version grows."""
        self.weights = dict(weights)
        self._version += 1

    @property
    def version(self) -> int:
        """As :attr:`fluvial.ports.Trust.version`."""
        return self._version

    def weight(self, peer: PeerId) -> int:
        """As :meth:`fluvial.ports.Trust.weight`."""
        return self.weights.get(peer, 0)

    def prove(self, owner: PeerId, provider: PeerId, *, length_max: int) -> bytes | None:
        """A path of one edge wherever the provider has a weight."""
        return f"{owner} trusts {provider}".encode() if self.weights.get(provider) and length_max else None

    def proves(self, proof: bytes, owner: PeerId, provider: PeerId, *, length_max: int) -> bool:
        """Whether it is the proof that :meth:`prove` makes."""
        return bool(length_max) and proof == f"{owner} trusts {provider}".encode()


class ValuesLedger:
    """The port ``ledger``: remembers what is submitted, and shows the view that a test sets.

    Attributes:
        seen: the newest view.
        submitted: the transactions, in order.
    """

    def __init__(self) -> None:
        self.seen: View = NO_BLOCKS
        self.submitted: list[bytes] = []

    def view(self) -> View:
        """As :meth:`fluvial.ports.Ledger.view`."""
        return self.seen

    async def submit(self, transaction: bytes) -> None:
        """Remember it."""
        self.submitted.append(transaction)


class NamedDirectory:
    """The port ``directory`` with providers that a test names.

    Attributes:
        providers: by capability, heaviest first.
    """

    def __init__(self, own: Callable[[], Iterable[Capability]]) -> None:
        self.providers: dict[Capability, Sequence[Provider]] = {}
        self._own = own

    async def find(self, capability: Capability, *, limit: int = 8) -> Sequence[Provider]:
        """As :meth:`fluvial.ports.Directory.find`."""
        return tuple(self.providers.get(capability, ()))[:limit]

    def own(self) -> frozenset[Capability]:
        """What the part itself declares."""
        return frozenset(self._own())


class ListedExtensions:
    """The port ``extensions`` with objects that a test gives.

    Attributes:
        given: the objects.
    """

    def __init__(self) -> None:
        self.given: list[object] = []

    def all(self, kind: type[T]) -> Sequence[T]:
        """As :meth:`fluvial.ports.Extensions.all`."""
        return [one for one in self.given if isinstance(one, kind)]
