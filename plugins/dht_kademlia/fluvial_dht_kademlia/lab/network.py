"""A network of thousands of peers in virtual time: a queue of events, links with latency and loss from a seed, and the machine of each peer.

Nothing waits: the clock jumps to the next event. The same seed gives the same run. The network looks at a peer only through the inputs and
effects of its machine, as a node's shell would.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from heapq import heappop, heappush
from random import Random
from typing import Final, TypeAlias

from fluvial.addresses import Address, Contact
from fluvial.identity import KeyPair, PeerId, verify

from fluvial_dht_kademlia.lab.liars import Liar
from fluvial_dht_kademlia.machine.challenges import ChallengeKinds
from fluvial_dht_kademlia.machine.kademlia import Kademlia
from fluvial_dht_kademlia.machine.keyspace import Key, peer_key
from fluvial_dht_kademlia.machine.limits import KademliaLimits
from fluvial_dht_kademlia.machine.messages import DhtAnswer
from fluvial_dht_kademlia.machine.outcomes import AskPeer, DhtEffect, LookupEnded, ProvideEnded
from fluvial_dht_kademlia.machine.publications import Publications
from fluvial_dht_kademlia.machine.records import RecordChecks, sign_record

NETWORK: Final = "lab"
START_MS: Final = 1_000_000_000_000
LATENCY_MS: Final = (10, 80)
"""One way, drawn for each message."""

EndOf: TypeAlias = LookupEnded | ProvideEnded
WhenEnded: TypeAlias = Callable[[EndOf], None]
_Event: TypeAlias = Callable[[], None]


def keys_of(name: str) -> KeyPair:
    """The key pair of a named peer: its seed is the SHA-256 of the name."""
    return KeyPair.from_secret(hashlib.sha256(name.encode()).digest())


@dataclass(slots=True, eq=False)
class LabPeer:
    """A peer of the network; ``liar`` answers in place of its machine."""

    contact: Contact
    machine: Kademlia
    liar: Liar | None = None
    alive: bool = True
    wake_at: int | None = None
    waiting: dict[int, WhenEnded] = field(default_factory=dict)


class LabNetwork:
    """The peers, the links and the queue.

    Args:
        limits: of every peer.
        seed: of latencies, losses and the machines' own draws.
        loss: part of the messages that are lost, 0 to 1.
        weights: the weight of a peer in everybody's eyes; 0 for those that are not there.
    """

    def __init__(
        self, limits: KademliaLimits, *, seed: int, loss: float = 0.0, weights: dict[PeerId, int] | None = None
    ) -> None:
        self.now = START_MS
        self.rng: Final = Random(seed)  # noqa: S311  # no secret: a simulation is repeated by its seed
        self.limits: Final = limits
        self.weights: Final = weights if weights is not None else {}
        self.places: Final[dict[PeerId, Key]] = {}
        self.peers: Final[dict[PeerId, LabPeer]] = {}
        self.messages = 0
        self._loss = loss
        self._queue: list[tuple[int, int, _Event]] = []
        self._events = 0
        self._verified: dict[tuple[bytes, bytes, bytes], bool] = {}
        self._checks = RecordChecks(NETWORK, ChallengeKinds(lambda *_: False), limits, self._verify_once)

    def place(self, peer: PeerId) -> Key:
        """Where a peer is; ``places`` has those of attackers that have ground keys until they lay where they wanted."""
        return self.places.get(peer) or peer_key(peer)

    def weigh(self, peer: PeerId) -> int:
        """The weight of a peer in everybody's eyes."""
        return self.weights.get(peer, 0)

    def add(self, name: str, *, place: Key | None = None) -> LabPeer:
        """A new peer, which has not joined yet."""
        keys = keys_of(f"{self.limits.k}/{name}")
        peer = keys.peer_id
        if place is not None:
            self.places[peer] = place
        number = len(self.peers)
        address = Address.parse(f"/ip4/10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}/tcp/7771")
        contact = Contact(peer, (address,))
        machine = Kademlia(
            contact,
            limits=self.limits,
            checks=self._checks,
            publications=Publications(peer, sign=lambda fields: sign_record(keys, NETWORK, fields), limits=self.limits),
            weigh=self.weigh,
            rng=self.rng,
            now=self.now,
            place=self.place,
            weights_version=lambda: len(self.weights),
        )
        added = self.peers[peer] = LabPeer(contact, machine)
        self._schedule(added)
        return added

    def kill(self, peer: LabPeer) -> None:
        """The peer vanishes without a word."""
        peer.alive = False
        del self.peers[peer.contact.peer]

    def at(self, delay_ms: int, event: _Event) -> None:
        """Do something later."""
        self._events += 1
        heappush(self._queue, (self.now + delay_ms, self._events, event))

    def begin(self, peer: LabPeer, started: tuple[int, list[DhtEffect]], ended: WhenEnded) -> None:
        """Carry out what a machine's operation wants, and call ``ended`` with its end."""
        operation, effects = started
        peer.waiting[operation] = ended
        self.carry_out(peer, effects)

    def run_until(self, moment: int) -> None:
        """Let virtual time pass."""
        while self._queue and self._queue[0][0] <= moment:
            self.now, _, event = heappop(self._queue)
            event()
        self.now = moment

    def carry_out(self, peer: LabPeer, effects: list[DhtEffect]) -> None:
        """Carry out effects of a peer's machine."""
        for effect in effects:
            if isinstance(effect, AskPeer):
                self.messages += 1
                self._send(partial(self._deliver, peer, effect))
            elif (ended := peer.waiting.pop(effect.operation, None)) is not None:
                ended(effect)
        self._schedule(peer)

    def _send(self, event: _Event) -> None:
        if self._loss and self.rng.random() < self._loss:
            return
        self.at(self.rng.randint(*LATENCY_MS), event)

    def _deliver(self, sender: LabPeer, ask: AskPeer) -> None:
        receiver = self.peers.get(ask.contact.peer)
        if receiver is None:
            return
        answer: DhtAnswer | None
        answer, effects = receiver.machine.receive(sender.contact, ask.request, self.now)
        self.carry_out(receiver, effects)
        if receiver.liar is not None:
            answer = receiver.liar.answer(ask.request, answer)
        if answer is not None:
            self._send(partial(self._return, sender, ask.ticket, answer))

    def _return(self, sender: LabPeer, ticket: int, answer: DhtAnswer) -> None:
        if sender.alive:
            self.carry_out(sender, sender.machine.answered(ticket, answer, self.now))

    def _schedule(self, peer: LabPeer) -> None:
        due = peer.machine.wake_at
        if peer.wake_at is None or due < peer.wake_at:
            peer.wake_at = due
            self.at(max(0, due - self.now), partial(self._wake, peer, due))

    def _wake(self, peer: LabPeer, due: int) -> None:
        if not peer.alive or peer.wake_at != due:
            return
        peer.wake_at = None
        self.carry_out(peer, peer.machine.tick(self.now))

    def _verify_once(self, public_key: bytes, signature: bytes, message: bytes) -> bool:
        """A signature is verified once for all peers of this process."""
        what = (public_key, signature, message)
        if what not in self._verified:
            self._verified[what] = verify(*what)
        return self._verified[what]
