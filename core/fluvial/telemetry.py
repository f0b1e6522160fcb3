"""Structured logs: one event name and fields per line, for people or as JSON. Nothing global: each node has its own logger."""

from __future__ import annotations

import logging
import sys
from typing import Any, Literal, TextIO

import structlog


def make_logger(
    *, log_format: Literal["console", "json"], log_level: str, file: TextIO | None = None
) -> structlog.stdlib.BoundLogger:
    """A logger that writes to ``file`` (stderr by default); fields are bound with ``log.bind(peer=…)``.

    Args:
        log_format: ``json`` for machines, ``console`` for people (coloured on a terminal).
        log_level: the lowest level that is written: debug, info, warning or error.
        file: where to.
    """
    out = sys.stderr if file is None else file
    renderer: Any = structlog.processors.JSONRenderer(default=repr)
    if log_format == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=out.isatty(),
            pad_event_to=22,
            sort_keys=False,
            exception_formatter=structlog.dev.plain_traceback,  # no other one: it would show local variables, secrets among them
        )
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        *([structlog.processors.format_exc_info] if log_format == "json" else []),
        renderer,
    ]
    level = logging.getLevelNamesMapping()[log_level.upper()]
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        structlog.PrintLogger(out),
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    return logger
