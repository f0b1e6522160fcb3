"""Log lines that others can cause: one a period for each reason, with a count."""

from __future__ import annotations

from collections.abc import Callable
from logging import INFO
from typing import Any, Final

import structlog

PERIOD_S: Final = 30.0
"""Between two lines about the same reason."""
CAUSES_MAX: Final = 1_024
"""Causes that are told apart at one time; what others cause is counted together."""
LINES_AT_ONCE: Final = 64
"""Lines of one look: a millisecond; the next one goes on with the others."""


class _Gathered:
    """What happened for one reason since its last line."""

    __slots__ = ("count", "fields", "said_at")

    def __init__(self, said_at: float) -> None:
        self.said_at = said_at
        self.count = 0
        self.fields: dict[str, Any] = {}


class ThrottledLog:
    """Says the first of its kind at once, and then at most one line a period: how many there were and what the last one was.

    Args:
        log: where to.
        clock: seconds of a clock that never goes back.
        period_s: between two lines about the same reason.
    """

    def __init__(
        self, log: structlog.stdlib.BoundLogger, *, clock: Callable[[], float], period_s: float = PERIOD_S
    ) -> None:
        self._log = log
        self._clock = clock
        self._period_s = period_s
        self._gathered: dict[tuple[str, str, str], _Gathered] = {}

    def note(self, event: str, reason: str, *, cause: str = "", level: int = INFO, **fields: Any) -> None:
        """Something happened.

        Args:
            event: name of the log event; always of the same level.
            reason: a word of a closed list, so that the number of lines is bounded.
            cause: who is to blame, if they are to be told apart; the line does not say it by itself.
            level: of the line.
            fields: what the line says besides; of several events the last one's.
        """
        if cause and (event, reason, cause) not in self._gathered and len(self._gathered) >= CAUSES_MAX:
            cause = ""
        gathered = self._gathered.get((event, reason, cause))
        if gathered is None:
            self._gathered[event, reason, cause] = _Gathered(self._clock())
            self._log.log(level, event, reason=reason, count=1, **fields)
        else:
            gathered.count += 1
            gathered.fields = {"level": level, **fields}

    def look(self) -> None:
        """Say what has gathered; call it every second or so."""
        now, lines = self._clock(), 0
        for key, gathered in list(self._gathered.items()):
            if now - gathered.said_at < self._period_s:
                continue
            if not gathered.count:
                del self._gathered[key]
                continue
            if lines == LINES_AT_ONCE:
                return
            lines += 1
            event, reason, _ = key
            level = gathered.fields.pop("level")
            self._log.log(level, event, reason=reason, count=gathered.count, **gathered.fields)
            self._gathered[key] = _Gathered(now)
