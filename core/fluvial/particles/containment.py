"""Turns unexpected exceptions of the AIR machine into a failure of one particle: a script that meets a bug must not end the node."""

from __future__ import annotations

import structlog

from fluvial.errors import FluvialError, Refused


class Contained:
    """For ``with``: contains what the block raises.

    Args:
        log: a logger bound to the particle.

    Raises:
        Refused: ``broken``, in place of any exception that is no FluvialError. That one is logged with its traceback.
    """

    __slots__ = ("_log",)

    def __init__(self, log: structlog.stdlib.BoundLogger) -> None:
        self._log = log

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, Exception) or isinstance(error, FluvialError):
            return
        self._log.error("particle_broken", exc_info=error)
        raise Refused(
            f"this peer cannot go on with the particle: {type(error).__name__}",
            reason="broken",
            hint="this is a bug of fluvial; the peer's log has the traceback",
        ) from error
