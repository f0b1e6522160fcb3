"""Flows for stories: real keys, sessions, signatures and journals on a clock that only the flow moves; no sockets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fluvial.air.data.wire import decode_data, encode_data
from fluvial.air.machine.errors import AirError
from fluvial.air.machine.machine import Effects
from fluvial.air.machine.outcomes import Answered, CallOutcome, Failed
from fluvial.air.syntax import parse
from fluvial.fairness import Upstream
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Particle
from fluvial.particles.journal import JournalItem, Resent, write_entry
from fluvial.particles.notice import SignedNotice, make_notice
from fluvial.particles.session import ParticleSession
from fluvial.simulation.scenario import PeerNames
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
    """One peer: its session, what its store would hold."""

    name: str
    session: ParticleSession
    received_at_ms: int
    journal: list[JournalEntry] = field(default_factory=list)
    waiting: dict[str, str] = field(default_factory=dict)


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
        self._names = PeerNames(peers)
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
        self._run(initiator, initiator.session.begin())
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
        self._write(first, SignedNotice.sign(self.particle.initiator, said, keys))

    def resend(self, name: str, to: str, node: int) -> None:
        """A peer sends the particle to another one in place of a third that had promised it for this instruction."""
        self._now_ms += HANDOVER_MS
        self._write(self._peers[name], Resent(self.key(to).public_key, b"", node))

    def stored(self, name: str) -> StoredParticle:
        """What a peer's store holds."""
        peer = self._peers[name]
        return StoredParticle(
            particle=self.particle,
            sender=peer.session.upstream.sender,
            hops=peer.session.hops,
            received_at_ms=peer.received_at_ms,
            state=ParticleState.FINISHED if peer.session.finished else ParticleState.LIVE,
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
                    initiator=self.particle.initiator,
                    sender=peer.session.upstream.sender,
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
            me, script = self.key(name).peer_id, parse(self.particle.script)
            session = ParticleSession.new(self.particle, script, me, upstream=Upstream(sender), hops=hops)
            self._peers[name] = Peer(name, session, self._now_ms)
        return self._peers[name]

    def _deliver(self, sender: str, to: str, hops: int, data: bytes) -> None:
        self._now_ms += HANDOVER_MS
        by = self.key(sender).peer_id
        peer = self._peer(to, by, hops)
        self._run(peer, peer.session.merge(decode_data(self.particle.key, data), upstream=Upstream(by), hops=hops))

    def _run(self, peer: Peer, effects: Effects) -> None:
        self._commit(peer)
        while requests := [one for one in effects.requests if f"{one.service}.{one.function}" not in self._silent]:
            self._now_ms += CALL_MS
            effects = peer.session.resolve(
                {one.instance: self._answer(peer, f"{one.service}.{one.function}", one.arguments) for one in requests}
            )
            self._commit(peer)

    def _answer(self, peer: Peer, name: str, arguments: Sequence[Any]) -> CallOutcome:
        if name not in self._services:
            return Failed(1, f'"there is no service {name}"')
        service = self._services[name]
        value = service(peer.name, arguments) if callable(service) else service
        return value if isinstance(value, Failed) else Answered(self._names.to_ids(value))

    def _commit(self, peer: Peer) -> None:
        writes = peer.session.commit(self._now_ms, self.key(peer.name).sign)
        peer.journal += writes.entries()
        peer.session.durable(writes)
        known = peer.session.known
        data = encode_data(known.batches, known.contents)
        for to in writes.peers:
            name = self._names.name(to)
            assert name is not None, f"the script goes to {to!r}, which is no peer of the test"
            if name in self._absent:
                peer.waiting[name] = "no address answers: connection refused"
            else:
                self._queue.append((peer.name, name, peer.session.hops + 1, data))

    def _write(self, peer: Peer, item: JournalItem) -> None:
        peer.journal.append(write_entry(item, len(peer.journal), self._now_ms))
