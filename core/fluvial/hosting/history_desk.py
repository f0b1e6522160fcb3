"""Answers who asks for final blocks: validators as often as they like, all others within a budget; old blocks come from the database."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Final

import anyio
from anyio.abc import TaskGroup

from fluvial.consensus.block_chain import ANSWER_BLOCKS_MAX, RecentBlocks, history_of
from fluvial.consensus.wire import HistoryAsk
from fluvial.encoding import decode, encode
from fluvial.hosting.log import ConsensusLog
from fluvial.identity import PeerId
from fluvial.ports import Database

FOLLOWERS_MAX: Final = 256
STRANGERS_BYTES_PER_S: Final = 4 << 20
"""What all who are no validators get of history in a second, together."""
OLD_AT_ONCE: Final = 4


class HistoryDesk:
    """See the module's docstring.

    Args:
        database, log: where old blocks are.
        send: sends a message to a peer.
        height: how many blocks are durable here.
    """

    def __init__(
        self, database: Database, log: ConsensusLog, send: Callable[[PeerId, bytes], None], height: Callable[[], int]
    ) -> None:
        self._database, self._log, self._send, self._height = database, log, send, height
        self._followers: OrderedDict[PeerId, None] = OrderedDict()
        self._asking_old: set[PeerId] = set()
        self._budget, self._budget_at = float(STRANGERS_BYTES_PER_S), 0.0

    @property
    def followers(self) -> Iterable[PeerId]:
        """Those who are no validators and have asked lately: they are told of new blocks."""
        return self._followers

    def admits(self, sender: PeerId, data: bytes, store: RecentBlocks, tasks: TaskGroup, *, known: bool) -> bool:
        """Whether the replica shall answer a question; if not, it is answered from the database, or not at all.

        Args:
            sender: who asks.
            data: the question.
            store: the blocks in memory.
            tasks: runs what takes its time.
            known: whether a validator asks.

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
        if above + 1 >= store.first or above >= self._height():
            if not known:
                heights = filter(store.has, range(above + 1, above + 1 + ANSWER_BLOCKS_MAX))
                self._budget -= sum(len(store.block(one).payload) + 300 for one in heights)
            return True
        if sender not in self._asking_old and len(self._asking_old) < OLD_AT_ONCE:
            self._asking_old.add(sender)
            tasks.start_soon(self._answer_old, sender, above, known)
        return False

    def _has_budget(self) -> bool:
        now = anyio.current_time()
        grown = self._budget + (now - self._budget_at) * STRANGERS_BYTES_PER_S
        self._budget, self._budget_at = min(float(STRANGERS_BYTES_PER_S), grown), now
        return self._budget > 0

    async def _answer_old(self, sender: PeerId, above: int, known: bool) -> None:
        """Answer with blocks that are not in memory any more."""
        height = self._height()
        try:
            answer = await self._database.read(
                lambda connection: history_of(self._log.history(connection, above, 256), height)
            )
            data = encode(answer)
            self._budget -= 0 if known else len(data)
            self._send(sender, data)
        finally:
            self._asking_old.discard(sender)
