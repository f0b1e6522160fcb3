"""How much of this peer's disk an initiator may have, and how fast it may write; decides, and writes nothing.

Three rules, from the mildest to the strictest:

1. *Rate*. What an initiator's particles write is taken from a token bucket of its own. While the bucket is overdrawn, the door is closed to it:
   nothing of it is taken in. What is under way goes on.
2. *Share*. The door is closed as well to an initiator that has more bytes here than are free, times its weight. So one initiator alone
   can have half of the disk, two a third each, n each the (n+1)th part, and as much is always free for somebody who comes new. The heaviest are
   refused first, and what was removed by the purge opens the door again. No limit has to be chosen for this.
3. *Room*. What is under way may go beyond the share until its initiator has ``UNDER_WAY`` times as much as is free; nobody may write more than
   there is room for. A particle with too large a journal is refused, too. Such a particle ends here.

Source of rule 2: A. K. Choudhury, E. L. Hahne, *Dynamic Queue Length Thresholds for Shared-Memory Packet Switches*, IEEE/ACM Transactions
on Networking 6 (1998); with α = 1, and 4 in rule 3.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from fluvial.errors import Refused
from fluvial.identity import PeerId
from fluvial.particle import Particle
from fluvial.particles.limits import DiskLimits
from fluvial.storage.account import DiskAccount

REASON: Final = "quota"
UNDER_WAY: Final = 4
LOG_BYTES_MAX: Final = 64 * 2**20
LOG_PART: Final = 8
"""Of the disk, the log of the database (SQLite's ``-wal``) has this part, but no more than ``LOG_BYTES_MAX``."""
KEPT_PART: Final = 3
"""What has ended never keeps more than this part, whatever the settings say: the rest is for what lives."""
BUCKETS_MAX: Final = 4_096
"""Initiators whose buckets are remembered; whoever wrote nothing for the longest time is forgotten first, and has a full one again."""
SHARE_RETRY_MS: Final = 2_000


def log_bytes(limits: DiskLimits) -> int:
    """How large the log of the database may be before it is cut; while it is, it may get twice as large."""
    return min(limits.bytes_max // (2 * LOG_PART), LOG_BYTES_MAX // 2)


def room_bytes(limits: DiskLimits) -> int:
    """What particles may take: all but the log."""
    return limits.bytes_max - 2 * log_bytes(limits)


def kept_bytes(limits: DiskLimits) -> int:
    """How much may be here before what has ended is removed."""
    return min(limits.keep_bytes_max, room_bytes(limits) // KEPT_PART)


class DiskQuota:
    """See the module's docstring.

    Args:
        account: whose bytes are whose.
        limits: what is allowed.
        me: this peer; its own particles are held to the room alone.
        weight: how much an initiator counts; it gets ``1 + weight`` parts.
        clock: seconds of a clock that never goes back.
        metrics: gets ``fluvial_disk_bytes`` and ``fluvial_disk_bytes_max``.
    """

    def __init__(
        self,
        account: DiskAccount,
        limits: DiskLimits,
        *,
        me: PeerId,
        weight: Callable[[PeerId], int],
        clock: Callable[[], float],
        metrics: CollectorRegistry,
    ) -> None:
        self._account = account
        self._limits = limits
        self._room = room_bytes(limits)
        self._me = me
        self._weight = weight
        self._clock = clock
        self._buckets: OrderedDict[PeerId, tuple[float, float]] = OrderedDict()  # bytes left, and at what time
        used = Gauge("fluvial_disk_bytes", "Bytes of particles in the database, as they are counted", registry=metrics)
        used.set_function(lambda: self._account.total)
        Gauge("fluvial_disk_bytes_max", "The most of them", registry=metrics).set(self._room)

    def check(self, initiator: PeerId) -> None:
        """Whether anything of an initiator is taken in now.

        Raises:
            Refused: ``quota``, with the time after which it may be tried again.
        """
        if initiator == self._me:
            return
        parts = 1 + self._weight(initiator)
        rate = self._limits.initiator_bytes_per_s * parts
        if (debt := -self._left(initiator, parts)) > 0:
            raise _refused(
                f"{initiator} writes more to this peer's disk than the {rate} bytes a second that it may",
                retry_ms=math.ceil(debt / rate * 1000),
            )
        has, free = self._has(initiator), self._room - self._account.total
        if has > parts * free:
            raise _refused(
                f"{initiator} has {has} bytes on this peer's disk, which is more than its share: {max(free, 0)} are free",
                retry_ms=SHARE_RETRY_MS,
            )

    def may_go_on(self, particle: Particle, *, journal: int) -> bool:
        """Whether anything could be written about a particle now, whose journal has so many bytes; what has not been written is not known yet."""
        if journal > self._limits.particle_bytes_max:
            return False
        free = self._room - self._account.total
        if particle.initiator == self._me:
            return free >= 0
        return self._has(particle.initiator) <= UNDER_WAY * (1 + self._weight(particle.initiator)) * free

    def spend(self, particle: Particle, size: int, *, journal: int) -> None:
        """Something is about to be written.

        Args:
            particle: about which particle.
            size: its bytes in the account.
            journal: bytes that the particle's journal will have then.

        Raises:
            Refused: ``quota``, there is no room for it; it must not be written.
        """
        initiator = particle.initiator
        if journal > (most := self._limits.particle_bytes_max):
            raise _refused(f"the particle's journal here would have {journal} bytes, {most} are allowed")
        free = self._room - self._account.total - size
        if free < 0:
            raise _refused("this peer's disk is full", retry_ms=SHARE_RETRY_MS)
        if initiator == self._me:
            return
        parts, has = 1 + self._weight(initiator), self._has(initiator) + size
        if has > UNDER_WAY * parts * free:
            raise _refused(
                f"{initiator} would have {has} bytes on this peer's disk, of which only {free} would be free",
                retry_ms=SHARE_RETRY_MS,
            )
        left = self._left(initiator, parts)
        self._buckets.pop(initiator, None)
        self._buckets[initiator] = (left - size, self._clock())
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)

    def _has(self, initiator: PeerId) -> int:
        return self._account.of(initiator.public_key)

    def _left(self, initiator: PeerId, parts: int) -> float:
        """What is in an initiator's bucket; less than nothing if it is overdrawn."""
        burst, now_s = self._limits.initiator_burst_bytes * parts, self._clock()
        left, then_s = self._buckets.get(initiator, (burst, now_s))
        return min(left + (now_s - then_s) * self._limits.initiator_bytes_per_s * parts, burst)


def _refused(message: str, *, retry_ms: int = 0) -> Refused:
    hint = f"try again in {retry_ms / 1000:g} s" if retry_ms else "see `[storage] particle_bytes_max` of that peer"
    return Refused(message, reason=REASON, hint=hint, retry_ms=retry_ms)
