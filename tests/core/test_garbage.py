"""The garbage collector of a running peer does not stop it, and still finds garbage."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import anyio
import pytest
from fluvial.garbage import (
    FULL_S,
    FULL_S_MAX,
    GROWTH_BYTES,
    GROWTH_S,
    PAUSE_S,
    no_collecting,
    tend_garbage,
    until_next_s,
)
from fluvial.virtual.loop import run


@pytest.fixture(autouse=True)
def nothing_set_aside() -> Iterator[None]:
    """As in a process of its own: that of the tests has set its modules aside."""
    gc.unfreeze()
    yield
    gc.freeze()


class Knot:
    """Something that refers to itself."""

    def __init__(self, size: int = 0) -> None:
        self.itself = self
        self.load = b"x" * size


def test_what_is_old_is_set_aside_and_garbage_among_it_is_found_later() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tend_garbage, lambda: 0)
            await anyio.sleep(PAUSE_S)
            frozen = gc.get_freeze_count()
            assert frozen > 10_000
            kept = [[number] for number in range(100_000)]
            knot = Knot()
            dead = weakref.ref(knot)
            await anyio.sleep(2 * PAUSE_S)
            assert gc.get_freeze_count() > frozen + len(kept) // 2
            assert gc.get_count()[2] == 0
            del knot
            assert dead() is not None
            await anyio.sleep(FULL_S_MAX + 120)
            assert dead() is None
            tasks.cancel_scope.cancel()

    before = gc.get_threshold()
    run(main)
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell what a process holds")
def test_old_garbage_is_found_at_once_when_the_process_has_grown() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            held = 0
            tasks.start_soon(tend_garbage, lambda: held)
            await anyio.sleep(PAUSE_S)
            knot = Knot(2 * GROWTH_BYTES)
            held = 2 * GROWTH_BYTES  # as long as it is known to be in use it is no reason to look for garbage
            dead = weakref.ref(knot)
            gc.freeze()
            del knot
            await anyio.sleep(GROWTH_S + 2 * PAUSE_S)
            assert dead() is not None
            held = 0
            await anyio.sleep(GROWTH_S + 2 * PAUSE_S)
            assert dead() is None
            tasks.cancel_scope.cancel()

    assert GROWTH_S + 2 * PAUSE_S < FULL_S
    run(main)


def test_a_start_looks_for_no_garbage_and_a_running_peer_does() -> None:
    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            assert not gc.isenabled()
            tasks.start_soon(tend_garbage, lambda: 0)
            await anyio.sleep(PAUSE_S)
            assert gc.isenabled()
            tasks.cancel_scope.cancel()

    with no_collecting():
        run(main)
    with suppress(ZeroDivisionError), no_collecting():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_collections_that_give_nothing_back_take_a_small_part_of_the_time() -> None:
    assert until_next_s(took_s=0.5, given_back=0) == 10
    assert until_next_s(took_s=0.5, given_back=GROWTH_BYTES) == GROWTH_S
    assert until_next_s(took_s=0.01, given_back=0) == GROWTH_S
