"""Transactions that wait for a block: bounded in bytes, in number and for each sender; the lowest offer goes first when there is no room.

A sender offers what it has: of a fee that is more than its balance, less what it offers for its others, only that counts. Of those who offer the same
the one with most waiting goes first, so who has a few finds room where keys without a balance have filled all with dozens each.

Evidence and revocations wait in a lane of their own (``urgent.py``). What can be in the next block is known by key, and so is who pays least: neither
a block nor a full pool costs a look at all that waits.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from fluvial.errors import Refused, RemoteProtocolError
from fluvial.ledger.execution import parameters_of, refusal
from fluvial.ledger.genesis import ACCOUNTS, Account
from fluvial.ledger.state import Changes, State
from fluvial.ledger.transactions import SignedTransaction, parse, payment_of, transaction_id
from fluvial.ledger.urgent import NoRoom, UrgentLane

WAITING_MAX: Final = 10_000
WAITING_BYTES_MAX: Final = 32 << 20
PER_SENDER_MAX: Final = 64
AHEAD_MAX: Final = 64
"""How far a nonce may lie in the future."""


class WaitingTransaction(NamedTuple):
    """A transaction that waits.

    Attributes:
        transaction: its bytes.
        offer: what its sender pays at most, and can; kept here, since what the bytes stand for may be forgotten.
    """

    transaction: bytes
    offer: int


class PoolRank(NamedTuple):
    """A sender among the others when there is no room: the lowest loses its last transaction.

    Attributes:
        offer: for its last transaction.
        waiting: minus the number of its transactions.
    """

    offer: int
    waiting: int


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
        self._waiting: dict[bytes, dict[int, WaitingTransaction]] = {}
        self._nonces: dict[bytes, int] = {}  # of those who have something waiting, on the newest state
        self._ready: dict[bytes, None] = {}  # of these, whose next transaction is here
        # A heap of the rank of each, and of what is not true any more.
        self._poorest: list[tuple[PoolRank, bytes]] = []
        self._urgent = UrgentLane(chain)
        self._bytes = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count + len(self._urgent)

    def holds(self, transaction: bytes) -> bool:
        """Whether these very bytes wait here; its body is not read for that."""
        try:
            payment = payment_of(transaction)
        except RemoteProtocolError:
            return False
        if payment is None:
            return self._urgent.holds(transaction)
        known = self._waiting.get(payment.sender, {}).get(payment.nonce)
        return known is not None and known.transaction == transaction

    def add(self, transaction: bytes, state: State, height: int) -> None:
        """Let a transaction wait.

        Args:
            transaction: its bytes.
            state: the newest.
            height: of the next block.

        Raises:
            Refused: it can never be executed, or (:class:`NoRoom`) there is no room for it.
        """
        if reason := refusal(state, transaction, chain=self._chain, height=height):
            raise Refused(f"the ledger does not take this transaction: {reason}", reason="transaction")
        one = parse(transaction)
        if not isinstance(one, SignedTransaction):
            self._urgent.add(one, transaction)
            return
        mine = self._waiting.setdefault(one.sender, {})
        if one.nonce in mine:
            if mine[one.nonce].transaction == transaction:
                return
            raise Refused("another transaction with this nonce waits already", reason="transaction")
        account = _account(state, one.sender)
        if len(mine) >= self._per_sender or one.nonce - account.nonce > AHEAD_MAX + self._per_sender:
            self._tidy(one.sender)
            raise NoRoom("too many transactions of this key are waiting")
        offer = min(one.fee_max, max(0, account.balance - sum(waiting.offer for waiting in mine.values())))
        if self._count >= WAITING_MAX or self._bytes + len(transaction) > WAITING_BYTES_MAX:
            self._tidy(one.sender)
            self._make_room(PoolRank(offer, -len(mine) - 1), len(transaction))
            mine = self._waiting.setdefault(one.sender, {})
        mine[one.nonce] = WaitingTransaction(transaction, offer)
        self._bytes += len(transaction)
        self._count += 1
        self._look(one.sender, account.nonce)
        self._offers(one.sender)

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
        ready = reversed(self._ready) if self._newest_first else iter(self._ready)
        turns: Iterator[tuple[dict[int, WaitingTransaction], int]] = (
            (self._waiting[sender], _account(state, sender).nonce) for sender in ready
        )
        while len(taken) < count_max:
            again = []
            for mine, nonce in turns:
                if (one := mine.get(nonce)) is None:
                    continue
                transaction = one.transaction
                if transaction_id(transaction) not in without:
                    if len(taken) >= count_max or len(transaction) + 8 > room:
                        return taken
                    taken.append(transaction)
                    room -= len(transaction) + 8
                again.append((mine, nonce + 1))
            if not again:
                break
            turns = iter(again)
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
            if sender in self._waiting:
                self._look(sender, nonce)
        if len(self._urgent):
            self._urgent.forget(state, height, parameters_of(state).fee_per_byte)

    def renew(self, state: State, height: int) -> None:
        """Drop all that can never be in a block any more; the state may be any later one. Arguments as for :meth:`forget`."""
        self.forget(state, list(self._waiting), height)

    def _drop(self, sender: bytes, nonce: int) -> None:
        gone = self._waiting[sender].pop(nonce).transaction
        self._bytes -= len(gone)
        self._count -= 1
        if self._nonces[sender] == nonce:
            self._ready.pop(sender, None)
        self._tidy(sender)
        if sender in self._waiting:
            self._offers(sender)

    def _tidy(self, sender: bytes) -> None:
        if not self._waiting[sender]:
            del self._waiting[sender]
            self._nonces.pop(sender, None)
            self._ready.pop(sender, None)

    def _look(self, sender: bytes, nonce: int) -> None:
        """The nonce of an account with something waiting is known anew."""
        self._nonces[sender] = nonce
        if nonce not in self._waiting[sender]:
            self._ready.pop(sender, None)
        elif sender not in self._ready:
            self._ready[sender] = None

    def _offers(self, sender: bytes) -> None:
        """The last transaction of a key may be another one now."""
        heappush(self._poorest, (self._rank(sender), sender))
        if len(self._poorest) > 2 * WAITING_MAX:
            self._poorest = [(self._rank(one), one) for one in self._waiting]
            heapify(self._poorest)

    def _rank(self, sender: bytes) -> PoolRank:
        mine = self._waiting[sender]
        return PoolRank(mine[max(mine)].offer, -len(mine))

    def _make_room(self, newcomer: PoolRank, size: int) -> None:
        """Drop the last transactions of those who rank lower than a newcomer will, if they are enough."""
        while self._poorest:
            lowest, sender = self._poorest[0]
            if sender in self._waiting and self._rank(sender) == lowest:
                if lowest >= newcomer:
                    break
                self._drop(sender, max(self._waiting[sender]))
                if self._count < WAITING_MAX and self._bytes + size <= WAITING_BYTES_MAX:
                    return
            else:
                heappop(self._poorest)
        raise NoRoom("too many transactions are waiting", hint="offer a higher fee")


def _account(state: State, sender: bytes) -> Account:
    return Changes(state).read(ACCOUNTS, sender, Account) or Account()
