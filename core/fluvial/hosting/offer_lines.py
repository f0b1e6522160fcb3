"""A follower's transactions on their way to validators: to each one message at a time, with all that has gathered meanwhile.

A validator looks at a few messages of one sender at once. So however many flows bring transactions to a follower, none is refused because others are on their way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final, NamedTuple

from anyio.abc import TaskGroup
from structlog.stdlib import BoundLogger

from fluvial.encoding import decode, encode
from fluvial.errors import FluvialError, Refused, RemoteProtocolError, Unreachable
from fluvial.hosting.messenger import FRAME_BYTES, FRAME_MESSAGES_MAX
from fluvial.identity import PeerId
from fluvial.ports import Peers
from fluvial.throttling import ThrottledLog
from fluvial.waiting import Future, future, now_s

TRANSACTIONS: Final = "/fluvial/transactions/1"
ANSWER_S: Final = 5.0
"""How long a validator may take to answer."""
WAITING_BYTES_MAX: Final = 4 << 20
"""Of transactions that wait for one validator."""


class _Offer(NamedTuple):
    """A transaction, and what becomes of it: why the validator does not take it, or nothing."""

    transaction: bytes
    answer: Future[str]


class _Line:
    """What waits for one validator."""

    __slots__ = ("offers", "sending", "size")

    def __init__(self) -> None:
        self.offers: deque[_Offer] = deque()
        self.size = 0
        self.sending = False

    def taken(self) -> list[_Offer]:
        """What goes into the next message; what nobody waits for any more is left out."""
        taken: list[_Offer] = []
        size = 0
        while self.offers and len(taken) < FRAME_MESSAGES_MAX and size < FRAME_BYTES:
            offer = self.offers.popleft()
            self.size -= len(offer.transaction)
            if not offer.answer.done():
                taken.append(offer)
                size += len(offer.transaction)
        return taken


class OfferLines:
    """See the module's docstring.

    Args:
        peers: the port.
        tasks: runs a task for each validator to which something is on its way.
        log: for validators that do not answer.
    """

    def __init__(self, peers: Peers, tasks: TaskGroup, log: BoundLogger) -> None:
        self._peers, self._tasks, self._log = peers, tasks, ThrottledLog(log, clock=now_s)
        self._lines: dict[PeerId, _Line] = {}

    async def offer(self, validator: PeerId, transaction: bytes) -> str:
        """Offer a transaction to a validator; returns why it does not take it, or nothing.

        Raises:
            Refused: too many wait for this validator. FluvialError: it does not answer.
        """
        line = self._lines.setdefault(validator, _Line())
        if line.size + len(transaction) > WAITING_BYTES_MAX:
            raise Refused("too many transactions are on their way to the validators", reason="busy")
        offer = _Offer(transaction, future())
        line.offers.append(offer)
        line.size += len(transaction)
        if not line.sending:
            line.sending = True
            self._tasks.start_soon(self._send, validator, line)
        return await offer.answer

    async def _send(self, validator: PeerId, line: _Line) -> None:
        """Empty a line."""
        taken: list[_Offer] = []
        try:
            while taken := line.taken():
                try:
                    reasons = await self._brought(validator, [one.transaction for one in taken])
                except FluvialError as error:
                    self._log.look()
                    self._log.note("validator_does_not_answer", "offer", validator=validator, error=error.message)
                    _fail(taken, error)
                else:
                    for one, reason in zip(taken, reasons, strict=True):
                        if not one.answer.done():
                            one.answer.set_result(reason)
            del self._lines[validator]
        except BaseException:
            _fail([*taken, *line.offers], Unreachable("this peer stops"))
            raise

    async def _brought(self, validator: PeerId, transactions: list[bytes]) -> list[str]:
        answer = await self._peers.request(validator, TRANSACTIONS, encode(transactions), timeout_s=ANSWER_S)
        reasons = decode(answer, list[str], what="answer of a validator")
        if len(reasons) != len(transactions):
            raise RemoteProtocolError("a validator says something else than what becomes of each transaction")
        return reasons


def _fail(offers: Iterable[_Offer], error: FluvialError) -> None:
    for one in offers:
        if not one.answer.done():
            one.answer.set_exception(error)
