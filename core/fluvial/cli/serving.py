"""Runs the asynchronous work of commands until it ends or the operating system asks it to stop."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import anyio
from anyio.abc import TaskStatus

from fluvial.cli.process_end import STOP_SIGNALS, ProcessEnd
from fluvial.config.settings import LoopKind
from fluvial.errors import ConfigError, root_cause
from fluvial.garbage import tend_garbage
from fluvial.guard.steady_loop import SteadyLoop
from fluvial.node import Node

T = TypeVar("T")


def run(work: Callable[[], Awaitable[T]], loop: LoopKind = "asyncio") -> T:
    """Run ``work`` in an event loop and return its result.

    Args:
        work: what to run.
        loop: which kind of event loop.

    Raises:
        ConfigError: this kind of loop is not installed.
        FluvialError: as ``work`` raised it, without the exception groups around it.
    """

    async def unwrapped() -> T:
        try:
            return await work()
        except BaseExceptionGroup as group:
            raise root_cause(group) from None

    return anyio.run(unwrapped, backend="asyncio", backend_options={"loop_factory": _loops(loop)})


def _loops(kind: LoopKind) -> Callable[[], object]:
    if kind == "asyncio":
        return SteadyLoop
    try:
        from fluvial.guard.steady_uvloop import SteadyUvloop
    except ImportError as error:
        raise ConfigError(
            f"event_loop: uvloop cannot be used: {error}", hint="`pip install 'fluvial[uvloop]'`, or take asyncio"
        ) from error
    return SteadyUvloop


async def until_signalled(work: Callable[[], Awaitable[object]]) -> signal.Signals | None:
    """Do something until it ends or one of :data:`STOP_SIGNALS` comes, then cancel it.

    Returns:
        The signal; None if the work came to its own end.
    """
    caught: list[signal.Signals] = []

    async def watch(signals: AsyncIterator[signal.Signals]) -> None:
        caught.append(await anext(signals))
        tasks.cancel_scope.cancel()

    with anyio.open_signal_receiver(*STOP_SIGNALS) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, signals)
            await work()
            tasks.cancel_scope.cancel()
    return next(iter(caught), None)


async def _run(node: Node, around: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
    await node.run(task_status=task_status)
    around.cancel()


async def serve(node: Node, ending: ProcessEnd) -> None:
    """Run a peer until it is told to stop, and then begin the end of the process.

    Raises:
        FluvialError: something that the peer needs is not available.
    """

    async def work() -> None:
        async with anyio.create_task_group() as tasks:
            await tasks.start(_run, node, tasks.cancel_scope)
            await tend_garbage(lambda: node.held_bytes)

    try:
        stopped_by = await until_signalled(work)
    except BaseException as error:
        ending.begin(root_cause(error) if isinstance(error, BaseExceptionGroup) else error)
        raise
    ending.begin()
    node.log.info("peer_stopped", signal=stopped_by.name if stopped_by is not None else "")
