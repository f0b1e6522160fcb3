"""Turns unexpected exceptions of the AIR machine into a failure of one particle: a script that meets a bug must not end the node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from fluvial.errors import FluvialError, Refused


@contextmanager
def contained(log: structlog.stdlib.BoundLogger) -> Iterator[None]:
    """Contain what the block raises.

    Raises:
        Refused: ``broken``, in place of any exception that is no FluvialError. That one is logged with its traceback.
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
