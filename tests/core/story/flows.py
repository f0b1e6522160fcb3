"""Flows for stories: real keys, machines, signatures and journals on a clock that only the flow moves; no sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fluvial.air.data.batch import Known
from fluvial.air.data.log import encode_record
from fluvial.air.data.wire import decode_data, encode_data
from fluvial.air.machine.errors import AirError
from fluvial.air.machine.machine import Answered, CallOutcome, Effects, Failed, Machine
from fluvial.air.syntax import parse
from fluvial.encoding import encode
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Particle
from fluvial.particles.journal import ARRIVED, NOTICED, RESENT, Arrival, Resent, kind_of
from fluvial.particles.notice import SignedNotice, encode_notice, make_notice
from fluvial.simulation.scenario import Names
from fluvial.storage import JournalEntry, OutboxRow, ParticleState, StoredParticle
from fluvial.story.story import Story, tell

BEGAN_MS = 1_700_000_000_000
HANDOVER_MS = 11
CALL_MS = 4
DELIVERIES_MAX = 500

Service = Callable[[str, Sequence[Any]], Any]
"""From the name of the peer and the arguments to a value or a ``Failed``."""


@dataclass(slots=True)
class Peer:
    """One peer: its machine, what its store would hold."""

    name: str
    machine: Machine
    received_at_ms: int
    sender: PeerId
    hops: int
    journal: list[JournalEntry] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)
    finished: bool = False


class Flow:
    """Plays a script from its first peer on until nothing moves.

    Args:
        script: AIR; ``"@name"`` stands for the id of that peer.
        peers: names; the first one is the initiator.
        services: by ``service.function``; unknown ones fail.
        absent: peers that cannot be reached.
        silent: ``service.function`` that never answer.
    """

    def __init__(
        self,
        script: str,
        *,
        peers: Sequence[str],
        services: Mapping[str, Service | object] | None = None,
        absent: Sequence[str] = (),
        silent: Sequence[str] = (),
        particle_id: str = "8f1c2d3e-story",
        ttl_ms: int = 30_000,
    ) -> None:
        self._names = Names(peers)
        self._services = services or {}
        self._absent, self._silent = absent, silent
        self._now_ms = BEGAN_MS
        self.particle = Particle.create(
            self._names.keys[peers[0]],
            self._names.script_to_ids(script),
            particle_id=particle_id,
            timestamp_ms=BEGAN_MS,
            ttl_ms=ttl_ms,
            max_hops=50,
            network="test",
        )
        self._peers: dict[str, Peer] = {}
        self._queue: list[tuple[str, str, int, bytes]] = []
        initiator = self._peer(peers[0], self.particle.initiator, 0)
        self._run(initiator, Known((), {}), None)
        for _ in range(DELIVERIES_MAX):
            if not self._queue:
                break
            self._deliver(*self._queue.pop(0))

    @property
    def names(self) -> dict[str, str]:
        """Names by peer id."""
        return {str(key.peer_id): name for name, key in self._names.keys.items()}

    @property
    def met(self) -> list[str]:
        """The names of the peers that have the particle, in the order of appearance."""
        return list(self._peers)

    def key(self, name: str) -> KeyPair:
        """A peer's key."""
        return self._names.keys[name]

    def notice(self, name: str, message: str, *, error: AirError | None = None) -> None:
        """A peer tells the initiator that it cannot go on."""
        self._now_ms += HANDOVER_MS
        keys, first = self.key(name), next(iter(self._peers.values()))
        said = make_notice(self.particle.key, keys.peer_id, "failed", message, at_ms=self._now_ms, error=error)
        self._write(first, NOTICED, encode_notice(SignedNotice.sign(self.particle.initiator, said, keys)))

    def resend(self, name: str, to: str, node: int) -> None:
        """A peer sends the particle to another one in place of a third that had promised it for this instruction."""
        self._now_ms += HANDOVER_MS
        self._write(self._peers[name], RESENT, encode(Resent(self.key(to).public_key, b"", node)))

    def stored(self, name: str) -> StoredParticle:
        """What a peer's store holds."""
        peer = self._peers[name]
        return StoredParticle(
            particle=self.particle,
            sender=peer.sender,
            hops=peer.hops,
            received_at_ms=peer.received_at_ms,
            state=ParticleState.FINISHED if peer.finished else ParticleState.LIVE,
            journal=tuple(peer.journal),
            outbox=tuple(
                OutboxRow(
                    key=self.particle.key,
                    peer=self.key(to).peer_id,
                    version=1,
                    since_ms=self._now_ms,
                    attempts=3,
                    last_error=error,
                    deadline_ms=self.particle.deadline_ms,
                )
                for to, error in peer.waiting.items()
            ),
        )

    def story(self, name: str) -> Story:
        """The story as one peer tells it."""
        return tell(self.stored(name), self.key(name).peer_id)

    # --- playing

    def _peer(self, name: str, sender: PeerId, hops: int) -> Peer:
        if name not in self._peers:
            header = self.particle.header
            machine = Machine(
                parse(self.particle.script),
                self.particle.key,
                self.key(name).peer_id,
                initiator=self.particle.initiator,
                timestamp_ms=header.timestamp_ms,
                ttl_ms=header.ttl_ms,
            )
            self._peers[name] = Peer(name, machine, self._now_ms, sender, hops)
        return self._peers[name]

    def _deliver(self, sender: str, to: str, hops: int, data: bytes) -> None:
        self._now_ms += HANDOVER_MS
        keys = self.key(sender)
        peer = self._peer(to, keys.peer_id, hops)
        peer.hops = max(peer.hops, hops)
        self._run(peer, decode_data(self.particle.key, data), Arrival(keys.public_key, hops))

    def _run(self, peer: Peer, known: Known, arrival: Arrival | None) -> None:
        effects = peer.machine.merge(known)
        self._commit(peer, effects, arrival)
        while requests := [one for one in effects.requests if f"{one.service}.{one.function}" not in self._silent]:
            self._now_ms += CALL_MS
            effects = peer.machine.resolve(
                {one.instance: self._answer(peer, f"{one.service}.{one.function}", one.arguments) for one in requests}
            )
            self._commit(peer, effects, None)

    def _answer(self, peer: Peer, name: str, arguments: Sequence[Any]) -> CallOutcome:
        if name not in self._services:
            return Failed(1, f'"there is no service {name}"')
        service = self._services[name]
        value = service(peer.name, arguments) if callable(service) else service
        return value if isinstance(value, Failed) else Answered(self._names.to_ids(value))

    def _commit(self, peer: Peer, effects: Effects, arrival: Arrival | None) -> None:
        if effects.records and arrival is not None:
            self._write(peer, ARRIVED, encode(arrival))
        for record in effects.records:
            self._write(peer, kind_of(record), encode_record(record))
        peer.finished = effects.finished
        if not effects.next_peers:
            return
        if (sealed := peer.machine.seal(self.key(peer.name).sign)) is not None:
            self._write(peer, kind_of(sealed), encode_record(sealed))
        data = encode_data(peer.machine.batches(), peer.machine.contents())
        for to in effects.next_peers:
            name = self._names.name(to)
            assert name is not None, f"the script goes to {to!r}, which is no peer of the test"
            if name in self._absent:
                peer.waiting[name] = "no address answers: connection refused"
            else:
                self._queue.append((peer.name, name, peer.hops + 1, data))

    def _write(self, peer: Peer, kind: str, payload: bytes) -> None:
        peer.journal.append(JournalEntry(len(peer.journal), self._now_ms, kind, payload))
