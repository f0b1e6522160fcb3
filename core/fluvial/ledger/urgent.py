"""The lane of what must not wait: evidence and revocations. No payment can take its room, neither in the pool nor in a block.

Evidence is bounded by the number of validators. Revocations cost a fee; of each payer only a few wait, each payer has its turn, and when the lane is full, the
lowest fee goes.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from fluvial.errors import Refused
from fluvial.ledger.execution import refusal
from fluvial.ledger.genesis import ACCOUNTS, Account
from fluvial.ledger.revocations import REVOCATIONS, read_revocation
from fluvial.ledger.state import Changes, State
from fluvial.ledger.transactions import CarryRevocation, ReportOffence, UrgentTransaction, transaction_id

REVOCATIONS_MAX: Final = 1_000
PER_PAYER_MAX: Final = 16


class NoRoom(Refused):
    """A transaction might be taken later: what waits here leaves no room for it now."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message, reason="transaction", hint=hint)


@dataclass(frozen=True, slots=True)
class WaitingRevocation:
    """A revocation that waits.

    Attributes:
        key: the pair that it revokes.
        payer: who pays.
        fee_max: how much at most.
        valid_until: the last height at which it may be executed.
        transaction: its bytes.
    """

    key: bytes
    payer: bytes
    fee_max: int
    valid_until: int
    transaction: bytes


class UrgentLane:
    """What is urgent and waits at one peer.

    Args:
        chain: id of the ledger.
    """

    def __init__(self, chain: bytes) -> None:
        self._chain = chain
        self._offences: dict[bytes, bytes] = {}
        self._revocations: dict[tuple[bytes, bytes], WaitingRevocation] = {}

    def __len__(self) -> int:
        return len(self._offences) + len(self._revocations)

    def holds(self, transaction: bytes) -> bool:
        """Whether these very bytes wait here."""
        revocations = (one.transaction for one in self._revocations.values())
        return transaction in self._offences.values() or transaction in revocations

    def add(self, one: UrgentTransaction, transaction: bytes) -> None:
        """Let a transaction wait that the ledger would take now.

        Raises:
            NoRoom: there is no room for it.
        """
        if isinstance(one, ReportOffence):
            self._offences.setdefault(one.evidence.offender, transaction)
            return
        # Of several payers each may carry a revocation: one who cannot pay in the end must not stop the others.
        pair = read_revocation(one.revocation).key
        waiting = WaitingRevocation(pair, one.payer, one.fee_max, one.valid_until, transaction)
        known = self._revocations.get((pair, one.payer))
        if known is None:
            self._make_room(one)
        elif known.fee_max >= one.fee_max:
            return
        self._revocations[pair, one.payer] = waiting

    def take(self, *, bytes_max: int, count_max: int, without: Container[bytes] = ()) -> Sequence[bytes]:
        """Transactions for a block: offences, then revocations, in turns one of each payer.

        Args:
            bytes_max: of all of them, with 8 bytes for each.
            count_max: how many.
            without: ids that must not be taken.
        """
        taken: list[bytes] = []
        room = bytes_max
        for transaction in self._in_turns():
            if len(taken) >= count_max or len(transaction) + 8 > room:
                break
            if transaction_id(transaction) not in without:
                taken.append(transaction)
                room -= len(transaction) + 8
        return taken

    def forget(self, state: State, height: int, fee_per_byte: int) -> None:
        """Drop what the ledger knows by now, or can never take.

        Args:
            state: the newest.
            height: of the next block.
            fee_per_byte: in this state.
        """
        for offender, transaction in list(self._offences.items()):
            if refusal(state, transaction, chain=self._chain, height=height):
                del self._offences[offender]
        for name, one in list(self._revocations.items()):
            account = Changes(state).read(ACCOUNTS, one.payer, Account) or Account()
            fee = len(one.transaction) * fee_per_byte
            payable = fee <= one.fee_max and fee <= account.balance and height <= one.valid_until
            if not payable or (
                state.get(REVOCATIONS, one.key) is not None
                and refusal(state, one.transaction, chain=self._chain, height=height)
            ):
                del self._revocations[name]

    def _in_turns(self) -> Iterator[bytes]:
        yield from self._offences.values()
        payers: dict[bytes, list[WaitingRevocation]] = {}
        for one in self._revocations.values():
            payers.setdefault(one.payer, []).append(one)
        turns = [sorted(mine, key=lambda one: -one.fee_max) for mine in payers.values()]
        for turn in range(PER_PAYER_MAX):
            yield from (mine[turn].transaction for mine in turns if turn < len(mine))

    def _make_room(self, one: CarryRevocation) -> None:
        if sum(other.payer == one.payer for other in self._revocations.values()) >= PER_PAYER_MAX:
            raise NoRoom("too many revocations of this payer are waiting")
        if len(self._revocations) < REVOCATIONS_MAX:
            return
        name, lowest = min(self._revocations.items(), key=lambda item: item[1].fee_max)
        if lowest.fee_max >= one.fee_max:
            raise NoRoom("too many revocations are waiting", hint="offer a higher fee")
        del self._revocations[name]
