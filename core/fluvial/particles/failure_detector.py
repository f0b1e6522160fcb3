"""Suspects peers that have a particle, or are being handed one, and give no sign of life; the initiator is told while its flow waits.

A receipt says that a particle is durable at a peer, not that the peer goes on: its process may be stopped, hang, or be gone a moment later. So who
has handed a particle on asks from time to time whether the peer still answers, as long as the particle waits for it::

    state       a peer is                                          next
    ---------   -------------------------------------------------  ----------------------------------------------
    watched     handed something, a quarter of a second ago        asked, if something still waits for it
    asked       to answer a ping, itself or through its relay      answers: watched; no answer in time: suspected
    suspected   reported to the initiators of what waits for it    asked again, as before
    forgotten   nothing waits for it any more                      –

All particles share the pings of their peer: one a second at first, then with pauses of an eighth of the time since something was handed over.

A suspicion may be wrong, for a peer that is busy is as silent as one that hangs. So nothing but a notice follows from it: the connection stands, what
is under way goes on, and the transport decides when a connection is dead.

Source: T. D. Chandra, S. Toueg, *Unreliable Failure Detectors for Reliable Distributed Systems*, JACM 43 (1996).
"""

from __future__ import annotations

from typing import Final, Protocol

import anyio
import msgspec
from anyio.abc import TaskGroup

from fluvial.clock import Clock
from fluvial.fairness import Payer, PushOut
from fluvial.identity import PeerId
from fluvial.particle import Particle, ParticleKey
from fluvial.particles.life_signs import LifeSigns
from fluvial.particles.reporter import Reporter
from fluvial.waiting import Event, now_s, others_have_a_turn

FIRST_S: Final = 0.25
"""How long nothing is asked after something was handed over: most flows have gone on by then."""
CONNECTING_S: Final = 1.0
"""How long a connection may take before it is reported that there is none."""
AGAIN_S: Final = 1.0
AGAIN_PART: Final = 8
ASKED_MAX: Final = 128
"""Peers that are asked at the same time; of the others those that have been due for longest have the next turns."""
HANDED_MAX: Final = 2_048
"""Particles, each with a peer that has it or is being handed it; of more the oldest of whoever brought most is not watched any more."""
SUSPECTED_AT_ONCE: Final = 32
"""Particles in one turn of the loop: the notices of these take some milliseconds."""


class Awaiting(Protocol):
    """Who has the particles; the keeper."""

    def awaiting(self, key: ParticleKey, peer: PeerId) -> Particle | None:
        """A particle, if it is in memory and something in it waits for this peer. Quick."""
        ...


class _Handed(msgspec.Struct):
    """A particle that a peer has, or is being handed: whose share it uses, since when by the loop's clock, until when, and whether it is there."""

    payer: Payer
    since_s: float
    deadline_ms: int
    there: bool = False


class _WatchedPeer(msgspec.Struct, eq=False):
    """A peer, and what it was handed; the relay through which it was reached, if it was."""

    due_s: float
    handed: dict[ParticleKey, _Handed] = msgspec.field(default_factory=dict)
    handed_s: float = 0.0
    relay: PeerId | None = None
    asked: bool = False


class FailureDetector:
    """See the module's docstring.

    Args:
        signs: asks peers for signs of life.
        reporter: tells initiators.
        clock: the time.
    """

    def __init__(self, signs: LifeSigns, *, reporter: Reporter, clock: Clock) -> None:
        self._signs = signs
        self._reporter = reporter
        self._clock = clock
        self._peers: dict[PeerId, _WatchedPeer] = {}
        self._handed: Final = PushOut[tuple[PeerId, ParticleKey]](HANDED_MAX)
        self._asking = 0
        self._sooner = Event()
        self._particles: Awaiting | None = None
        self._tasks: TaskGroup | None = None

    def start(self, tasks: TaskGroup, particles: Awaiting) -> None:
        """Watch in ``tasks``."""
        self._tasks = tasks
        self._particles = particles
        tasks.start_soon(self._keep_time)

    def handing(self, key: ParticleKey, peer: PeerId, payer: Payer, *, deadline_ms: int) -> None:
        """A particle is being handed to a peer, which lives until a time in milliseconds since 1970."""
        now = now_s()
        if (watched := self._peers.get(peer)) is None:
            watched = self._peers[peer] = _WatchedPeer(now + FIRST_S)
            self._sooner.set()
        elif watched.due_s > now + AGAIN_S:
            watched.due_s = now + FIRST_S
            self._sooner.set()
        if key in watched.handed:
            self.not_handed(key, peer)
        watched.handed_s = now
        watched.handed[key] = _Handed(payer, now, deadline_ms)
        if (other := self._handed.put((peer, key), payer)) is not None:
            del self._peers[other[0]].handed[other[1]]

    def handed(self, key: ParticleKey, peer: PeerId, *, relay: PeerId | None) -> None:
        """The peer has it now."""
        if (watched := self._peers.get(peer)) is not None and (one := watched.handed.get(key)) is not None:
            watched.relay = relay
            one.there = True

    def not_handed(self, key: ParticleKey, peer: PeerId) -> None:
        """The peer did not take it, and what is to be said about that is said by others."""
        if (watched := self._peers.get(peer)) is not None and watched.handed.pop(key, None) is not None:
            self._handed.remove((peer, key))

    async def _keep_time(self) -> None:
        """Until cancelled: ask peers when it is time."""
        while True:
            self._sooner.clear()
            due_s = min((one.due_s for one in self._peers.values() if not one.asked), default=float("inf"))
            # Not at every hand-over: what begins meanwhile is due later than this.
            with anyio.move_on_after(max(due_s - now_s(), FIRST_S)):
                await self._sooner.wait()
                await anyio.sleep(FIRST_S)
            self._ask_those_due(now_s())

    def _ask_those_due(self, now: float) -> None:
        assert self._tasks is not None, "the detector was not started"
        due = [
            (watched.due_s, peer) for peer, watched in self._peers.items() if not watched.asked and watched.due_s <= now
        ]
        for _, peer in sorted(due):
            if self._asking >= ASKED_MAX:
                return
            watched = self._peers[peer]
            watched.due_s = now + max(AGAIN_S, (now - watched.handed_s) / AGAIN_PART)
            if self._is_awaited(peer, watched):
                watched.asked = True
                self._asking += 1
                self._tasks.start_soon(self._ask, peer, watched)
            elif not watched.handed:
                del self._peers[peer]

    def _is_awaited(self, peer: PeerId, watched: _WatchedPeer) -> bool:
        """Whether a particle waits for the peer. Those that were handed over last are looked at first; those that do not are forgotten."""
        now_ms = self._clock.now_ms()
        for key, one in reversed(tuple(watched.handed.items())):
            if self._awaiting(key, one, peer, now_ms) is not None:
                return True
            self.not_handed(key, peer)
        return False

    def _awaiting(self, key: ParticleKey, one: _Handed, peer: PeerId, now_ms: int) -> Particle | None:
        assert self._particles is not None, "the detector was not started"
        return self._particles.awaiting(key, peer) if one.deadline_ms > now_ms else None

    async def _ask(self, peer: PeerId, watched: _WatchedPeer) -> None:
        """The root of the task of one ping."""
        try:
            anything_there = any(one.there for one in watched.handed.values())
            why = await self._signs.missing(peer, relay=watched.relay, dial=anything_there)
        finally:
            watched.asked = False
            self._asking -= 1
            self._sooner.set()  # it is due at some time again
        if why:
            await self._suspect(peer, watched, why)

    async def _suspect(self, peer: PeerId, watched: _WatchedPeer, why: str) -> None:
        now, now_ms = now_s(), self._clock.now_ms()
        for number, (key, one) in enumerate(tuple(watched.handed.items()), 1):
            if number % SUSPECTED_AT_ONCE == 0:
                await others_have_a_turn()
            if watched.handed.get(key) is not one:
                continue
            if (particle := self._awaiting(key, one, peer, now_ms)) is None:
                self.not_handed(key, peer)
            elif one.there or now - one.since_s >= CONNECTING_S:
                self._reporter.suspected(particle, one.payer, peer, why, there=one.there)
