"""How much of this peer's disk an initiator may have, and how fast it may write; decides, and writes nothing.

Four rules, from the mildest to the strictest:

1. *Rate*. What an initiator's particles write is taken from a token bucket of its own. While the bucket is overdrawn, the door is closed to it:
   nothing of it is taken in. What is under way goes on.
2. *Share*. The door is closed as well to an initiator that has more bytes here than are free, times its weight. So one initiator alone
   can have half of the disk, two a third each, n each the (n+1)th part, and as much is always free for somebody who comes new. The heaviest are
   refused first, and what was removed by the purge opens the door again. No limit has to be chosen for this.
3. *Way*. Names are free: hundreds of initiators that one peer brings would leave next to nothing. So while less than half is free, the door is closed to what a
   peer brings that has lately brought more than is free, times its weight; to those whom it serves (its branches) of whom little came, only at twice what
   may be under way (rule 4): else what the others have under way would shut them out. And whoever has little here and came a way on which
   little was brought is let in whatever the others have. A part of the room is for these alone: the counters of what was brought fade, and
   what was brought may stay for longer, so others would have all of it in the end. A sender that has brought much has a part of that, too, for branches of
   which little came just now.
4. *Room*. What is under way, with all that is brought back of it, may go beyond rules 2 and 3 until there is ``UNDER_WAY`` times as much as is free; nobody may write more than
   there is room for. A particle with too large a journal is refused, too. Such a particle ends here.

Source of rules 2 and 3: A. K. Choudhury, E. L. Hahne, *Dynamic Queue Length Thresholds for Shared-Memory Packet Switches*, IEEE/ACM Transactions
on Networking 6 (1998); with α = 1, and 4 in rule 4.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Gauge

from fluvial.errors import Refused
from fluvial.fairness import Upstream
from fluvial.identity import PeerId
from fluvial.particle import Particle, ParticleKey
from fluvial.particles.brought import Brought
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
"""Initiators of which it is remembered what was written; who wrote nothing for the longest time is forgotten first."""
SHARE_RETRY_MS: Final = 2_000
SCARCE_PART: Final = 2
"""Less than this part free is little: then it counts as well by whom it came."""
LITTLE_PART: Final = 256
"""An initiator with no more than this part of the room has little."""
LITTLE_WAY_PART: Final = 400
"""A peer that brought no more than this part of the room just now has brought little,"""
RESERVED_PART: Final = 5
"""and this part of the room is for such peers alone:"""
OF_RESERVED_PART: Final = 20
"""each brings no more than this part of what is left of it, so something is left for the next,"""
RESERVED_JOURNAL_BYTES: Final = 16_384
"""and of particles with larger journals nothing."""
BRANCHES_PART: Final = 4
"""Of what is left of it, the branches of a sender that has brought more have this part, of which each has as much as a sender has of all."""
BRANCH_PART: Final = 16
"""A branch that brought no more than this part of what is free is let in though its peer has brought too much for the others."""


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
        self._brought = Brought(clock)
        used = Gauge("fluvial_disk_bytes", "Bytes of particles in the database, as they are counted", registry=metrics)
        used.set_function(lambda: self._account.total)
        Gauge("fluvial_disk_bytes_max", "The most of them", registry=metrics).set(self._room)

    def check(self, initiator: PeerId, upstream: Upstream) -> None:
        """Whether a new particle of an initiator is taken in now that comes this way.

        Raises:
            Refused: ``quota``, with the time after which it may be tried again.
        """
        self.check_rate(initiator)
        self._check_shares(initiator, upstream, times=1)

    def check_under_way(self, initiator: PeerId, upstream: Upstream) -> None:
        """As :meth:`check`, for what comes of a particle that is here, and was brought first this way: whoever brings it now need not have brought what is here."""
        self.check_rate(initiator)
        self._check_shares(initiator, upstream, times=UNDER_WAY)

    def check_rate(self, initiator: PeerId) -> None:
        """The first rule alone; raises as :meth:`check`."""
        if initiator == self._me:
            return
        parts = 1 + self._weight(initiator)
        rate = self._limits.initiator_bytes_per_s * parts
        if (debt := -self._left(initiator, parts)) > 0:
            raise _refused(
                f"{initiator} writes more to this peer's disk than the {rate} bytes a second that it may",
                retry_ms=math.ceil(debt / rate * 1000),
            )

    def _check_shares(self, initiator: PeerId, upstream: Upstream, *, times: int) -> None:
        if initiator == self._me:
            return
        if why := self._over(initiator, upstream, self._room - self._account.total, times=times):
            raise _refused(why, retry_ms=SHARE_RETRY_MS)

    def may_go_on(self, particle: Particle, upstream: Upstream, *, journal: int) -> bool:
        """Whether anything could be written about a particle now, whose journal has so many bytes; what has not been written is not known yet."""
        if journal > self._limits.particle_bytes_max:
            return False
        free = self._room - self._account.total
        if particle.initiator == self._me:
            return free >= 0
        return not self._over(particle.initiator, upstream, free, times=UNDER_WAY, journal=journal)

    def spend(self, particle: Particle, upstream: Upstream, size: int, *, journal: int) -> None:
        """Something is about to be written.

        Args:
            particle: about which particle.
            upstream: who brought it.
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
        if why := self._over(initiator, upstream, free, times=UNDER_WAY, more=size, journal=journal):
            raise _refused(why, retry_ms=SHARE_RETRY_MS)
        self._buckets[initiator] = self._left(initiator, 1 + self._weight(initiator)) - size, self._clock()
        self._buckets.move_to_end(initiator)
        if len(self._buckets) > BUCKETS_MAX:
            self._buckets.popitem(last=False)
        reserved = self._is_scarce(free) and self._branch_has_little(upstream, free, size)
        self._brought.wrote(particle.key, upstream, size, reserved=reserved)

    def removed(self, keys: Iterable[ParticleKey]) -> None:
        """These particles are not on the disk any more."""
        self._brought.removed(keys)

    def _over(
        self, initiator: PeerId, upstream: Upstream, free: int, *, times: int = 1, more: int = 0, journal: int = 0
    ) -> str:
        """Why an initiator has too much here, or why too much came this way, if ``more`` is written and so much is free then; nothing if that is not so.

        Args:
            initiator: of the particle.
            upstream: who brought it.
            free: bytes.
            times: how often what is free may be had.
            more: bytes.
            journal: bytes that the particle's journal has then.
        """
        has, little = self._account.of(initiator.public_key) + more, True
        if self._is_scarce(free):
            little = journal <= RESERVED_JOURNAL_BYTES and (
                self._sender_has_little(upstream, free, more) or self._branch_has_little(upstream, free, more)
            )
            if not little:
                free -= self._room // RESERVED_PART
                if why := self._brought_too_much(upstream, max(free, 0), times, more):
                    return why
                little = self._brought_by(upstream) + more <= times * max(free, 0)
        limit = times * max(free, 0)
        has_little = has * LITTLE_PART <= self._room and little
        if has > limit and not has_little and has > limit * (1 + self._weight(initiator)):
            return f"{initiator} has {has} bytes on this peer's disk, which is more than its share: {max(free, 0)} are free"
        return ""

    def _is_scarce(self, free: int) -> bool:
        return free * SCARCE_PART < self._room

    def _sender_has_little(self, upstream: Upstream, free: int, more: int) -> bool:
        """Whether the sender brought little just now, if ``more`` is written and so much is free then."""
        left = min(free, self._room // RESERVED_PART)
        return self._brought.just_now.of(upstream.sender) + more <= self._little_of(left)

    def _branch_has_little(self, upstream: Upstream, free: int, more: int) -> bool:
        """The same of a branch of a sender that has not."""
        if not upstream.branch or self._sender_has_little(upstream, free, more):
            return False
        left = min(free, self._room // RESERVED_PART) // BRANCHES_PART - self._brought.reserved.of(upstream.sender)
        return self._brought.just_now_by.of(upstream) + more <= self._little_of(left)

    def _little_of(self, left: float) -> float:
        """How much is little, of what is left for those who brought little."""
        return min(self._room // LITTLE_WAY_PART, max(left, 0) // OF_RESERVED_PART)

    def _brought_too_much(self, upstream: Upstream, free: int, times: int, more: int) -> str:
        """Why too much came this way, if ``more`` is written and so much is free then; nothing if that is not so. The rest is as in :meth:`_over`."""
        sender = upstream.sender
        of_sender = self._brought.lately.of(sender) + more
        part = free * (1 + self._weight(sender))
        of_little_branch = (self._brought_by(upstream) + more) * BRANCH_PART <= part
        if of_sender <= part * (2 * UNDER_WAY if of_little_branch else times):
            return ""
        return f"{sender} brought {of_sender:.0f} bytes to this peer's disk lately, and {free} are free for it"

    def _brought_by(self, upstream: Upstream) -> float:
        """Bytes brought lately by a sender's branch, or by the sender if it has not said which."""
        return self._brought.lately_by.of(upstream) if upstream.branch else self._brought.lately.of(upstream.sender)

    def _left(self, initiator: PeerId, parts: int) -> float:
        """What is in an initiator's bucket; less than nothing if it is overdrawn."""
        burst, now_s = self._limits.initiator_burst_bytes * parts, self._clock()
        left, then_s = self._buckets.get(initiator, (burst, now_s))
        return min(left + (now_s - then_s) * self._limits.initiator_bytes_per_s * parts, burst)


def _refused(message: str, *, retry_ms: int = 0) -> Refused:
    hint = f"try again in {retry_ms / 1000:g} s" if retry_ms else "see `[storage] particle_bytes_max` of that peer"
    return Refused(message, reason=REASON, hint=hint, retry_ms=retry_ms)
