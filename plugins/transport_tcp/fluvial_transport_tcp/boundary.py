"""The line around what belongs to one connection: whatever goes wrong there costs that connection, not the node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from logging import ERROR

from fluvial.throttling import ThrottledLog


@contextmanager
def contained(what: str, log: ThrottledLog) -> Iterator[None]:
    """Turn an unexpected exception of the body into a log line with its traceback.

    Args:
        what: where it happened, in a word or two; always the same for the same place.
        log: where to; throttled, since others may know how to cause it.
    """
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the boundary: everything expected was caught inside
        note_failure(what, log, error)


def note_failure(what: str, log: ThrottledLog, error: Exception) -> None:
    """Log an unexpected exception; arguments as for :func:`contained`."""
    log.note("connection_failed", what, level=ERROR, error=type(error).__name__, exc_info=error)
