"""Whether a database works: told to the log when that changes, and to whoever asks for the peer's health."""

from __future__ import annotations

import time
from collections.abc import Iterator

import structlog

from fluvial.errors import StorageError
from fluvial.findings import Finding
from fluvial.storage.failures import concerns_all
from fluvial.storage.ownership import OwnershipLost


class Condition:
    """What became of writes; told by the writer.

    Args:
        log: told ``storage_failed`` when the database fails, and ``storage_works`` when that is over.
    """

    def __init__(self, log: structlog.stdlib.BoundLogger) -> None:
        self._log = log
        self._since_s = 0.0
        self.failure: StorageError | None = None
        """Why nothing can be written now; None if it can."""

    def watching(self, owner: str, seconds: float) -> None:
        """It is found out whether a process on another host writes to it, which takes so long at most."""
        self._log.info("database_watched", owner=owner, seconds=seconds)

    def taken_over(self, owner: str) -> None:
        """Whoever had it, elsewhere, did not give it back."""
        hint = "if it still runs, this is a copy of its database: stop one of the two, which are one peer with one key"
        self._log.warning("database_taken_over", owner=owner, hint=hint)

    def failed(self, error: StorageError) -> bool:
        """A write failed. Whether that is about the database as a whole, and not about this write: then the log has it."""
        if isinstance(error, OwnershipLost):
            if not isinstance(self.failure, OwnershipLost):
                self._begin(error)
            return True
        cause = error.__cause__
        if cause is None or not concerns_all(cause):
            return False
        if self.failure is None:
            self._begin(error)
        elif not isinstance(self.failure, OwnershipLost):
            self.failure = error  # the newest cause is of most use
        return True

    def worked(self) -> None:
        """A row was changed for sure, as the owner's beat does: other writes may have found nothing to write."""
        if self.failure is not None:
            seconds = round(time.monotonic() - self._since_s, 1)
            self._log.info("storage_works", seconds=seconds, error=self.failure.message)
            self.failure = None

    def unheard(self, error: StorageError) -> None:
        """Something failed for which nobody waited."""
        if not self.failed(error):
            self._log.error("storage_failed", error=error.message, hint=error.hint)

    def health(self) -> Iterator[Finding]:
        """Nothing while it works."""
        if (failure := self.failure) is not None:
            seconds = time.monotonic() - self._since_s
            yield Finding(
                level="fail",
                subject="store",
                text=f"nothing can be written since {seconds:.0f} s, and particles are refused: {failure.message}",
                hint=failure.hint,
                code=failure.code,
            )

    def _begin(self, error: StorageError) -> None:
        if self.failure is None:
            self._since_s = time.monotonic()
        self.failure = error
        self._log.error("storage_failed", error=error.message, hint=error.hint)
