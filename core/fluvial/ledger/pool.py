"""Transactions that wait for a block: bounded in bytes, in number and for each sender; the lowest offer goes first when there is no room.

What waits for an earlier transaction of its sender that is not here gives way first: it might never come, and such a transaction never costs anything. Then goes the lowest offer.
A sender offers what it has: of a fee that is more than its balance, less what it offers for its others, only that counts. Of those who offer the same
the one with most waiting goes first, and then the one with the smallest balance, so who has a few, and some units, finds room where keys without a balance have filled all.

What has expired goes, and so does what its sender cannot pay any more: else it would be tried for every block, in front of others.

What is on the ledger stays in the memory of all its peers. So where transactions are free and the state is large, nothing is taken any more that would add to it
of keys without units: those cost nothing either.

Evidence and revocations wait in a lane of their own (``urgent.py``). What can be in the next block is known by key, and so are who pays least and what
expires first: neither a block nor a full pool costs a look at all that waits.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from heapq import heapify, heappop, heappush
from typing import Final, NamedTuple

from fluvial.errors import Refused, RemoteProtocolError
from fluvial.ledger.execution import body_refusal, parameters_of, payment_refusal, refusal
from fluvial.ledger.genesis import ACCOUNTS, UNITS_MAX, Account
from fluvial.ledger.licences import CloseLicence, SettleLicence
from fluvial.ledger.names import ChangeName, ReleaseName
from fluvial.ledger.perimeters import ClosePerimeter
from fluvial.ledger.state import Changes, State
from fluvial.ledger.transactions import (
    CarryRevocation,
    SignedPayment,
    SignedTransaction,
    Transaction,
    parse,
    payment_of,
    transaction_id,
    work_of,
)
from fluvial.ledger.urgent import NoRoom, UrgentLane

WAITING_MAX: Final = 10_000
WAITING_BYTES_MAX: Final = 32 << 20
PER_SENDER_MAX: Final = 64
AHEAD_MAX: Final = 64
"""How far a nonce may lie in the future."""
FULL: Final = "the state is large, and keys without units add nothing to it any more"
ADDING_NOTHING: Final = (ChangeName, ReleaseName, SettleLicence, CloseLicence, ClosePerimeter)
"""Bodies that change what is there."""


class WaitingTransaction(NamedTuple):
    """A transaction that waits.

    Attributes:
        transaction: its bytes.
        offer: what its sender pays at most, and can.
        balance: of its sender, when it came.
        fee_max: what its sender pays at most.
        valid_until: the last height at which it may be executed.
        work: how many transactions it counts for in a block. All of these are kept here, since what the bytes stand for may be forgotten.
    """

    transaction: bytes
    offer: int
    balance: int
    fee_max: int
    valid_until: int
    work: int

    def is_payable(self, balance: int, fee_per_byte: int) -> bool:
        """Whether somebody with this balance can pay for it."""
        return len(self.transaction) * fee_per_byte <= min(self.fee_max, balance)


class PoolRank(NamedTuple):
    """A sender among the others when there is no room: the lowest loses its last transaction.

    Attributes:
        in_turn: whether all are here that come before its last transaction.
        offer: for its last transaction.
        waiting: minus the number of its transactions.
        balance: when its last transaction came. Keys cost nothing, and units do.
    """

    in_turn: bool
    offer: int
    waiting: int
    balance: int


class TransactionPool:
    """What waits at one peer.

    Args:
        chain: id of the ledger.
        per_sender: transactions of one key that may wait.
        newest_first: whether the keys that came last have the first turn.
        state_bytes_max: memory of the state beyond which keys without units add nothing to it; they add revocations until it takes twice as much.
    """

    def __init__(
        self,
        chain: bytes,
        *,
        per_sender: int = PER_SENDER_MAX,
        newest_first: bool = False,
        state_bytes_max: int = 2**63,
    ) -> None:
        self._chain = chain
        self._state_bytes_max = state_bytes_max
        self._newest_first = newest_first
        self._per_sender = per_sender
        self._waiting: dict[bytes, dict[int, WaitingTransaction]] = {}
        self._nonces: dict[bytes, int] = {}  # of those who have something waiting, on the newest state
        self._ready: dict[bytes, None] = {}  # of these, whose next transaction is here
        # A heap of the rank of each, and of what is not true any more.
        self._poorest: list[tuple[PoolRank, bytes]] = []
        # A heap of the last height, sender and nonce of each, and of what is gone.
        self._ending: list[tuple[int, bytes, int]] = []
        self._fee_per_byte = 0
        self._urgent = UrgentLane(chain)
        self._bytes = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count + len(self._urgent)

    @property
    def is_ready(self) -> bool:
        """Whether something can be in the next block."""
        return bool(self._ready) or len(self._urgent) > 0

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
        if reason := payment_refusal(state, transaction, chain=self._chain, height=height):
            raise _refused(reason)
        payment = payment_of(transaction)
        if payment is None:
            one = self._checked(transaction, state, height)
            assert not isinstance(one, SignedTransaction), "it says who pays"
            if isinstance(one, CarryRevocation) and self._is_closed(state, one.payer, 2 * self._state_bytes_max):
                raise _refused(FULL)
            self._urgent.add(one, transaction)
            return
        if self._waits(payment, transaction):
            return
        account = _account(state, payment.sender)
        closed = self._is_closed(state, payment.sender, self._state_bytes_max)
        if closed and not account.nonce:
            raise _refused(FULL)
        rank = self._place(payment, account, len(transaction))
        signed = self._checked(transaction, state, height)
        assert isinstance(signed, SignedTransaction), "it says who pays"
        if closed and not isinstance(signed.body, ADDING_NOTHING):
            raise _refused(FULL)
        if self._is_full(len(transaction)):
            self._make_room(rank, len(transaction))
        sender, nonce, until = payment.sender, payment.nonce, payment.valid_until
        self._waiting.setdefault(sender, {})[nonce] = WaitingTransaction(
            transaction, rank.offer, rank.balance, payment.fee_max, until, work_of(signed)
        )
        self._bytes += len(transaction)
        self._count += 1
        self._look(sender, account.nonce)
        self._ends(until, sender, nonce)

    def _is_closed(self, state: State, key: bytes, bytes_max: int) -> bool:
        """Whether a key must not add anything to the state."""
        if state.weight <= bytes_max or _account(state, key).balance:
            return False
        return key not in parameters_of(state).administrators

    def _checked(self, transaction: bytes, state: State, height: int) -> Transaction:
        """What a transaction says that somebody pays for; raises Refused if it cannot be executed."""
        if reason := body_refusal(state, transaction, chain=self._chain, height=height):
            raise _refused(reason)
        return parse(transaction)

    def _waits(self, payment: SignedPayment, transaction: bytes) -> bool:
        """Whether a transaction waits already; raises Refused if another one with its nonce does."""
        known = self._waiting.get(payment.sender, {}).get(payment.nonce)
        if known is not None and known.transaction != transaction:
            raise Refused("another transaction with this nonce waits already", reason="transaction")
        return known is not None

    def _place(self, payment: SignedPayment, account: Account, size: int) -> PoolRank:
        """The rank that a sender would have with a transaction; raises NoRoom if that is too low. Nothing is verified for it, and nothing changes."""
        mine = self._waiting.get(payment.sender, {})
        if len(mine) >= self._per_sender or payment.nonce - account.nonce > AHEAD_MAX + self._per_sender:
            raise NoRoom("too many transactions of this key are waiting")
        left = account.balance - sum(waiting.offer for waiting in mine.values())
        offer, count = min(payment.fee_max, max(0, left)), len(mine) + 1
        in_turn = max(payment.nonce, *mine, 0) - account.nonce < count
        rank = PoolRank(in_turn, offer, -count, account.balance)
        if self._is_full(size) and self._lowest() >= rank:
            raise _no_room()
        return rank

    def _is_full(self, size: int) -> bool:
        return self._count >= WAITING_MAX or self._bytes + size > WAITING_BYTES_MAX

    def report(self, transaction: bytes, state: State) -> None:
        """Let evidence wait that this peer has found itself, unless the ledger has it already."""
        if not refusal(state, transaction, chain=self._chain, height=0):
            one = parse(transaction)
            assert not isinstance(one, SignedTransaction), "it is a report"
            self._urgent.add(one, transaction)

    def take(
        self, state: State, *, bytes_max: int, count_max: int, without: Container[bytes] = (), height: int = 0
    ) -> Sequence[bytes]:
        """Transactions for a block: what is urgent, at most a half of it; then in turns one of each sender with consecutive nonces that it can pay.

        Args:
            state: on which they will be executed.
            bytes_max: of the block.
            count_max: of the block; one with several signatures counts as many times, unless it is the first.
            without: ids that must not be taken, while what follows them may.
            height: of the block; what is not valid so long is not taken.
        """
        taken = list(self._urgent.take(bytes_max=bytes_max // 2, count_max=(count_max + 1) // 2, without=without))
        room = bytes_max - sum(len(one) + 8 for one in taken)
        ready = reversed(self._ready) if self._newest_first else iter(self._ready)
        fee_per_byte = parameters_of(state).fee_per_byte
        turns: Iterator[tuple[dict[int, WaitingTransaction], Account]] = (
            (self._waiting[sender], _account(state, sender)) for sender in ready
        )
        count, urgent = len(taken), len(taken)
        while count < count_max:
            again = []
            for mine, account in turns:
                one = mine.get(account.nonce)
                if one is None or one.valid_until < height or not one.is_payable(account.balance, fee_per_byte):
                    continue
                transaction = one.transaction
                if transaction_id(transaction) not in without:
                    fits = count + one.work <= count_max or (count < count_max and len(taken) == urgent)
                    if not fits or len(transaction) + 8 > room:
                        return taken
                    taken.append(transaction)
                    count += one.work
                    room -= len(transaction) + 8
                left = account.balance - len(transaction) * fee_per_byte
                again.append((mine, Account(account.nonce + 1, left)))
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
        """Drop what a block of these senders has used up, and what cannot be in a later one any more.

        Args:
            state: after the block.
            senders: who has paid for its transactions.
            height: of the next block.
        """
        fee_per_byte = parameters_of(state).fee_per_byte
        if fee_per_byte != self._fee_per_byte:
            self._fee_per_byte, senders = fee_per_byte, list(self._waiting)
        for sender in senders:
            account, mine = _account(state, sender), self._waiting.get(sender, {})
            for nonce, one in list(mine.items()):
                if nonce < account.nonce or not one.is_payable(account.balance, fee_per_byte):
                    self._drop(sender, nonce)
            if sender in self._waiting:
                self._look(sender, account.nonce)
        while self._ending and self._ending[0][0] < height:
            until, sender, nonce = heappop(self._ending)
            if self._waits_until(sender, nonce) == until:
                self._drop(sender, nonce)
        if len(self._urgent):
            self._urgent.forget(state, height, fee_per_byte)

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
        self._offers(sender)

    def _offers(self, sender: bytes) -> None:
        """The last transaction of a key may be another one now."""
        heappush(self._poorest, (self._rank(sender), sender))
        if len(self._poorest) > 2 * WAITING_MAX:
            self._poorest = [(self._rank(one), one) for one in self._waiting]
            heapify(self._poorest)

    def _ends(self, until: int, sender: bytes, nonce: int) -> None:
        """A transaction waits until a height."""
        heappush(self._ending, (until, sender, nonce))
        if len(self._ending) > 2 * WAITING_MAX:
            self._ending = [
                (one.valid_until, whose, number)
                for whose, mine in self._waiting.items()
                for number, one in mine.items()
            ]
            heapify(self._ending)

    def _waits_until(self, sender: bytes, nonce: int) -> int | None:
        one = self._waiting.get(sender, {}).get(nonce)
        return None if one is None else one.valid_until

    def _rank(self, sender: bytes) -> PoolRank:
        mine = self._waiting[sender]
        last = max(mine)
        in_turn = last - self._nonces[sender] < len(mine)
        return PoolRank(in_turn, mine[last].offer, -len(mine), mine[last].balance)

    def _lowest(self) -> PoolRank:
        """The lowest rank of those who have something waiting."""
        while self._poorest:
            lowest, sender = self._poorest[0]
            if sender in self._waiting and self._rank(sender) == lowest:
                return lowest
            heappop(self._poorest)
        return PoolRank(in_turn=True, offer=UNITS_MAX, waiting=0, balance=0)

    def _make_room(self, newcomer: PoolRank, size: int) -> None:
        """Drop the last transactions of those who rank lower than a newcomer will, if they are enough."""
        while self._lowest() < newcomer:
            sender = self._poorest[0][1]
            self._drop(sender, max(self._waiting[sender]))
            if not self._is_full(size):
                return
        raise _no_room()


def _refused(reason: str) -> Refused:
    return Refused(f"the ledger does not take this transaction: {reason}", reason="transaction")


def _no_room() -> NoRoom:
    return NoRoom("too many transactions are waiting", hint="offer a higher fee")


def _account(state: State, sender: bytes) -> Account:
    return Changes(state).read(ACCOUNTS, sender, Account) or Account()
