"""A call that fails leaves nothing behind: what its callers worked with is gone at once, without the garbage collector."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from weakref import ref

import anyio
import anyio.lowlevel
import pytest
from fluvial.errors import Unreachable
from fluvial.fairness import equal
from fluvial.guard.detached import Detached
from fluvial.guard.guard import PluginFailed
from fluvial.particles.processor import Processor
from prometheus_client import CollectorRegistry

from tests.support.nodes import id_of
from tests.support.services import make_guard

pytestmark = pytest.mark.usefixtures("uncollected")


class Large:
    """Something that takes much memory."""


@pytest.fixture
def uncollected() -> Iterator[None]:
    """The garbage collector does nothing."""
    gc.disable()
    yield
    gc.enable()


async def is_gone_after(failing: Callable[[], Awaitable[object]]) -> bool:
    """Whether something that a caller has is gone when what it called has failed."""

    async def working_with(large: Large) -> None:
        await failing()
        assert large, "it is needed to the end"

    async def caller() -> ref[Large]:
        large = Large()
        found = ref(large)
        with suppress(Unreachable, PluginFailed):
            await working_with(large)
        return found

    return (await caller())() is None


async def fail() -> None:
    raise Unreachable("nobody is there")


async def fail_by_itself() -> None:
    raise ZeroDivisionError


def fail_at_once() -> None:
    raise Unreachable("nobody is there")


async def test_after_a_guarded_call_that_failed_on_purpose() -> None:
    guard = make_guard()
    assert await is_gone_after(lambda: guard.call("plugin", "call", fail, passes=(Unreachable,)))


async def test_after_a_guarded_call_that_failed() -> None:
    guard = make_guard()
    assert await is_gone_after(lambda: guard.call("plugin", "call", fail_by_itself, passes=(Unreachable,)))


async def test_after_work_in_turn_or_off_the_loop_that_failed() -> None:
    async with anyio.create_task_group() as tasks:
        processor = Processor(weight=equal, metrics=CollectorRegistry())
        processor.start(tasks)
        assert await is_gone_after(lambda: processor.in_turn(id_of("a"), fail_at_once))
        assert await is_gone_after(lambda: processor.off_loop(id_of("a"), fail_at_once))
        tasks.cancel_scope.cancel()


async def test_the_error_of_a_detached_task_does_not_keep_the_task() -> None:
    task = Detached(fail, "task")
    assert await task.wait(10)
    assert isinstance(task.error, Unreachable)
    await anyio.lowlevel.checkpoint()
    found = ref(task.error)
    del task
    await anyio.lowlevel.checkpoint()
    assert found() is None
