"""Answers who asks for final blocks: validators as often as they like, all others in turns; old blocks come from the database.

Parts of snapshots are handed out in turns, to validators as well, who do not wait for others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container, Sequence
from logging import ERROR
from typing import Final

from anyio.abc import TaskGroup
from structlog.stdlib import BoundLogger

from fluvial.consensus.block_chain import ANSWER_BLOCKS_MAX, ANSWER_BYTES_MAX, RecentBlocks, history_of
from fluvial.consensus.wire import HistoryAnswer, HistoryAsk, SnapshotAsk
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError, StorageError
from fluvial.hosting import snapshot_table
from fluvial.hosting.log import ConsensusLog
from fluvial.hosting.paced_answers import PacedAnswers
from fluvial.identity import PeerId
from fluvial.ledger.snapshots import CHUNK_BYTES_MAX
from fluvial.ports import Database
from fluvial.prepared import Prepared, Transaction
from fluvial.throttling import ThrottledLog
from fluvial.waiting import now_s

FOLLOWERS_MAX: Final = 256
STRANGERS_BYTES_PER_S: Final = 4 << 20
"""What all who are no validators get of history in a second, together, and of snapshots."""
VALIDATORS_BYTES_PER_S: Final = 8 << 20
"""What all validators get of snapshots in a second, together."""
OLD_AT_ONCE: Final = 4
"""Answers to validators that are read from the database at the same time,"""
OLD_FOR_STRANGERS: Final = 2
"""and to all others: everything else of the peer reads from there, too."""
BLOCK_BYTES: Final = 300
"""Of a block in an answer, besides its payload."""
WISH_BYTES_MAX: Final = 128
"""Of a question for a part of a snapshot, which is kept until its turn comes."""


class HistoryDesk:
    """See the module's docstring.

    Args:
        database, log: where old blocks are.
        send: sends a message to a peer.
        height: how many blocks are durable here.
        lines: for what an operator should know.
    """

    def __init__(
        self,
        database: Database,
        log: ConsensusLog,
        send: Callable[[PeerId, bytes], None],
        height: Callable[[], int],
        lines: BoundLogger,
    ) -> None:
        self._throttled: Final = ThrottledLog(lines, clock=now_s)
        self._database, self._log, self._send, self._height = database, log, send, height
        self._followers: OrderedDict[PeerId, None] = OrderedDict()
        self._reading: dict[bool, set[PeerId]] = {False: set(), True: set()}
        self._blocks: Final = PacedAnswers(STRANGERS_BYTES_PER_S)
        self._parts = {False: PacedAnswers(STRANGERS_BYTES_PER_S), True: PacedAnswers(VALIDATORS_BYTES_PER_S)}

    def close(self) -> None:
        """Answer nobody any more."""
        for line in (self._blocks, *self._parts.values()):
            line.close()

    def followers(self, connected: Container[PeerId]) -> Sequence[PeerId]:
        """Those who are no validators, have asked lately and are still connected: they are told of new blocks."""
        for gone in [one for one in self._followers if one not in connected]:
            del self._followers[gone]
        return list(self._followers)

    def ask_blocks(
        self,
        sender: PeerId,
        data: bytes,
        store: RecentBlocks,
        tasks: TaskGroup,
        answer: Callable[[], None],
        *,
        known: bool,
        base: int = 0,
    ) -> None:
        """Answer a question for blocks: a validator's now, that of somebody else in its turn.

        Args:
            sender: who asks.
            data: the question.
            store: the blocks in memory.
            tasks: runs what takes its time.
            answer: answers from memory; raises nothing.
            known: whether a validator asks.
            base: the height up to which nothing is in memory.

        Raises:
            RemoteProtocolError: it is no question.
        """
        above = decode(data, HistoryAsk, what="question for history").above

        def give() -> None:
            if (above >= base and above + 1 >= store.first) or above >= self._height():
                answer()
            else:
                self._answer_old(sender, above, tasks, known=known)

        if known:
            give()
            return
        self._followers[sender] = None
        self._followers.move_to_end(sender)
        while len(self._followers) > FOLLOWERS_MAX:
            self._followers.popitem(last=False)
        self._blocks.ask(sender, self._size(store, above), give)

    def ask_part(self, sender: PeerId, data: bytes, answer: Callable[[], None], *, known: bool) -> None:
        """Answer a question for a part of a snapshot in its turn.

        Args:
            sender: who asks.
            data: the question.
            answer: answers it; raises nothing.
            known: whether a validator asks.

        Raises:
            RemoteProtocolError: it is no question.
        """
        if len(data) > WISH_BYTES_MAX:
            raise RemoteProtocolError("this is no question for a part of a snapshot")
        decode(data, SnapshotAsk, what="question for a part of a snapshot")
        self._parts[known].ask(sender, CHUNK_BYTES_MAX, answer)

    def _size(self, store: RecentBlocks, above: int) -> int:
        """About how many bytes an answer has."""
        size = 0
        for height in range(above + 1, min(above + ANSWER_BLOCKS_MAX, self._height()) + 1):
            if size >= ANSWER_BYTES_MAX:
                break
            if not store.has(height):
                return ANSWER_BYTES_MAX  # an old one: nobody knows before it is read
            size += len(store.block(height).payload) + BLOCK_BYTES
        return size

    def _answer_old(self, sender: PeerId, above: int, tasks: TaskGroup, *, known: bool) -> None:
        """Answer from the database, unless that goes on for this peer already, or for many."""
        reading = self._reading[known]
        if sender not in reading and len(reading) < (OLD_AT_ONCE if known else OLD_FOR_STRANGERS):
            reading.add(sender)
            tasks.start_soon(self._read_old, sender, above, reading)

    async def _read_old(self, sender: PeerId, above: int, reading: set[PeerId]) -> None:
        """Answer with blocks that are not in memory any more; if they cannot be read, not at all: others have them, and anybody may ask."""
        try:
            found = await self._database.read(Prepared(self._old, above, self._height()))
            self._send(sender, encode(found))
        except StorageError as error:
            self._throttled.look()
            self._throttled.note(
                "storage_failed", "history", level=ERROR, above=above, error=error.message, hint=error.hint
            )
        finally:
            reading.discard(sender)

    def _old(self, transaction: Transaction, above: int, height: int) -> HistoryAnswer:
        """Blocks of the database; if they are gone, the height up to which they are."""
        base = 0 if self._log.has_block(transaction, above + 1) else snapshot_table.newest(transaction)
        return history_of(self._log.history(transaction, above, 256), height, base)
