"""``stat``: how often this peer's services were called, and how long they took."""

from __future__ import annotations

import msgspec

from fluvial.effectors import Call, Effector, NoConfig, function
from fluvial.errors import ServiceError
from fluvial.services.accounts import Counts
from fluvial.services.dispatcher import Services
from fluvial.services.status import Status, listed, shortened


class Series(msgspec.Struct, frozen=True):
    """Measurements: average and sum of all, and the last five."""

    avg: float = 0.0
    series: list[float] = []
    total: float = 0.0


class Stats(msgspec.Struct, frozen=True):
    """The calls of a function or service; times are those of successful calls.

    ``memory_deltas_bytes`` is part of the reference's record; the memory of Python services is not measured.
    """

    success_req_count: int
    failed_req_count: int
    call_time_sec: Series
    memory_deltas_bytes: Series
    timestamps: list[int]


class FunctionStat(msgspec.Struct, frozen=True):
    """The calls of one function."""

    name: str
    stats: Stats


class ServiceStat(msgspec.Struct, frozen=True):
    """The calls of a service, in total and by function."""

    total_stats: Stats
    functions_stats: list[FunctionStat]


class StatResult(msgspec.Struct, frozen=True):
    """Statistics, or why there are none; ``result`` is an array of none or one."""

    status: bool
    error: str
    result: list[ServiceStat]


class MemoryStat(msgspec.Struct, frozen=True):
    """The memory of one module of a service."""

    name: str
    memory_size_bytes: int
    max_memory_size_bytes: int


class Stat(Effector[NoConfig]):
    """Statistics of services since the peer was started.

    Args:
        services: whose calls are counted.
    """

    service_id = "stat"

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services

    @function(inline=True)
    def service_stat(self, call: Call, service_id: str) -> StatResult:
        """Number of calls and failures, and times in seconds, of a service and of each of its functions.

        Only for those to whom the peer's owner discloses its services (else status 8).
        """
        self._check(call, service_id)
        counted = self._services.accounts.of(service_id)
        if counted is None:
            return StatResult(False, f"service {service_id!r} was not called yet", [])
        total, functions = counted
        by_function = [FunctionStat(name, _stats(functions[name])) for name in sorted(functions)]
        return StatResult(True, "", [ServiceStat(_stats(total), by_function)])

    @function(inline=True)
    def service_memory(self, call: Call, service_id: str) -> list[MemoryStat]:
        """The memory of each module of a service; Python services have no modules. As for `service_stat`, not everybody may ask."""
        self._check(call, service_id)
        return []

    def _check(self, call: Call, service_id: str) -> None:
        self._services.disclosure.check(call, "services")
        if service_id not in (there := self._services.functions()):
            names = listed(list(there), most=20)
            raise ServiceError(Status.NO_RESULT, f"no service {shortened(service_id, 80)!r} here; there are: {names}")


def _stats(counts: Counts) -> Stats:
    successes = counts.calls - counts.failures
    average = counts.seconds / successes if successes else 0.0
    times = Series(average, list(counts.series), counts.seconds)
    return Stats(successes, counts.failures, times, Series(), list(counts.times_s))
