"""Tells followers that there are new blocks: all of them at once, but not more often than they can be told cheaply."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from fluvial.consensus.wire import LedgerStatus
from fluvial.encoding import encode
from fluvial.hosting.messenger import Messenger
from fluvial.identity import PeerId
from fluvial.waiting import TimerHandle, later, now_s

GAP_S: Final = 0.1
"""Minimum gap between two rounds. Anybody may follow, and a busy ledger has hundreds of blocks a second: a message for each would cost more than they do."""


class FollowerNews:
    """See the module's docstring.

    Args:
        messenger: sends.
        followers: those who want to know.
        status: what there is to tell, now.
    """

    def __init__(
        self, messenger: Messenger, followers: Callable[[], Iterable[PeerId]], status: Callable[[], LedgerStatus]
    ) -> None:
        self._messenger, self._followers, self._status = messenger, followers, status
        self._next_at = 0.0
        self._timer: TimerHandle | None = None

    def tell(self) -> None:
        """There is a new block: tell of it now, or with those that come until the gap is over."""
        if self._timer is not None:
            return
        wait_s = self._next_at - now_s()
        if wait_s > 0:
            self._timer = later(wait_s, self._tell)
        else:
            self._tell()

    def close(self) -> None:
        """Tell nothing any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _tell(self) -> None:
        self._timer = None
        self._next_at = now_s() + GAP_S
        idle = [one for one in self._followers() if self._messenger.is_idle(one)]
        if idle:
            self._messenger.broadcast(idle, encode(self._status()))
