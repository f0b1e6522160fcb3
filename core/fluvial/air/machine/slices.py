"""Work in slices: a machine hands control back after a bounded number of steps, or some milliseconds, and goes on when it is asked to.

What can take long is written as a generator (:data:`Sliced`). It yields None whenever a slice is over, and its result at last. So what is
done, and in which order, does not depend on where slices end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, Generic, TypeAlias, TypeVar

ResultT = TypeVar("ResultT")

Sliced: TypeAlias = Iterator[ResultT | None]
"""Work that yields None at the end of each slice, and its result at last."""

SLICE_STEPS: Final = 1_000
"""Steps of a slice that its host does not feel: some milliseconds."""

UNSLICED: Final = 1_000_000_000
"""More steps than any run has."""

SLICE_S: Final = 0.004
"""After so long, in seconds, a slice is over whatever its steps, if its host has a clock: some steps take much longer than others."""

Clock: TypeAlias = Callable[[], float]
"""Seconds that pass; only a host has one."""

NO_CLOCK: Final[Clock] = float
"""Stands still: slices end by their steps only, always at the same ones."""

BUSY: Final = "another run of this machine has not ended, or was given up"


class Runner:
    """Sees to it that a machine does one piece of work at a time.

    Args:
        allow: begins a slice of so many steps, by this clock.
    """

    __slots__ = ("allow", "busy")

    def __init__(self, allow: Callable[[int, Clock], None]) -> None:
        self.allow: Final = allow
        self.busy = False

    def finish(self, work: Sliced[ResultT]) -> ResultT:
        """Do a piece of work at once.

        Raises:
            RuntimeError: as :class:`Run`. Exception: as the work does.
        """
        if self.busy:
            raise RuntimeError(BUSY)
        self.allow(UNSLICED, NO_CLOCK)
        for result in work:
            if result is not None:
                return result
            self.allow(UNSLICED, NO_CLOCK)
        raise AssertionError("work ends with its result")


class Run(Generic[ResultT]):
    """One piece of work of a machine, done in slices.

    Until it has ended, nothing else may be done with the machine. If it is given up before, the machine must be thrown away.

    Args:
        runner: of the machine.
        work: what is to be done.

    Raises:
        RuntimeError: another run of the machine has not ended, or was given up: a bug of the host.
    """

    __slots__ = ("_runner", "_work")

    def __init__(self, runner: Runner, work: Sliced[ResultT]) -> None:
        if runner.busy:
            raise RuntimeError(BUSY)
        runner.busy = True
        self._runner: Final = runner
        self._work = work

    def advance(self, steps: int = SLICE_STEPS, clock: Clock = NO_CLOCK) -> ResultT | None:
        """Do a slice of the work.

        Args:
            steps: how many steps; at least 1. A step takes some microseconds.
            clock: ends the slice after :data:`SLICE_S`, if that is before.

        Returns:
            The result, if the work has ended; None if more is left to do.

        Raises:
            Exception: as the work does; it has ended then.
        """
        self._runner.allow(steps, clock)
        try:
            result = next(self._work)
        except Exception:
            self._runner.busy = False
            raise
        if result is not None:
            self._runner.busy = False
        return result

    def then(self, more: Callable[[], Iterator[None]]) -> None:
        """Do more work in slices when the work has ended, before its result is given."""
        self._work = _followed(self._work, more)


def _followed(work: Sliced[ResultT], more: Callable[[], Iterator[None]]) -> Sliced[ResultT]:
    for result in work:
        if result is not None:
            yield from more()
        yield result
