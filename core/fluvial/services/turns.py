"""Heavy work on the event loop, such as encoding a large result, is done in turn: the caller of a service says how turns are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

ResultT = TypeVar("ResultT")


class InTurn(Protocol):
    """Does a piece of work when its turn has come."""

    async def __call__(self, work: Callable[[], ResultT], /, *, light: bool = False, pure: bool = False) -> ResultT:
        """The result of the work; raises as it does.

        What is light needs no turn, unless much of it comes together. What is pure uses nothing but what it was given: if it is heavy, a thread does it.
        """
        ...


async def at_once(work: Callable[[], ResultT], /, *, light: bool = False, pure: bool = False) -> ResultT:
    """Where nobody else has to be protected, the turn has always come."""
    return work()
