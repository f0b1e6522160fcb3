"""Structured logs: one event name and fields per line, for people or as JSON. Nothing global: each node has its own logger. And counters that are found quickly."""

from __future__ import annotations

import io
import json
import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo

from fluvial.log_output import LogOutput
from fluvial.strangers import escaped

LINES_PER_S: Final = 100
"""Lines of one event that are written in a second; each is about 250 bytes."""
LINE_CHARACTERS: Final = 1_000
"""A line with more characters counts as several."""
ESCAPED_CHARACTERS: Final = 6
"""What a character takes, of a text with others than those of ASCII that are seen."""
BURST_S: Final = 10
"""For so many seconds' lines there is room at once."""
EVENTS_MAX: Final = 1_024
"""Names of events that are told apart."""
TEXT_CHARACTERS_MAX: Final = 4_000
"""Longer texts are cut."""
OTHERS: Final = "(others)"
_LEVELS: Final = {"warn": "warning", "exception": "error"}
_STACK: Final = structlog.processors.StackInfoRenderer()


class LineLimit:
    """Bounds what is written to the log, whoever causes it.

    Each event has its own budget, so that a flood of one hides no other. The next line that is written says how many were not: ``left_out``. Long lines
    count as several: strangers choose names of services, for example.

    Args:
        per_s: lines of one event in a second.
        clock: seconds of a clock that never goes back.
    """

    def __init__(self, per_s: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._clock = clock
        self._events: dict[
            str, tuple[float, float, int]
        ] = {}  # lines that may be written, when that was so, left out since

    def refuses(self, event: str) -> bool:
        """Whether a line of this event is left out now, which is counted then: before anything is made of it."""
        if event not in self._events and len(self._events) >= EVENTS_MAX:
            event = OTHERS
        now, most = self._clock(), float(self._per_s * BURST_S)
        room, at, left_out = self._events.get(event, (most, now, 0))
        room = min(most, room + (now - at) * self._per_s)
        refused = room < 1
        self._events[event] = (room, now, left_out + refused)
        return refused

    def __call__(self, logger: object, method: str, fields: EventDict) -> EventDict:
        """A processor of structlog: a line that is not refused, with overlong texts cut."""
        event = str(fields["event"])
        characters = 0
        for name, value in fields.items():
            if isinstance(value, str):
                shown = value[:TEXT_CHARACTERS_MAX]
                characters += len(shown) * (1 if shown.isascii() and shown.isprintable() else ESCAPED_CHARACTERS)
                if len(shown) < len(value):
                    fields[name] = f"{shown[:-1]}…"
        if event not in self._events:
            event = OTHERS
        room, at, left_out = self._events[event]
        self._events[event] = (room - max(1.0, characters / LINE_CHARACTERS), at, 0)
        if left_out:
            fields["left_out"] = left_out
        return fields


def _limited(logger: type[Any], limit: LineLimit) -> type[Any]:
    """A class of loggers whose lines a limit may refuse."""

    def proxied(self: Any, method_name: str, event: str | None = None, **fields: Any) -> Any:
        return None if limit.refuses(str(event)) else logger._proxy_to_logger(self, method_name, event, **fields)

    return type("LimitedLogger", (logger,), {"_proxy_to_logger": proxied})


class JsonLine:
    """Renders a line as JSON, in ASCII: the last processor of structlog, in place of several that each look for what is seldom there."""

    def __init__(self) -> None:
        self._encode = json.JSONEncoder(default=repr).encode
        self._second = -1
        self._prefix = ""

    def __call__(self, logger: object, method: str, fields: EventDict) -> str:
        """The text of a line."""
        fields["level"] = _LEVELS.get(method, method)
        fields["timestamp"] = self._now()
        if "stack_info" in fields:
            fields = _STACK(logger, method, fields)
        if "exc_info" in fields:
            fields = structlog.processors.format_exc_info(logger, method, fields)
        return self._encode(fields)

    def _now(self) -> str:
        """ISO 8601, to the microsecond, as structlog writes it; all but the fraction is made once a second."""
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second, self._prefix = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{nanoseconds // 1000:06d}Z"


class _Quoted:
    """A text that is shown as Python writes it, with escapes: to structlog it is no text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return repr(self._text)


def _harmless(logger: object, method: str, fields: EventDict) -> EventDict:
    """A processor of structlog for lines that people read: whatever a terminal may take for a command is an escape. Strangers choose names of services, for example."""
    for name, value in fields.items():
        if isinstance(value, str) and not value.isprintable():
            fields[name] = _Quoted(value)
    return fields


def _write_traceback(stream: TextIO, exc_info: ExcInfo) -> None:
    """As structlog's plain one, harmless: others would show local variables, secrets among them."""
    written = io.StringIO()
    structlog.dev.plain_traceback(written, exc_info)
    stream.write(escaped(written.getvalue()))


def make_logger(
    *,
    log_format: Literal["console", "json"],
    log_level: str,
    lines_per_s: int = 0,
    file: TextIO | LogOutput | None = None,
) -> structlog.stdlib.BoundLogger:
    """A logger that writes to ``file`` (stderr by default); fields are bound with ``log.bind(peer=…)``.

    Args:
        log_format: ``json`` for machines, ``console`` for people (coloured on a terminal).
        log_level: the lowest level that is written: debug, info, warning or error.
        lines_per_s: how many lines of one event are written in a second, see :class:`LineLimit`; 0 for any number.
        file: where to.
    """
    stream = file if isinstance(file, LogOutput) else LogOutput(sys.stderr if file is None else file)
    logger_class: Any = structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[log_level.upper()])
    processors: list[Any] = []
    if lines_per_s:
        limit = LineLimit(lines_per_s)
        logger_class = _limited(logger_class, limit)
        processors.append(limit)
    processors.append(stream.tell_lost)
    if log_format == "json":
        processors.append(JsonLine())
    else:
        processors += [
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            _harmless,
            structlog.dev.ConsoleRenderer(
                colors=stream.for_people,
                pad_event_to=22,
                sort_keys=False,
                exception_formatter=_write_traceback,
            ),
        ]
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        stream,
        processors=processors,
        wrapper_class=logger_class,
        cache_logger_on_first_use=True,
    )
    return logger
