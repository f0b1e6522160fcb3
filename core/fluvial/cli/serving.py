"""Runs a node until the operating system asks it to stop; opens up the errors of task groups."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from fluvial.errors import FluvialError
from fluvial.node import Node

T = TypeVar("T")


async def serve_until_signalled(node: Node) -> None:
    """Run a peer until SIGINT or SIGTERM.

    Raises:
        FluvialError: something that the peer needs is not to be had.
    """
    try:
        async with anyio.create_task_group() as tasks:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                await tasks.start(_run, node)
                async for number in signals:
                    node.log.info("peer_stopping", signal=signal.Signals(number).name)
                    tasks.cancel_scope.cancel()
                    break
    except BaseExceptionGroup as group:
        raise _single(group) from group
    node.log.info("peer_stopped")


def run_client(work: Callable[[], Awaitable[T]]) -> T:
    """Run something that uses a client; an error of ours comes out of the task groups as it is."""

    async def outer() -> T:
        try:
            return await work()
        except BaseExceptionGroup as group:
            raise _single(group) from group

    return anyio.run(outer)


async def _run(node: Node, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await node.run(task_status=task_status)


def _single(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error of ours in a group, or the group."""
    leaves: list[BaseException] = [group]
    while leaves:
        error = leaves.pop()
        if isinstance(error, FluvialError):
            return error
        if isinstance(error, BaseExceptionGroup):
            leaves.extend(error.exceptions)
    return group
