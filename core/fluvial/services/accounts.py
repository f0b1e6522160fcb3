"""Counts calls, their outcomes and their times: metrics for the operator, counters per service for the service ``stat``."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final, Literal, TypeAlias

import msgspec
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

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

BOUNDS_S: Final = Histogram.DEFAULT_BUCKETS
"""Upper bounds of the times that the metrics tell apart, in seconds, the last one infinite."""
_BOUNDS: Final = tuple(map(floatToGoString, BOUNDS_S))


class _Times(msgspec.Struct):
    """How long the calls of one kind of service took."""

    calls: list[int] = msgspec.field(default_factory=lambda: [0] * len(BOUNDS_S))
    seconds: float = 0.0


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
        self._calls: dict[tuple[Kind, str], int] = {}
        self._times: dict[Kind, _Times] = {}
        metrics.register(self)

    def observe(self, kind: Kind, outcome: str, seconds: float) -> None:
        """Record one call in the metrics: in plain numbers, since a peer makes many more calls than it is asked for its metrics."""
        self._calls[kind, outcome] = self._calls.get((kind, outcome), 0) + 1
        if (times := self._times.get(kind)) is None:
            times = self._times[kind] = _Times()
        times.calls[bisect_left(BOUNDS_S, seconds)] += 1
        times.seconds += seconds

    def describe(self) -> Iterator[Metric]:
        """For the registry: which metrics :meth:`collect` gives."""
        return self._metrics({}, {})

    def collect(self) -> Iterator[Metric]:
        """For the registry: the metrics as they are now."""
        return self._metrics(dict(self._calls), dict(self._times))

    def _metrics(self, calls: Mapping[tuple[Kind, str], int], times: Mapping[Kind, _Times]) -> Iterator[Metric]:
        counted = CounterMetricFamily(
            "fluvial_service_calls", "Service calls by how they ended.", labels=["service_kind", "outcome"]
        )
        for labels, number in calls.items():
            counted.add_metric(labels, number)
        yield counted
        timed = HistogramMetricFamily(
            "fluvial_service_call_seconds",
            "Time of service calls, waiting for a place included.",
            labels=["service_kind"],
        )
        for kind, one in times.items():
            timed.add_metric([kind], list(zip(_BOUNDS, accumulate(one.calls), strict=True)), one.seconds)
        yield timed

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
