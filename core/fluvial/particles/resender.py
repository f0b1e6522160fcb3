"""Decides when a particle's promises are looked at, so that it arrives where other peers have promised to send it.

There is one list for all particles, and a sweep goes through it. A particle that relies on no promise is not in it, and one that is at work is not waited for. The list
is in memory only: what was sent instead of others, and how often, stands in the particles' journals; a particle that is restored comes
back into the list with its next run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

import anyio
import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter

from fluvial.clock import Clock
from fluvial.errors import DamagedParticle, Refused, StorageError
from fluvial.particle import Particle, ParticleKey
from fluvial.particles.memory import MEMORY
from fluvial.particles.promises import Look

SWEEP_S: Final = 1.0
"""How often promises are looked at."""
WATCHED_MAX: Final = 50_000
"""Particles in the list; further ones rely on promises for ever."""
LOOKS_MAX: Final = 64
"""Particles that are looked at in one sweep; the others wait for the next one."""
RESENDS_AT_ONCE_MAX: Final = 32
"""Deliveries that one sweep asks for, all particles together; the others wait for the next one."""


class Resendable(Protocol):
    """A particle that can be sent again; the actor is one."""

    @property
    def particle(self) -> Particle:
        """Which particle."""
        ...

    async def resend(self, *, after_ms: int, room: int) -> Look:
        """Send it to at most ``room`` peers whose promises are older than ``after_ms``; see ``Actor.resend``."""
        ...


Find: TypeAlias = Callable[[ParticleKey], Awaitable[Resendable | None]]
"""Finds a particle; None if it is gone."""


class _Watched(msgspec.Struct, frozen=True):
    """When to look at a particle, and when it dies; milliseconds since 1970."""

    look_ms: int
    deadline_ms: int


class Resender:
    """See the module's docstring.

    Args:
        after_ms: how long a promise is relied on, in milliseconds; 0 for ever.
        clock: the time.
        metrics: gets ``fluvial_resends_total``.
        log: a logger bound to the peer.
    """

    def __init__(
        self, *, after_ms: int, clock: Clock, metrics: CollectorRegistry, log: structlog.stdlib.BoundLogger
    ) -> None:
        self._after_ms = after_ms
        self._clock = clock
        self._log = log
        self._watched: dict[ParticleKey, _Watched] = {}
        self._resends = Counter(
            "fluvial_resends", "Deliveries in place of another peer that had promised them", registry=metrics
        )

    def watch(self, particle: Particle, since_ms: int | None) -> None:
        """Look at a particle when the time is over that the promises which came with it so far are given.

        Args:
            particle: which.
            since_ms: when the last of what this peer has not handed on came, milliseconds since 1970; None if it relies on no promise.
        """
        if since_ms is None:
            self._watched.pop(particle.key, None)
        elif self._after_ms and particle.key not in self._watched and len(self._watched) < WATCHED_MAX:
            self._put(particle.key, since_ms + self._after_ms, particle.deadline_ms)

    def _put(self, key: ParticleKey, look_ms: int, deadline_ms: int) -> None:
        if look_ms < deadline_ms:
            self._watched[key] = _Watched(look_ms, deadline_ms)

    async def run(self, find: Find) -> None:
        """Until cancelled: look at the particles that are due. A failing store is logged, and they are looked at again later."""
        while True:
            await anyio.sleep(SWEEP_S)
            try:
                await self.sweep(find)
            except StorageError as error:
                self._log.error("storage_failed", error=error.message)

    async def sweep(self, find: Find) -> None:
        """Look at the particles that are due.

        Raises:
            StorageError: the store failed; the particle is looked at again later.
        """
        now_ms, room = self._clock.now_ms(), RESENDS_AT_ONCE_MAX
        due = [(key, watched) for key, watched in self._watched.items() if watched.look_ms <= now_ms]
        for key, watched in due[:LOOKS_MAX]:
            if room == 0:
                return
            self._watched.pop(key, None)
            if watched.deadline_ms > now_ms:
                room -= await self._look(key, watched, find, room)

    async def _look(self, key: ParticleKey, watched: _Watched, find: Find, room: int) -> int:
        """Look at one particle; how many deliveries were asked for."""
        try:
            actor = await find(key)
            if actor is None:
                return 0
            look = await actor.resend(after_ms=self._after_ms, room=room)
        except StorageError:
            self._put(key, self._clock.now_ms() + self._after_ms, watched.deadline_ms)
            raise
        except Refused as error:
            self._log.debug("resend_put_off", key=key.hex(), reason=error.reason, error=error.message)
            # For want of room with the next sweep, behind the others; what is broken will be so then, too.
            pause_ms = 0 if error.reason in ("busy", MEMORY) else self._after_ms
            self._put(key, self._clock.now_ms() + pause_ms, watched.deadline_ms)
            return 0
        except DamagedParticle as error:
            self._log.warning("particle_not_resumed", key=key.hex(), error=error.message)
            return 0
        if look.again_ms is not None:
            self._put(key, look.again_ms, watched.deadline_ms)
        for promise in look.broken:
            self._resends.inc()
            self._log.info(
                "particle_resent",
                particle=actor.particle.id,
                to=promise.peer,
                promised_by=promise.signer,
                after_ms=self._clock.now_ms() - promise.since_ms,
            )
        return len(look.broken)
