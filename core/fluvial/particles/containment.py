"""The line around the AIR machine: a bug in there, which a script may have been made to meet, costs that particle and not the node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from fluvial.errors import FluvialError, Refused


@contextmanager
def contained(log: structlog.stdlib.BoundLogger) -> Iterator[None]:
    """Run the machine in here.

    Raises:
        Refused: ``broken``, for everything that is no error of ours; it is logged with its traceback.
    """
    try:
        yield
    except FluvialError:
        raise
    except Exception as error:
        log.exception("particle_broken")
        raise Refused(
            f"this peer cannot go on with the particle: {type(error).__name__}",
            reason="broken",
            hint="this is a bug of fluvial; the peer's log has the traceback",
        ) from error
