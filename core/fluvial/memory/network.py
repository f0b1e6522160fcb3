"""A network in memory: who listens where, how long messages take between two peers, which are lost, and who is cut off from whom.

All chance comes from one seed. Each ordered pair of peers draws from a generator of its own, so more traffic on one link changes nothing
on another. Delays are waits of the event loop: real ones on a real loop, none under virtual time.

There are no secrets here: a peer is who its key pair says, since both ends are objects of one process. Whoever can hand a
transport another key pair *is* that other peer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Literal, Protocol, TypeAlias, TypeVar

from fluvial.addresses import Address, Contact
from fluvial.errors import ConfigError
from fluvial.identity import PeerId

HOST: Final = "memory"
"""Addresses look like ``/dns/memory/tcp/1/p2p/12D3KooW…``."""
PORT_MAX: Final = 65_535

TransferKind: TypeAlias = Literal["request", "answer", "error", "one_way"]

HostT = TypeVar("HostT", bound="MemoryHost")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkQuality:
    """How messages go one way between two peers.

    Attributes:
        latency_s: time that each message takes, in seconds.
        jitter_s: further time, drawn evenly from 0 to this. Messages of one connection still arrive in order.
        loss: share of messages that never arrive, from 0 to 1; the connection stands, and a request ends with its time limit.

    Raises:
        ValueError: a time is negative, or the share is none.
    """

    latency_s: float = 0.0
    jitter_s: float = 0.0
    loss: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.latency_s < 0 or self.jitter_s < 0 or not 0 <= self.loss <= 1:
            raise ValueError(f"{self}: times are not negative, and `loss` is between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One message as it leaves its sender; what :meth:`Memory.watch` reports.

    Attributes:
        at_s: the event loop's time, in seconds.
        source, target: who sends, and to whom.
        kind: a request, its answer, an error in place of the answer, or a message without answer.
        protocol: of the message; an answer has that of its request.
        payload: the bytes; of an error, its text.
        lost: whether it will never arrive.
    """

    at_s: float
    source: PeerId
    target: PeerId
    kind: TransferKind
    protocol: str
    payload: bytes
    lost: bool


class MemoryHost(Protocol):
    """Something that listens."""

    @property
    def peer(self) -> PeerId:
        """Who it is."""
        ...


class Interruptible(Protocol):
    """One end of a connection, as the network needs it."""

    peer: PeerId
    own: PeerId

    def look(self) -> None:
        """Partitions have changed."""
        ...

    def close(self, reason: str) -> None:
        """End the connection; without effect if it has ended."""
        ...


class Memory:
    """A network of peers in one process.

    Args:
        seed: of all chance.
        quality: of all links that :meth:`set_quality` does not name.
    """

    def __init__(self, seed: int = 0, *, quality: LinkQuality | None = None) -> None:
        self._seed = seed
        self._qualities: dict[tuple[PeerId | None, PeerId | None], LinkQuality] = {
            (None, None): quality or LinkQuality()
        }
        self._rngs: dict[tuple[PeerId, PeerId], Random] = {}
        self._sides: dict[PeerId, int] | None = None
        self._hosts: dict[int, MemoryHost] = {}
        self._ends: dict[Interruptible, None] = {}
        self._watchers: list[Callable[[Transfer], None]] = []

    # --- what a test says

    def set_quality(self, quality: LinkQuality, *, source: PeerId | None = None, target: PeerId | None = None) -> None:
        """How messages go from now on.

        Args:
            quality: of the links that are meant. A rule for both ends goes before one for the source, that before one for the target.
            source: whose messages; None for everybody's.
            target: messages to whom; None for everybody.
        """
        self._qualities[source, target] = quality

    def partition(self, *groups: Collection[PeerId]) -> None:
        """Cut the network into parts; replaces an earlier partition.

        What crosses a border is held back, as TCP would send it again and again: it arrives if the partition is healed soon
        enough, and after a time of silence (``silence_max_s``) each end gives its connection up. Dialling across fails by its time limit.

        Args:
            groups: the peers of each part; those that are named nowhere form one more part.
        """
        self._sides = {peer: number for number, group in enumerate(groups) for peer in group}
        self._look()

    def heal(self) -> None:
        """End the partition."""
        self._sides = None
        self._look()

    def cut(self, one: PeerId, other: PeerId) -> None:
        """Break the connections between two peers at once; what is under way is lost. They may dial again."""
        for end in [end for end in self._ends if {end.peer, end.own} == {one, other}]:
            end.close("lost")

    def watch(self, watcher: Callable[[Transfer], None]) -> None:
        """Have a function called for each message that leaves its sender, in order."""
        self._watchers.append(watcher)

    def contacts(self) -> list[Contact]:
        """Whoever listens now, in the order of the ports."""
        return [
            Contact(host.peer, (self._address(port, host),))
            for port, host in sorted(self._hosts.items(), key=lambda one: one[0])
        ]

    def find(self, peer: PeerId) -> Contact | None:
        """Where a peer listens; what a routing that knows everything would say."""
        return next((contact for contact in self.contacts() if contact.peer == peer), None)

    # --- what the transports ask

    def apart(self, one: PeerId, other: PeerId) -> bool:
        """Whether a partition lies between two peers."""
        return self._sides is not None and self._sides.get(one, -1) != self._sides.get(other, -1)

    def delay_s(self, source: PeerId, target: PeerId) -> float:
        """The time that the next message takes."""
        quality = self._quality(source, target)
        if not quality.jitter_s:
            return quality.latency_s
        return quality.latency_s + self._rng(source, target).uniform(0, quality.jitter_s)

    def loses(self, source: PeerId, target: PeerId) -> bool:
        """Whether the next message is lost."""
        loss = self._quality(source, target).loss
        return loss > 0 and self._rng(source, target).random() < loss

    def report(self, transfer: Transfer) -> None:
        """A message has left its sender."""
        for watcher in self._watchers:
            watcher(transfer)

    def listen(self, host: MemoryHost, port: int = 0) -> Address:
        """Let others dial a host.

        Args:
            host: who listens.
            port: where; 0 for the first that is free.

        Raises:
            ConfigError: the port is taken, or all are.
        """
        free = (number for number in range(1, PORT_MAX + 1) if number not in self._hosts)
        chosen = port or next(free, 0)
        if chosen in self._hosts or not chosen:
            raise ConfigError(f"port {port or 'any'} of the network in memory is taken")
        self._hosts[chosen] = host
        return self._address(chosen, host)

    def unlisten(self, host: MemoryHost) -> None:
        """Nobody dials it any more."""
        self._hosts = {port: one for port, one in self._hosts.items() if one is not host}

    def hosts(self, addresses: Sequence[Address], kind: type[HostT]) -> list[HostT]:
        """Who listens at some addresses, in their order."""
        found = (self._hosts.get(address.port) for address in addresses if address.host == HOST)
        return [host for host in found if isinstance(host, kind)]

    def add(self, end: Interruptible) -> None:
        """A connection stands."""
        self._ends[end] = None

    def remove(self, end: Interruptible) -> None:
        """A connection has ended."""
        self._ends.pop(end, None)

    def _address(self, port: int, host: MemoryHost) -> Address:
        return Address(host_kind="dns", host=HOST, port=port, peer=host.peer)

    def _look(self) -> None:
        for end in list(self._ends):
            end.look()

    def _quality(self, source: PeerId, target: PeerId) -> LinkQuality:
        for pair in ((source, target), (source, None), (None, target)):
            if (quality := self._qualities.get(pair)) is not None:
                return quality
        return self._qualities[None, None]

    def _rng(self, source: PeerId, target: PeerId) -> Random:
        rng = self._rngs.get((source, target))
        if rng is None:
            # A text as seed is hashed with SHA-512, the same in every process.
            rng = self._rngs[source, target] = Random(f"{self._seed} {source} {target}")  # noqa: S311 - no secret
        return rng
