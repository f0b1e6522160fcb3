"""A follower's transaction on its way to validators: to as many that one of them is correct, and to others in place of those that are slow or do not take it.

What fewer validators say than may lie is believed by nobody: one that drops a transaction, refuses it or hangs keeps it from no block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import anyio

from fluvial.errors import FluvialError, Refused
from fluvial.hosting.offer_lines import OfferLines
from fluvial.identity import PeerId
from fluvial.ledger.statements import ValidatorSet

PATIENCE_S: Final = 0.5
"""After so long without an answer one more validator is asked."""
QUIET_MAX: Final = 2
"""After so many times as long without one those that have taken it are enough: the others have it as well, or nobody can reach them."""


class HandingOver:
    """One transaction.

    Args:
        lines: lead to the validators.
        validators: of the epoch; powers are counted, not validators.
    """

    def __init__(self, lines: OfferLines, validators: ValidatorSet) -> None:
        self._lines, self._validators = lines, validators
        self._open = 0
        self._hopeful = 0  # of those that have taken it, or still may
        self._taken = self._refused = 0
        self._reasons: list[str] = []
        self._busy: Refused | None = None
        self._news = anyio.Event()

    async def run(self, transaction: bytes, order: Sequence[PeerId]) -> None:
        """Hand a transaction over.

        Args:
            transaction: its bytes.
            order: validators, in the order in which they are asked.

        Raises:
            Refused: they do not take it, or none can be reached, or too many are on their way.
        """
        left, quiet = list(reversed(order)), 0
        async with anyio.create_task_group() as tasks:
            while not self._is_settled and (left or self._open):
                if not (self._is_short and left):
                    if await self._hears_in_time():
                        quiet = 0
                        continue
                    quiet += 1
                    if self._taken and quiet >= QUIET_MAX:
                        break
                if left:
                    self._open += 1
                    self._hopeful += self._power(left[-1])
                    tasks.start_soon(self._ask, left.pop(), transaction)
            tasks.cancel_scope.cancel()
        if self._taken:
            return
        if self._reasons:
            raise Refused(f"a validator does not take this transaction: {self._reasons[0]}", reason="transaction")
        if self._busy is not None:
            raise self._busy
        raise Refused("no validator can be reached", reason="unreachable", hint="try again later")

    @property
    def _is_settled(self) -> bool:
        """Whether one that is correct has taken it, or refused it."""
        most = self._validators.faulty_max
        return self._taken > most or (self._refused > most and not self._taken)

    @property
    def _is_short(self) -> bool:
        """Whether too few are asked."""
        return self._hopeful <= self._validators.faulty_max

    async def _hears_in_time(self) -> bool:
        with anyio.move_on_after(PATIENCE_S):
            await self._news.wait()
        heard, self._news = self._news.is_set(), anyio.Event()
        return heard

    async def _ask(self, peer: PeerId, transaction: bytes) -> None:
        power = self._power(peer)
        try:
            reason = await self._lines.offer(peer, transaction)
        except FluvialError as error:
            if isinstance(error, Refused):
                self._busy = error
            self._hopeful -= power
        else:
            if reason:
                self._reasons.append(reason)
                self._refused += power
                self._hopeful -= power
            else:
                self._taken += power
        self._open -= 1
        self._news.set()

    def _power(self, peer: PeerId) -> int:
        index = self._validators.index(peer)
        return 0 if index is None else self._validators.members[index].power
