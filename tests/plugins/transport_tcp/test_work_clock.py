"""What is charged to connections is processor time, though a cheaper clock is looked at."""

from __future__ import annotations

from fluvial_transport_tcp.work_clock import DOUBTFUL_S, WorkClock


class Machine:
    """A clock, and the processor time of a thread; who asks for that is counted."""

    def __init__(self) -> None:
        self.now = self.used = 100.0
        self.asked = 0
        self.clock = WorkClock(lambda: self.now, self._used)

    def _used(self) -> float:
        self.asked += 1
        return self.used

    def work(self, seconds: float, *, others: float = 0.0) -> float:
        """What is measured of work during which other threads have the processor for a while."""
        self.clock.used()
        began = self.clock.now()
        self.used += seconds
        self.now += seconds + others
        return round(self.clock.since(began), 9)


def test_a_thread_that_did_not_run_is_not_charged() -> None:
    assert Machine().work(0.0003, others=0.05) == 0.0003


def test_long_work_is_charged_as_long() -> None:
    assert Machine().work(0.05) == 0.05


def test_the_system_is_not_asked_about_short_work() -> None:
    machine = Machine()
    assert machine.work(DOUBTFUL_S / 2) == DOUBTFUL_S / 2
    assert machine.asked == 1
