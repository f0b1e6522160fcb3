"""Transactions that wait for a block: bounded in bytes, in number and for each sender; the lowest fee goes first when there is no room.

Evidence and revocations wait in a lane of their own (``urgent.py``).
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Final

from fluvial.errors import Refused
from fluvial.ledger.execution import parameters_of, refusal
from fluvial.ledger.genesis import ACCOUNTS, Account
from fluvial.ledger.state import Changes, State
from fluvial.ledger.transactions import SignedTransaction, parse, transaction_id
from fluvial.ledger.urgent import UrgentLane

WAITING_MAX: Final = 10_000
WAITING_BYTES_MAX: Final = 32 << 20
PER_SENDER_MAX: Final = 64
AHEAD_MAX: Final = 64
"""How far a nonce may lie in the future."""


class TransactionPool:
    """What waits at one peer.

    Args:
        chain: id of the ledger.
        per_sender: transactions of one key that may wait.
        newest_first: whether the keys that came last have the first turn.
    """

    def __init__(self, chain: bytes, *, per_sender: int = PER_SENDER_MAX, newest_first: bool = False) -> None:
        self._chain = chain
        self._newest_first = newest_first
        self._per_sender = per_sender
        self._waiting: dict[bytes, dict[int, bytes]] = {}
        self._urgent = UrgentLane(chain)
        self._bytes = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count + len(self._urgent)

    def add(self, transaction: bytes, state: State, height: int) -> None:
        """Let a transaction wait.

        Args:
            transaction: its bytes.
            state: the newest.
            height: of the next block.

        Raises:
            Refused: it can never be executed, or there is no room for it.
        """
        if reason := refusal(state, transaction, chain=self._chain, height=height):
            raise Refused(f"the ledger does not take this transaction: {reason}", reason="transaction")
        one = parse(transaction)
        if not isinstance(one, SignedTransaction):
            self._urgent.add(one, transaction)
            return
        mine = self._waiting.setdefault(one.sender, {})
        if one.nonce in mine:
            if mine[one.nonce] == transaction:
                return
            raise Refused("another transaction with this nonce waits already", reason="transaction")
        account = _account(state, one.sender)
        if len(mine) >= self._per_sender or one.nonce - account.nonce > AHEAD_MAX + self._per_sender:
            self._tidy(one.sender)
            raise Refused("too many transactions of this key are waiting", reason="transaction")
        if self._count >= WAITING_MAX or self._bytes + len(transaction) > WAITING_BYTES_MAX:
            self._tidy(one.sender)
            self._make_room(one.fee_max, len(transaction))
            mine = self._waiting.setdefault(one.sender, {})
        mine[one.nonce] = transaction
        self._bytes += len(transaction)
        self._count += 1

    def report(self, transaction: bytes, state: State) -> None:
        """Let evidence wait that this peer has found itself, unless the ledger has it already."""
        if not refusal(state, transaction, chain=self._chain, height=0):
            one = parse(transaction)
            assert not isinstance(one, SignedTransaction), "it is a report"
            self._urgent.add(one, transaction)

    def take(self, state: State, *, bytes_max: int, count_max: int, without: Container[bytes] = ()) -> Sequence[bytes]:
        """Transactions for a block: what is urgent, at most a half of it; then in turns one of each sender with consecutive nonces.

        Args:
            state: on which they will be executed.
            bytes_max: of the block.
            count_max: of the block.
            without: ids that must not be taken, while what follows them may.
        """
        taken = list(self._urgent.take(bytes_max=bytes_max // 2, count_max=(count_max + 1) // 2, without=without))
        room = bytes_max - sum(len(one) + 8 for one in taken)
        turns = [(mine, _account(state, sender).nonce) for sender, mine in self._waiting.items()]
        if self._newest_first:
            turns.reverse()
        while turns and len(taken) < count_max:
            again = []
            for mine, nonce in turns:
                transaction = mine.get(nonce)
                if transaction is None:
                    continue
                if transaction_id(transaction) not in without:
                    if len(taken) >= count_max or len(transaction) + 8 > room:
                        return taken
                    taken.append(transaction)
                    room -= len(transaction) + 8
                again.append((mine, nonce + 1))
            turns = again
        return taken

    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """The first nonce from ``nonce`` on that no transaction of a key has that waits here."""
        mine = self._waiting.get(sender, {})
        while nonce in mine:
            nonce += 1
        return nonce

    def forget(self, state: State, senders: Sequence[bytes], height: int = 0) -> None:
        """Drop what a block of these senders has used up.

        Args:
            state: after the block.
            senders: of its transactions.
            height: of the next block.
        """
        for sender in senders:
            nonce = _account(state, sender).nonce
            mine = self._waiting.get(sender, {})
            for used in [one for one in mine if one < nonce]:
                self._drop(sender, used)
        if len(self._urgent):
            self._urgent.forget(state, height, parameters_of(state).fee_per_byte)

    def renew(self, state: State, height: int) -> None:
        """Drop all that can never be in a block any more; the state may be any later one. Arguments as for :meth:`forget`."""
        self.forget(state, list(self._waiting), height)

    def _drop(self, sender: bytes, nonce: int) -> None:
        gone = self._waiting[sender].pop(nonce)
        self._bytes -= len(gone)
        self._count -= 1
        self._tidy(sender)

    def _tidy(self, sender: bytes) -> None:
        if not self._waiting[sender]:
            del self._waiting[sender]

    def _make_room(self, fee: int, size: int) -> None:
        """Drop the last transactions of those who pay least, if they pay less than ``fee``."""
        last = sorted((_fee(mine[max(mine)]), sender) for sender, mine in self._waiting.items())
        for lowest, sender in last:
            if lowest >= fee:
                break
            self._drop(sender, max(self._waiting[sender]))
            if self._count < WAITING_MAX and self._bytes + size <= WAITING_BYTES_MAX:
                return
        raise Refused("too many transactions are waiting", reason="transaction", hint="offer a higher fee")


def _fee(transaction: bytes) -> int:
    return getattr(parse(transaction), "fee_max", 0)


def _account(state: State, sender: bytes) -> Account:
    return Changes(state).read(ACCOUNTS, sender, Account) or Account()
