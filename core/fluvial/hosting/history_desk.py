"""Answers who asks for final blocks: validators as often as they like, all others within a budget; old blocks come from the database.

Parts of snapshots are handed out at a rate, to validators as well.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from logging import ERROR
from typing import Final

import anyio
from anyio.abc import TaskGroup
from structlog.stdlib import BoundLogger

from fluvial.consensus.block_chain import ANSWER_BLOCKS_MAX, RecentBlocks, history_of
from fluvial.consensus.wire import HistoryAnswer, HistoryAsk
from fluvial.encoding import decode, encode
from fluvial.errors import StorageError
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
"""What all who are no validators get of history in a second, together."""
OLD_AT_ONCE: Final = 4
VALIDATORS_BYTES_PER_S: Final = 32 << 20
"""What all validators get of snapshots in a second, together; all others share the bytes for strangers."""
PARTS_AT_ONCE: Final = 64
"""Answers with parts of snapshots that wait for their turn, one for each peer."""


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
        self._asking_old: set[PeerId] = set()
        self._budget, self._budget_at = float(STRANGERS_BYTES_PER_S), 0.0
        self._paces = {False: PacedAnswers(STRANGERS_BYTES_PER_S), True: PacedAnswers(VALIDATORS_BYTES_PER_S)}
        self._asking_parts: set[PeerId] = set()

    @property
    def followers(self) -> Iterable[PeerId]:
        """Those who are no validators and have asked lately: they are told of new blocks."""
        return self._followers

    def admits(
        self, sender: PeerId, data: bytes, store: RecentBlocks, tasks: TaskGroup, *, known: bool, base: int = 0
    ) -> bool:
        """Whether the replica shall answer a question; if not, it is answered from the database, or not at all.

        Args:
            sender: who asks.
            data: the question.
            store: the blocks in memory.
            tasks: runs what takes its time.
            known: whether a validator asks.
            base: the height up to which nothing is in memory.

        Raises:
            RemoteProtocolError: it is no question.
        """
        above = decode(data, HistoryAsk, what="question for history").above
        if not known:
            self._followers[sender] = None
            self._followers.move_to_end(sender)
            while len(self._followers) > FOLLOWERS_MAX:
                self._followers.popitem(last=False)
            if not self._has_budget():
                return False
        if (above >= base and above + 1 >= store.first) or above >= self._height():
            if not known:
                heights = filter(store.has, range(above + 1, above + 1 + ANSWER_BLOCKS_MAX))
                self._budget -= sum(len(store.block(one).payload) + 300 for one in heights)
            return True
        if sender not in self._asking_old and len(self._asking_old) < OLD_AT_ONCE:
            self._asking_old.add(sender)
            tasks.start_soon(self._answer_old, sender, above, known)
        return False

    async def take_turn(self, sender: PeerId, *, known: bool) -> bool:
        """Wait until a peer may have the next part of a snapshot; returns whether it gets one.

        Args:
            sender: who asks.
            known: whether it is a validator.
        """
        if sender in self._asking_parts or len(self._asking_parts) >= PARTS_AT_ONCE:
            return False
        wait_s = self._paces[known].wait_s(sender, CHUNK_BYTES_MAX, now_s())
        if wait_s is None:
            return False
        self._asking_parts.add(sender)
        try:
            await anyio.sleep(wait_s)
        finally:
            self._asking_parts.discard(sender)
        return True

    def _has_budget(self) -> bool:
        now = now_s()
        grown = self._budget + (now - self._budget_at) * STRANGERS_BYTES_PER_S
        self._budget, self._budget_at = min(float(STRANGERS_BYTES_PER_S), grown), now
        return self._budget > 0

    async def _answer_old(self, sender: PeerId, above: int, known: bool) -> None:
        """Answer with blocks that are not in memory any more; if they cannot be read, not at all: others have them, and anybody may ask."""
        height = self._height()
        try:
            data = encode(await self._database.read(Prepared(self._old, above, height)))
            self._budget -= 0 if known else len(data)
            self._send(sender, data)
        except StorageError as error:
            self._throttled.look()
            self._throttled.note(
                "storage_failed", "history", level=ERROR, above=above, error=error.message, hint=error.hint
            )
        finally:
            self._asking_old.discard(sender)

    def _old(self, transaction: Transaction, above: int, height: int) -> HistoryAnswer:
        """Blocks of the database; if they are gone, the height up to which they are."""
        base = 0 if self._log.has_block(transaction, above + 1) else snapshot_table.newest(transaction)
        return history_of(self._log.history(transaction, above, 256), height, base)
