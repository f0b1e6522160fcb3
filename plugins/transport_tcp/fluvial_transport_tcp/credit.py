"""A bounded amount that many tasks share: first come, first served. No I/O; who waits is told through a callback."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable


class CreditClosed(Exception):
    """There will be no more credit: what it was for has ended."""


class CreditClaim:
    """An amount that somebody waits for; ``granted`` says whether it was taken when ``on_turn`` is called."""

    __slots__ = ("amount", "granted", "on_turn")

    def __init__(self, amount: int, on_turn: Callable[[], None]) -> None:
        self.amount = amount
        self.granted = False
        self.on_turn = on_turn


class CreditWindow:
    """What may still be used; the rest is in use until it is given back.

    Args:
        total: what there is at first; who asks for more than that gets it when all of it is left.
    """

    __slots__ = ("_closed", "_left", "_line", "_total")

    def __init__(self, total: int) -> None:
        self._total = total
        self._left = total
        self._line: deque[CreditClaim] | None = None  # made when somebody waits; each connection has several windows
        self._closed = False

    def free(self, amount: int) -> bool:
        """Whether ``amount`` could be taken now without waiting."""
        return not self._line and self._enough(amount)

    def take(self, amount: int) -> bool:
        """Take ``amount`` if nobody has to wait for it; else nothing is taken.

        Raises:
            CreditClosed: :meth:`close` was called.
        """
        if self._closed:
            raise CreditClosed
        if self._line or (amount > self._left and self._left != self._total):
            return False
        self._left -= amount
        return True

    def queue(self, amount: int, on_turn: Callable[[], None]) -> CreditClaim:
        """Wait in line for what :meth:`take` did not give.

        Args:
            amount: how much.
            on_turn: called once, when the amount has been taken for the claim or will never be.
        """
        claim = CreditClaim(amount, on_turn)
        if self._line is None:
            self._line = deque()
        self._line.append(claim)
        return claim

    def withdraw(self, claim: CreditClaim) -> None:
        """Leave the line, or give back what was granted meanwhile."""
        if claim.granted:
            self.give(claim.amount)
        elif self._line and claim in self._line:
            self._line.remove(claim)
            self._serve()

    def overdraw(self, amount: int) -> None:
        """Take at once, whatever is left; for small things that must not wait."""
        self._left -= amount

    def give(self, amount: int) -> None:
        """Put back what was taken."""
        self._left += amount
        if self._line:
            self._serve()

    def close(self) -> None:
        """Refuse all who wait and all who will ask."""
        self._closed = True
        while self._line:
            self._line.popleft().on_turn()

    def _enough(self, amount: int) -> bool:
        return amount <= self._left or self._left == self._total

    def _serve(self) -> None:
        while self._line and self._enough(self._line[0].amount):
            claim = self._line.popleft()
            self._left -= claim.amount
            claim.granted = True
            claim.on_turn()
