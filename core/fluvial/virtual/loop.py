"""An event loop with a clock of its own.

The loop is asyncio's over a selector that never waits. asyncio asks its selector, once for each turn, to wait for files until the next
timer is due; this one adds the time to the loop's clock instead and reports no file. Three things follow:

- While a callback is ready the clock stands still; all that happens in one turn happens at one time.
- When no callback is ready and no timer is set, nothing can ever happen again. That is a :class:`Deadlock`, raised with a list of
  what waits, where another loop would hang.
- Whatever comes from outside (sockets, pipes, threads) would arrive at a time that nobody has chosen. It is refused with :class:`NotVirtual`.

The order of events is the same in every process. Timers and queues are ordered already, but anyio keeps what a cancellation must reach, tasks
and scopes, in sets, whose order would be that of addresses in memory. So under virtual time a task is hashed by its number and a scope by its task's; for that
the ``__hash__`` of anyio's scopes is replaced, in a process that makes a virtual loop, by one that is the old one on every other loop.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping
from contextvars import Context
from itertools import count
from typing import Any, Final, NoReturn, TypeVar, TypeVarTuple

import anyio

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

WAITING_NAMED_MAX: Final = 12
"""Tasks that the text of a :class:`Deadlock` lists; the first ones began first."""


class Deadlock(RuntimeError):
    """Nothing is ready, no timer is set: under virtual time nothing can happen any more."""


class NotVirtual(RuntimeError):
    """Something wants to reach out of virtual time: a socket, a pipe, a signal or a thread."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time begins at 0 and moves only when nothing else can be done."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        self._numbers = count(1)
        super().__init__(_Jump(self))
        self.set_task_factory(self._numbered)
        self.call_soon(_number_scopes)

    def time(self) -> float:
        """Seconds of virtual time since the loop was made."""
        return self._virtual_s

    def jump(self, seconds: float) -> None:
        """Move the clock; called by the selector."""
        self._refuse_threads()
        self._virtual_s = max(self._virtual_s + seconds, math.nextafter(self._virtual_s, math.inf))

    def stuck(self) -> NoReturn:
        """Say that nothing can happen any more; called by the selector.

        Raises:
            Deadlock: always.
            NotVirtual: a thread is what they wait for.
        """
        self._refuse_threads()
        waiting = sorted(asyncio.all_tasks(self), key=hash)
        named = [f"\n  {task.get_name()}: {_place(task)}" for task in waiting[:WAITING_NAMED_MAX]]
        rest = f"\n  and {len(waiting) - WAITING_NAMED_MAX} more" if len(waiting) > WAITING_NAMED_MAX else ""
        raise Deadlock(
            f"at {self._virtual_s:g} s of virtual time no task is ready and no timer is set. Waiting:{''.join(named)}{rest}"
        )

    def _numbered(
        self, loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T], **more: Any
    ) -> asyncio.Future[T]:
        return _NumberedTask(coroutine, loop=loop, number=next(self._numbers), **more)

    def _refuse_threads(self) -> None:
        """A thread of anyio's that belongs to this loop would answer at a time that nobody has chosen."""
        if threading.active_count() > 1 and any(getattr(one, "loop", None) is self for one in threading.enumerate()):
            raise NotVirtual(
                "a thread was started with anyio.to_thread (anyio.Path does it, too), whose end virtual time cannot know; "
                "use fluvial.virtual.threads.in_thread, which does the work at once under virtual time"
            )

    # --- ways out of virtual time

    def run_in_executor(self, executor: Any, func: Callable[[*Arguments], T], *args: *Arguments) -> asyncio.Future[T]:
        """Refused: threads."""
        raise NotVirtual(f"{func} cannot run in a thread under virtual time; use fluvial.virtual.threads.in_thread")

    def add_signal_handler(self, sig: int, callback: Callable[[*Arguments], Any], *args: *Arguments) -> None:
        """Refused: a signal comes at no virtual time."""
        raise NotVirtual(f"signal {sig} cannot be waited for under virtual time")

    async def create_connection(self, *args: Any, **more: Any) -> NoReturn:
        """Refused: sockets."""
        raise NotVirtual(_NO_SOCKETS)

    async def create_server(self, *args: Any, **more: Any) -> NoReturn:
        """Refused: sockets."""
        raise NotVirtual(_NO_SOCKETS)

    async def subprocess_exec(self, *args: Any, **more: Any) -> NoReturn:
        """Refused: processes."""
        raise NotVirtual(_NO_PROCESSES)

    async def subprocess_shell(self, *args: Any, **more: Any) -> NoReturn:
        """Refused: processes."""
        raise NotVirtual(_NO_PROCESSES)


def run(main: Callable[[*Arguments], Awaitable[T]], *arguments: *Arguments) -> T:
    """What a coroutine function returns, run to its end on a new :class:`VirtualLoop`.

    Raises:
        Deadlock: it waits for something that cannot happen.
        NotVirtual: it wants to reach out of virtual time.
    """
    return anyio.run(main, *arguments, backend="asyncio", backend_options={"loop_factory": VirtualLoop})


BACKEND: Final[tuple[str, dict[str, Any]]] = ("asyncio", {"loop_factory": VirtualLoop})
"""What a fixture ``anyio_backend`` returns for tests that run under virtual time."""


def is_virtual() -> bool:
    """Whether the event loop that runs now is one of these."""
    return isinstance(asyncio.get_running_loop(), VirtualLoop)


_NO_SOCKETS: Final = "there are no sockets under virtual time; let the peers talk over the transport `memory`"

_NO_PROCESSES: Final = "a process takes time of its own: under virtual time none can be started"


class _NumberedTask(asyncio.Task[T]):
    """A task whose place in a set does not depend on its address."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        loop: asyncio.AbstractEventLoop,
        number: int,
        name: str | None = None,
        context: Context | None = None,
        **more: Any,
    ) -> None:
        self._number = number
        super().__init__(coroutine, loop=loop, name=name, context=context, **more)

    def __hash__(self) -> int:
        return self._number


def _number_scopes() -> None:
    """Give anyio's cancel scopes the hash below."""
    kind: Any = type(anyio.CancelScope())
    kind.__hash__ = _hash_of_scope


def _hash_of_scope(scope: object) -> int:
    """That of the task which has entered it, while that is a numbered one; else the old one. A private name of anyio 4: a test holds it."""
    host = getattr(scope, "_host_task", None)
    return hash(host) if isinstance(host, _NumberedTask) else object.__hash__(scope)


class _Jump(selectors.BaseSelector):
    """Takes the one file that the loop itself needs, by which threads would wake it, and never looks at it."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._files: dict[Any, selectors.SelectorKey] = {}

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let the time pass."""
        if timeout is None:
            self._loop.stuck()
        if timeout > 0:
            self._loop.jump(timeout)
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Only the loop's own wake-up pipe."""
        if self._files:
            raise NotVirtual(_NO_SOCKETS)
        key = self._files[fileobj] = selectors.SelectorKey(fileobj, int(fileobj), events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Raises KeyError for files that are not there, as selectors do."""
        return self._files.pop(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """The files that are there."""
        return self._files


def _place(task: asyncio.Task[Any]) -> str:
    """Where the innermost coroutine of a task waits that is neither asyncio's nor anyio's."""
    awaitable: Any = task.get_coro()
    place = "unknown"
    while awaitable is not None:
        frame = getattr(awaitable, "cr_frame", None) or getattr(awaitable, "ag_frame", None)
        if frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] not in ("anyio", "asyncio"):
            place = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        awaitable = getattr(awaitable, "cr_await", None) or getattr(awaitable, "ag_await", None)
    return place
