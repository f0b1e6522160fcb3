"""The database as one part of the node sees it: shared with all others, so that who holds it up is known by name."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter

from fluvial.prepared import Prepared
from fluvial.storage.committer import Work
from fluvial.storage.database import SharedDatabase
from fluvial.storage.direct import DirectWrite

if TYPE_CHECKING:
    from sqlalchemy import Connection

T = TypeVar("T")
GivenT = TypeVar("GivenT")

WORK_BUDGET_S: Final = 0.05
"""How long one write may hold up all others without being reported."""


class PartDatabases:
    """Makes the databases of parts; they share one connection that writes.

    Args:
        database: the open database.
        metrics: gets ``fluvial_database_slow_writes_total{part}``.
        log: where writes beyond the budget are reported.
    """

    def __init__(
        self, database: SharedDatabase, *, metrics: CollectorRegistry, log: structlog.stdlib.BoundLogger
    ) -> None:
        self._database = database
        self._log = log
        self._slow = Counter(
            "fluvial_database_slow_writes", "Writes that held up all others for too long", ["part"], registry=metrics
        )

    def of(self, part: str) -> PartDatabase:
        """The database for the part of this name."""
        return PartDatabase(self._database, part, self._report)

    def _report(self, part: str, seconds: float) -> None:
        self._slow.labels(part=part).inc()
        self._log.warning("database_write_slow", part=part, seconds=round(seconds, 3), budget=WORK_BUDGET_S)


class PartDatabase:
    """The port ``Database`` of one part. A part touches only tables of its own prefix.

    Args:
        database: the open database.
        part: the part's name.
        report: told the part and the seconds of a write that took longer than ``WORK_BUDGET_S``.
    """

    def __init__(self, database: SharedDatabase, part: str, report: Callable[[str, float], None]) -> None:
        self._database = database
        self._part = part
        self._report = report

    async def write(self, work: Work[T]) -> T:
        """What ``work`` returns, once that is durable; see ``SharedDatabase.write``. Core's own parts have direct writes, too."""
        if isinstance(work, DirectWrite):
            return await self._database.write(work)
        took = 0.0

        def timed(run: Callable[[GivenT], T]) -> Callable[[GivenT], T]:
            def running(given: GivenT) -> T:
                nonlocal took
                began = time.perf_counter()
                try:
                    return run(given)
                finally:
                    took = max(took, time.perf_counter() - began)

            return running

        try:
            return await self._database.write(Prepared(timed(work.run)) if isinstance(work, Prepared) else timed(work))
        finally:
            if took > WORK_BUDGET_S:
                self._report(self._part, took)

    async def read(self, work: Callable[[Connection], T] | Prepared[T]) -> T:
        """What ``work`` returns, run in a snapshot with all that was acknowledged before; see ``SharedDatabase.read``."""
        return await self._database.read(work)
