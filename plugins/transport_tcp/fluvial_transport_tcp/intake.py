"""How many bytes of other peers' messages a node holds, and who waits when that is too much. No I/O; time is passed in.

Every frame is counted from the moment its header is read until its message has been handled. A connection may hold ``OWN_BYTES`` for
itself, so short messages never wait for anybody. What goes beyond that comes out of one budget of the node:

1. A frame takes its whole size before its body is read, so a frame that was begun can also be finished.
2. If there is not enough, its connection is not read any further and waits in line: answers that this node asked for first, then the
   higher rank, then whose connection needs less for all that it holds, then who came first. So what fits is not kept waiting by what does not.
3. Who waits displaces frames of lower ranks that are not complete: their connections are cut.
4. While somebody waits, a frame of the same rank that is not complete after ``FRAME_TURN_S`` is cut too, the slowest first; one that holds
   ``MUCH_MORE`` times as much as is waited for after ``LARGE_FRAME_TURN_S``: to say that a frame is long costs nothing.

A quarter of the budget is for answers only: requests that wait for answers of other peers can never use up the room for these. And the more a connection
would hold, the more must be left, as of :class:`~fluvial.fairness.SharedPlaces`: who wants ``n`` bytes gets them as long as the others have no more than
``budget / (1 + n / MUCH_BYTES)``. So those that hold megabytes for long leave room for those that want little.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from fluvial_transport_tcp.standing import Rank

OWN_BYTES: Final = 65_536
"""What each connection may hold besides: the longest frame that every peer takes."""
FRAME_TURN_S: Final = 5.0
"""How long a frame may take while others wait for its room."""
LARGE_FRAME_TURN_S: Final = 1.0
MUCH_MORE: Final = 4
LINE_MAX: Final = 64
"""Connections that wait; each holds what the socket had for it, up to half a megabyte."""
MUCH_BYTES: Final = 8_388_608
"""Who wants so many gets them while the others have less than half."""
CONNECTION_SHARE: Final = 8
"""One connection gets an eighth of the budget at most, or one frame if that is more."""


class IntakeHolder(Protocol):
    """The connection behind a share."""

    @property
    def rank(self) -> Rank:
        """Of its peer, now."""
        ...

    @property
    def incomplete(self) -> bool:
        """Whether it holds a frame of which not all has arrived."""
        ...

    def frame_s(self, now: float) -> float:
        """How long the frame that is not complete has been under way, in seconds."""
        ...

    def cut(self, reason: str, text: str) -> None:
        """Close it."""
        ...


class IntakeClaim:
    """A frame that waits for room; ``granted`` says whether it has it when ``on_turn`` is called."""

    __slots__ = ("frame_bytes", "granted", "on_turn", "share", "solicited")

    def __init__(self, share: IntakeShare, frame_bytes: int, solicited: bool, on_turn: Callable[[], None]) -> None:
        self.share = share
        self.frame_bytes = frame_bytes
        self.solicited = solicited
        self.granted = False
        self.on_turn = on_turn


class IntakeShare:
    """What one connection holds."""

    __slots__ = ("_held", "_intake", "_reserved", "holder")

    def __init__(self, intake: Intake, holder: IntakeHolder) -> None:
        self.holder = holder
        self._intake = intake
        self._held = 0
        self._reserved = 0

    @property
    def reserved(self) -> int:
        """Bytes of the node's budget that this connection uses."""
        return self._reserved

    def need(self, frame_bytes: int) -> int:
        """What would have to be reserved altogether to hold this frame too."""
        return max(self._reserved, self._held + frame_bytes - OWN_BYTES)

    def take(self, frame_bytes: int, *, solicited: bool) -> bool:
        """Make room for a frame; False if it must :meth:`queue`.

        Args:
            frame_bytes: size of the frame.
            solicited: whether this side has asked for it.
        """
        held = self._held + frame_bytes
        need = held - OWN_BYTES
        if need > self._reserved and not self._intake.reserve(self, need, solicited=solicited):
            return False
        self._held = held
        return True

    def queue(self, frame_bytes: int, *, solicited: bool, on_turn: Callable[[], None]) -> IntakeClaim:
        """Wait for what :meth:`take` did not give; ``on_turn`` is called when it was taken, perhaps at once."""
        claim = IntakeClaim(self, frame_bytes, solicited, on_turn)
        self._intake.enqueue(claim)
        return claim

    def withdraw(self, claim: IntakeClaim) -> None:
        """Leave the line, or give back what was granted meanwhile."""
        if claim.granted:
            self.give(claim.frame_bytes)
        else:
            self._intake.dequeue(claim)

    def overdraw(self, size: int) -> None:
        """Count ``size`` bytes that are there already; who comes next waits for them."""
        need = self.need(size)
        self._held += size
        if need > self._reserved:
            self._intake.set_reserved(self, need)

    def give(self, size: int) -> None:
        """Bytes are held no longer."""
        self._held -= size
        if self._reserved:
            self._intake.release(self, max(0, self._held - OWN_BYTES))

    def grant(self, claim: IntakeClaim) -> None:
        """For the intake: a claim of this share has had its turn."""
        self._held += claim.frame_bytes
        claim.granted = True
        claim.on_turn()

    def reserve(self, size: int) -> int:
        """For the intake: change what is reserved; by how much it grew."""
        grown = size - self._reserved
        self._reserved = size
        return grown


class Intake:
    """The budget of a node.

    Args:
        total: bytes, at least twice ``frame_bytes_max``.
        frame_bytes_max: the longest frame.
    """

    def __init__(self, total: int, *, frame_bytes_max: int) -> None:
        self._total: Final = total
        self._unsolicited: Final = max(total - total // 4, frame_bytes_max)
        self._each: Final = max(total // CONNECTION_SHARE, frame_bytes_max)
        self._used = 0
        self._holders: set[IntakeShare] = set()
        self._line: list[IntakeClaim] = []

    @property
    def used(self) -> int:
        """Bytes of the budget that are in use."""
        return self._used

    @property
    def waiting(self) -> int:
        """Connections that wait for room."""
        return len(self._line)

    def look(self, now: float) -> None:
        """Rules 3 and 4 for the first in line; call it every second or so."""
        claim = next((claim for claim in self._ordered() if not self._over_own_share(claim)), None)
        if claim is None:
            return
        slow = [share for share in self._holders if share.holder.incomplete and self._gives_way(share, claim, now)]
        slow.sort(key=lambda share: (share.holder.rank, -share.holder.frame_s(now)))
        self._cut(slow, claim)

    @staticmethod
    def _gives_way(share: IntakeShare, claim: IntakeClaim, now: float) -> bool:
        rank, other = share.holder.rank, claim.share.holder.rank
        if rank != other:
            return rank < other
        much = share.reserved > MUCH_MORE * claim.share.need(claim.frame_bytes)
        return share.holder.frame_s(now) >= (LARGE_FRAME_TURN_S if much else FRAME_TURN_S)

    # --- for the shares -----------------------------------------------------------------------------------------------

    def reserve(self, share: IntakeShare, size: int, *, solicited: bool) -> bool:
        """Let a share use ``size`` bytes of the budget altogether, if nobody waits and there is room."""
        if self._line or not self._fits(share, size, solicited) or (share.reserved and size > self._each):
            return False
        self.set_reserved(share, size)
        return True

    def set_reserved(self, share: IntakeShare, size: int) -> None:
        """Let a share use ``size`` bytes altogether, whatever is left."""
        self._used += share.reserve(size)
        if size:
            self._holders.add(share)
        else:
            self._holders.discard(share)

    def release(self, share: IntakeShare, size: int) -> None:
        """A share needs no more than ``size`` bytes now."""
        if size < share.reserved:
            self.set_reserved(share, size)
        if self._line:
            self._serve()

    def enqueue(self, claim: IntakeClaim) -> None:
        """Rules 2 and 3; if the line is too long, the last in it is cut."""
        self._line.append(claim)
        self._serve()
        if not claim.granted and not self._over_own_share(claim):
            rank = claim.share.holder.rank
            lower = [share for share in self._holders if share.holder.incomplete and share.holder.rank < rank]
            lower.sort(key=lambda share: (share.holder.rank, -share.reserved))
            self._cut(lower, claim)
        if len(self._line) > LINE_MAX:
            self._ordered()[-1].share.holder.cut("crowded", "too many messages wait for room here")

    def dequeue(self, claim: IntakeClaim) -> None:
        """Somebody does not wait any more."""
        if claim in self._line:
            self._line.remove(claim)
            self._serve()

    def _serve(self) -> None:
        for claim in self._ordered():
            if self._over_own_share(claim):
                continue  # waits for its own messages only
            size = claim.share.need(claim.frame_bytes)
            if not self._fits(claim.share, size, claim.solicited):
                return
            self._line.remove(claim)
            self.set_reserved(claim.share, size)
            claim.share.grant(claim)

    def _cut(self, shares: list[IntakeShare], claim: IntakeClaim) -> None:
        """Cut connections one after the other until there will be room for a claim."""
        size = claim.share.need(claim.frame_bytes)
        missing = self._used - claim.share.reserved - self._left_to_others(size, claim.solicited)
        for share in shares:
            if missing <= 0:
                return
            missing -= share.reserved
            share.holder.cut("crowded", "its unfinished message had to make room for another")

    def _ordered(self) -> list[IntakeClaim]:
        return sorted(
            self._line,
            key=lambda claim: (not claim.solicited, -claim.share.holder.rank, claim.share.need(claim.frame_bytes)),
        )

    def _over_own_share(self, claim: IntakeClaim) -> bool:
        return bool(claim.share.reserved) and claim.share.need(claim.frame_bytes) > self._each

    def _fits(self, share: IntakeShare, size: int, solicited: bool) -> bool:
        return self._used - share.reserved <= self._left_to_others(size, solicited)

    def _left_to_others(self, size: int, solicited: bool) -> int:
        """How much the others may have where one connection has ``size`` bytes."""
        limit = self._total if solicited else self._unsolicited
        return min(limit - size, limit * MUCH_BYTES // (MUCH_BYTES + size))
