"""Coroutines whose first stretch, up to where they first have to wait, is made at once, by whoever begins them.

Much of what may have to wait mostly need not: a service that computes, a commit on a quick disk. What such work would cost in case it waits, a
task with its turns of the event loop or a cancel scope, is then paid only where it does.

Source: Python documentation, ``asyncio.eager_task_factory``, for which Python 3.12 is needed; and "Extending", for functions that it has for
implementers of tasks.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine, Generator
from contextvars import Context
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

import anyio

T = TypeVar("T")


class Begun(Coroutine[Any, Any, T], Generic[T]):
    """A coroutine that goes on with another one, of which :meth:`begin` has made the first stretch.

    Args:
        work: the other one; nobody else awaits it.
    """

    __slots__ = ("_over", "_result", "_told", "_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._waits_for: Any = None
        self._told = True
        self._result: T | None = None
        self._over = False

    @property
    def over(self) -> bool:
        """Whether nothing is left to do since the first stretch was all of it."""
        return self._over

    @property
    def result(self) -> T:
        """What the work returned, if it is over."""
        assert self._over, "it goes on"
        return self._result  # type: ignore[return-value]  # set then

    def begin(self) -> bool:
        """Make the first stretch, once; whether nothing is left to do. Raises as the work does."""
        try:
            self._waits_for = self._work.send(None)
            self._told = False
        except StopIteration as end:
            self._result, self._over = end.value, True
        return self._over

    def begin_as(self, task: asyncio.Task[Any], context: Context) -> bool:
        """As :meth:`begin`, as a part of the task that goes on with it, and in its context; called while that has not begun."""
        loop, caller = task.get_loop(), asyncio.current_task()
        if caller is not None:
            _leave_task(loop, caller)
        _enter_task(loop, task)
        try:
            return context.run(self.begin)
        finally:
            _leave_task(loop, task)
            if caller is not None:
                _enter_task(loop, caller)

    # --- what a coroutine has

    def send(self, value: Any) -> Any:
        """Go on; raises StopIteration with the result when it is over."""
        if self._over:
            raise StopIteration(self._result)
        if self._told:
            return self._work.send(value)
        self._told = True
        waits_for, self._waits_for = self._waits_for, None
        return waits_for

    def throw(self, raised: Any, value: Any = None, traceback: TracebackType | None = None) -> Any:
        """Have the work raise something where it waits; what is over raises it itself."""
        self._told, self._waits_for = True, None
        if self._over:
            raise raised
        return self._work.throw(raised, value, traceback)

    def close(self) -> None:
        """End the work."""
        self._work.close()

    def __getattr__(self, name: str) -> Any:
        """What anyio and debuggers look at, such as ``cr_frame``."""
        if name.startswith("cr_"):
            return getattr(self._work, name)
        raise AttributeError(name)

    def __await__(self) -> Generator[Any, Any, T]:
        return cast("Generator[Any, Any, T]", self)

    def __iter__(self) -> Begun[T]:
        return self

    def __next__(self) -> Any:
        return self.send(None)


async def shielded(work: Coroutine[Any, Any, T]) -> T:
    """The result of work, to which a cancellation of the caller does nothing; raises as it does.

    The first stretch is made before there is a scope, so the work must not open one in which it first waits.
    """
    begun = Begun(work)
    if begun.begin():
        return begun.result
    with anyio.CancelScope(shield=True):
        return await begun
    raise AssertionError("nobody cancels the scope")
