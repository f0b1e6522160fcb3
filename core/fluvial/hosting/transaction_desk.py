"""Transactions on their way into blocks: a validator takes them and tells the others of them, a follower hands them to several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from anyio.abc import TaskGroup

from fluvial.consensus.replica import Replica
from fluvial.encoding import encode
from fluvial.errors import Refused
from fluvial.fairness import FairQueue
from fluvial.hosting.handing_over import HandingOver
from fluvial.hosting.messenger import FRAME_BYTES, Messenger, messages_of
from fluvial.hosting.offer_lines import TRANSACTIONS, OfferLines
from fluvial.identity import PeerId
from fluvial.ledger.execution import refusal
from fluvial.ledger.statements import VALIDATORS_MAX
from fluvial.ledger.transactions import TRANSACTION_BYTES_MAX
from fluvial.ledger.urgent import NoRoom
from fluvial.ports import Context
from fluvial.seats import RefusingAnswer
from fluvial.waiting import Event, others_have_a_turn

TRANSACTIONS_BYTES_MAX: Final = FRAME_BYTES + TRANSACTION_BYTES_MAX
"""Of one message to this desk: what :class:`Messenger` puts together, with one transaction that is as large as it may be."""
WEIGHT_MAX: Final = 65_536
"""Of a validator, beside whoever brings transactions."""
YIELD_EVERY: Final = 16
"""Transactions of others, of all together, that are looked at in one turn of the event loop: about a millisecond. A flood of them does not hold up blocks."""


class IntakeTurns:
    """Who looks at transactions in this turn of the event loop: the senders one after the other, however much each has brought.

    Args:
        weight: of a sender; see :class:`FairQueue`.
    """

    def __init__(self, weight: Callable[[PeerId], int]) -> None:
        self._line: FairQueue[PeerId, Event] = FairQueue(weight, quick=True)
        self._taken = False

    async def take(self, sender: PeerId) -> None:
        """Wait for the sender's turn, which :meth:`give` ends."""
        if self._taken:
            turn = Event()
            self._line.push(sender, turn)
            try:
                await turn.wait()
            except BaseException:
                if not self._line.remove(sender, turn):
                    self.give()
                raise
        self._taken = True

    def give(self) -> None:
        """The turn is over."""
        self._taken = len(self._line) > 0
        if self._taken:
            self._line.pop()[1].set()


class TransactionIntake:
    """What becomes of the transactions of one message.

    Args:
        take: lets one wait for a block; raises Refused.
        holds: whether one waits already.

    Attributes:
        reasons: for each, in order; empty if it was taken, or waits already.
        taken: those that are new.
    """

    def __init__(self, take: Callable[[bytes], None], holds: Callable[[bytes], bool]) -> None:
        self._take, self._holds = take, holds
        self._useless = 0
        self.reasons: Final[list[str]] = []
        self.taken: Final[list[bytes]] = []

    @property
    def is_useful(self) -> bool:
        """Whether at least a half of them may be in a block because of this message, now or once there is room."""
        return bool(self.reasons) and 2 * self._useless <= len(self.reasons)

    def admit(self, transactions: Iterable[bytes]) -> None:
        """Let transactions wait."""
        for transaction in transactions:
            reason = ""
            if self._holds(transaction):
                self._useless += 1
            else:
                try:
                    self._take(transaction)
                    self.taken.append(transaction)
                except Refused as error:
                    reason = error.message
                    self._useless += not isinstance(error, NoRoom)
            self.reasons.append(reason)


class TransactionDesk:
    """See the module's docstring.

    Args:
        context: of the host.
        gossips: whether the validators tell each other of transactions, so that whose turn it is has them; where each proposes its own, that would
            double them.
        running: the replica; raises Refused before the start.
        take: lets a transaction wait for a block in the replica; raises Refused.
    """

    def __init__(
        self, context: Context, *, gossips: bool, running: Callable[[], Replica], take: Callable[[bytes], None]
    ) -> None:
        self._me: Final = context.keys.peer_id
        self._peers, self._rng, self._log = context.peers, context.rng, context.log
        self._gossips, self._running, self._take = gossips, running, take
        self._turns: Final = IntakeTurns(lambda peer: 0 if running().validators.index(peer) is None else WEIGHT_MAX)
        self._messages: Messenger | None = None
        self._lines: OfferLines | None = None

    def open(self, tasks: TaskGroup) -> None:
        """From now on other validators can be told; the tasks are for those who have to be waited for."""
        self._messages = Messenger(self._peers, TRANSACTIONS, tasks, peers_max=VALIDATORS_MAX)
        self._lines = OfferLines(self._peers, tasks, self._log)

    async def submit(self, transaction: bytes) -> None:
        """Let a transaction of this peer wait for a block, here and at the other validators; a follower hands it to several.

        Raises:
            Refused: it can never be in a block, or there is no room, or no validator can be reached.
        """
        replica = self._running()
        if replica.decides:
            self._take(transaction)
            self._tell_others([transaction])
            return
        if why := refusal(replica.state, transaction, chain=replica.chain_id, height=replica.chain.tip.height + 1):
            raise Refused(f"the ledger does not take this transaction: {why}", reason="transaction")
        await self._hand_over(replica, transaction)

    async def _hand_over(self, replica: Replica, transaction: bytes) -> None:
        """Give a transaction to validators, at first to those that are connected."""
        connected = self._peers.connected()
        others = [peer for peer in replica.validators.peers if peer != self._me]
        self._rng.shuffle(others)
        others.sort(key=lambda one: one not in connected)
        assert self._lines is not None, "a replica runs"
        await HandingOver(self._lines, replica.validators).run(transaction, others)

    async def answer(self, sender: PeerId, payload: bytes) -> bytes:
        """Transactions of a validator, a follower or a client; answers with a reason for each that is refused.

        If more of them are refused for good, or wait here already, than are taken or may be taken later, this was of no use, and its sender pays for the work. A
        validator never does: it cannot know which of the transactions that it passes on are in a block by now.
        """
        replica = self._running()
        if not replica.decides:
            raise Refused(
                "this peer is no validator, and takes transactions from its own flows alone", reason="validator"
            )
        intake = TransactionIntake(self._take, replica.pool.holds)
        waiting = list(messages_of(payload))
        while waiting:
            some, waiting = waiting[:YIELD_EVERY], waiting[YIELD_EVERY:]
            await self._turns.take(sender)
            try:
                intake.admit(some)
                await others_have_a_turn()
            finally:
                self._turns.give()
        answer = encode(intake.reasons)
        if replica.validators.index(sender) is not None:
            return answer
        self._tell_others(intake.taken)
        return answer if intake.is_useful else RefusingAnswer(answer)

    def _tell_others(self, transactions: Sequence[bytes]) -> None:
        if self._gossips and self._messages is not None:
            others = [peer for peer in self._running().validators.peers if peer != self._me]
            for transaction in transactions:
                self._messages.broadcast(others, transaction)
