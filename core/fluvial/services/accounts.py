"""Counts calls, their outcomes and their times: metrics for the operator, counters per service for the service ``stat``."""

from __future__ import annotations

from collections import deque
from typing import Final, Literal, TypeAlias

import msgspec
from prometheus_client import CollectorRegistry, Counter, Histogram

from fluvial.clock import Clock
from fluvial.services.status import Status

Kind: TypeAlias = Literal["builtin", "effector", "native", "extra", "particle", "execution", "unknown"]
"""The kind of a service. Metrics carry it instead of the service id, because scripts could invent any number of ids."""

SERIES_MAX: Final = 5
"""How many of the last calls ``stat`` shows individually, as in the reference."""

COUNTED_MAX: Final = 4_096
"""Most functions with counters of their own, over all services; calls of further functions are in the metrics only."""

OUTCOMES: Final[dict[int, str]] = {
    0: "ok",
    Status.UNKNOWN_SERVICE: "unknown_service",
    Status.UNKNOWN_FUNCTION: "unknown_function",
    Status.TIMED_OUT: "timed_out",
    Status.BAD_ARGUMENTS: "bad_arguments",
    Status.FAILED: "failed",
    Status.BUSY: "busy",
    Status.NO_RESULT: "no_result",
    Status.NOT_ALLOWED: "not_allowed",
}
"""The metric's outcome for each status; any other status is ``error``, a call that was cancelled is ``cancelled``."""

CANCELLED: Final = "cancelled"


class Counts(msgspec.Struct):
    """The calls of one function or service.

    Attributes:
        calls, failures: number of all calls, and of those that failed.
        seconds: total time of the calls that succeeded.
        series: seconds of the last of these.
        times_s: when the last calls ended, seconds since 1970.
    """

    calls: int = 0
    failures: int = 0
    seconds: float = 0.0
    series: deque[float] = msgspec.field(default_factory=lambda: deque(maxlen=SERIES_MAX))
    times_s: deque[int] = msgspec.field(default_factory=lambda: deque(maxlen=SERIES_MAX))

    def add(self, *, failed: bool, seconds: float, time_s: int) -> None:
        """Count one call."""
        self.calls += 1
        self.times_s.append(time_s)
        if failed:
            self.failures += 1
        else:
            self.seconds += seconds
            self.series.append(seconds)


class Accounts:
    """Counts calls.

    Args:
        metrics: gets ``fluvial_service_calls_total{service_kind,outcome}`` and ``fluvial_service_call_seconds{service_kind}``.
        clock: gives the time of each counted call.
    """

    def __init__(self, *, metrics: CollectorRegistry, clock: Clock) -> None:
        self._clock = clock
        self._functions: dict[str, dict[str, Counts]] = {}
        self._services: dict[str, Counts] = {}
        self._counted = 0
        self._calls = Counter(
            "fluvial_service_calls", "Service calls by how they ended.", ["service_kind", "outcome"], registry=metrics
        )
        self._seconds = Histogram(
            "fluvial_service_call_seconds",
            "Time of service calls, waiting for a place included.",
            ["service_kind"],
            registry=metrics,
        )
        # To look them up by their labels costs as much as to count.
        self._children: dict[tuple[Kind, str], tuple[Counter, Histogram]] = {}

    def observe(self, kind: Kind, outcome: str, seconds: float) -> None:
        """Record one call in the metrics."""
        if (found := self._children.get((kind, outcome))) is None:
            found = self._children[kind, outcome] = self._calls.labels(kind, outcome), self._seconds.labels(kind)
        calls, times = found
        calls.inc()
        times.observe(seconds)

    def count(self, service: str, function: str, *, failed: bool, seconds: float) -> None:
        """Record one call in the counters; only for functions that exist."""
        functions = self._functions.get(service, {})
        if function not in functions:
            if self._counted >= COUNTED_MAX:
                return
            self._counted += 1
            functions = self._functions.setdefault(service, functions)
            functions[function] = Counts()
        time_s = self._clock.now_ms() // 1000
        for counts in (functions[function], self._services.setdefault(service, Counts())):
            counts.add(failed=failed, seconds=seconds, time_s=time_s)

    def of(self, service: str) -> tuple[Counts, dict[str, Counts]] | None:
        """The counts of a service and of each of its functions; None if it was never called."""
        if (total := self._services.get(service)) is None:
            return None
        return total, self._functions[service]

    def forget(self, service: str) -> None:
        """Drop the counters of a service that was withdrawn."""
        self._services.pop(service, None)
        self._counted -= len(self._functions.pop(service, {}))
