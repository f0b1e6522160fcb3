"""An input of a session that its shell does in slices, so that a long run does not hold up the event loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, Protocol, TypeVar

from fluvial.air.machine.slices import NO_CLOCK, SLICE_STEPS, UNSLICED, Clock, Run

DoneT = TypeVar("DoneT")
ResultT = TypeVar("ResultT")


class MachineHolder(Protocol):
    """What holds the machine; the session."""

    @property
    def held(self) -> int:
        """How many bytes of memory it holds, about."""
        ...

    @property
    def steps(self) -> int:
        """How many steps the machine has made."""
        ...

    def release(self) -> Iterator[None]:
        """Give back the memory, in slices; it cannot be used any more."""
        ...


class SlicedInput(Generic[DoneT, ResultT]):
    """An input of a session that its shell does in slices.

    Args:
        run: the machine's part of it.
        ended: takes in what the machine's run came to.
        holder: what holds the machine.

    Attributes:
        holder: as above.
    """

    __slots__ = ("_ended", "_run", "holder")

    def __init__(self, run: Run[DoneT], ended: Callable[[DoneT], ResultT], holder: MachineHolder) -> None:
        self.holder = holder
        self._run = run
        self._ended = ended

    def advance(self, steps: int = SLICE_STEPS, clock: Clock = NO_CLOCK) -> ResultT | None:
        """Do a slice of so many steps, or of some milliseconds by a clock; the result if that was the last one. Raises as the input does."""
        done = self._run.advance(steps, clock)
        return None if done is None else self._ended(done)

    @property
    def held(self) -> int:
        """How many bytes of memory are held by now, about."""
        return self.holder.held

    def finish(self) -> ResultT:
        """Do all that is left at once."""
        while (result := self.advance(UNSLICED)) is None:
            pass
        return result


def at_once(work: Iterator[None]) -> None:
    """Do work in slices, such as giving memory back, to its end: it is small, or nobody waits for this thread."""
    for _ in work:
        pass
