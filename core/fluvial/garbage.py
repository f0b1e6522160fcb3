"""Keeps Python's garbage collector from stopping a running peer.

The collector looks for objects that refer to each other in a circle and are not used any more. A full collection goes through all objects
that there are, and stops everything meanwhile: a quarter of a second for a million, again and again while their number grows. Here few of
them need that. Machines are taken apart when they leave (``Machine.dismantle``), most other objects are in no circle; so what has lived for some
time is set aside (``gc.freeze``, which takes no time), and only what is new is looked at. What becomes garbage among the old is found by a full
collection once in a while: when there is little to go through, after a long time, or as soon as the process has grown by more than what its
particles are known to hold: garbage may be few objects that are large. What the C library keeps of it is given back then (:mod:`fluvial.allocator`).

Until a peer has started, next to nothing becomes garbage: a tenth of the time of a start went into looking for it. So :func:`no_collecting` comes
first, and :func:`tend_garbage` ends it.

This is a matter of the process, so nothing in a node does it: ``fluvial run`` does, and a program that embeds a node may, if it has no other use for the
collector (docs/client.md).
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from mmap import PAGESIZE
from typing import Final

import anyio

from fluvial.allocator import tuned_allocator

PAUSE_S: Final = 0.25
"""Between two looks."""
YOUNG: Final = 5_000
"""So many new objects are looked at together."""
MIDDLE: Final = 5
"""After so many of these collections what is left of them is looked at together; that takes some milliseconds."""
NEVER: Final = 1_000_000_000
"""The threshold of full collections, which are made here instead."""
FULL_S: Final = 60.0
"""Between two full collections, if there is little to go through."""
FULL_S_MAX: Final = 900.0
"""Between two full collections in any case."""
GROWTH_BYTES: Final = 48 * 1024 * 1024
"""Memory that the process has taken since the last full collection, other than what is known to be held, after which there is another."""
TUNED_BYTES: Final = GROWTH_BYTES // 3
"""Memory that the process takes before the allocator is tuned: one that holds little needs no tuning."""
GROWTH_S: Final = 2.0
"""Between two of these, in any case."""
IDLE_PART: Final = 20
"""After one that gave little memory back it takes so many times as long as that one until the next: it would do no better."""
WORTH_BYTES: Final = GROWTH_BYTES // 4
"""More than a little."""
LITTLE: Final = 300_000
"""Objects that are gone through in less than a tenth of a second."""


@contextmanager
def no_collecting() -> Iterator[None]:
    """Do not look for garbage before :func:`tend_garbage` does, or the block ends."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def tend_garbage(held_bytes: Callable[[], int]) -> None:
    """Until cancelled: set old objects aside; once in a process. Afterwards the collector is as it was.

    Args:
        held_bytes: how much memory is known to be in use for what comes and goes; rather too much than too little.
    """

    def unexplained_bytes() -> int:
        return _resident_bytes() - held_bytes()

    before = gc.get_threshold()
    gc.set_threshold(YOUNG, MIDDLE, NEVER)
    gc.freeze()
    gc.enable()
    collected_s = looked_s = anyio.current_time()
    collected_bytes = unexplained_bytes()
    growth_s = GROWTH_S
    trim: Callable[[], None] | None = None
    tuned_from_bytes = _resident_bytes() + TUNED_BYTES
    try:
        while True:
            await anyio.sleep(PAUSE_S)
            now_s = anyio.current_time()
            # What it has given back since then counts as little as what it has taken before.
            collected_bytes = min(collected_bytes, bytes_now := unexplained_bytes())
            if trim is None and _resident_bytes() > tuned_from_bytes:
                trim = tuned_allocator()
            if trim is not None and bytes_now > collected_bytes + GROWTH_BYTES and now_s - collected_s > growth_s:
                _collect_all()
                trim()
                collected_s, collected_bytes = anyio.current_time(), unexplained_bytes()
                growth_s = until_next_s(took_s=collected_s - now_s, given_back=bytes_now - collected_bytes)
            elif now_s - looked_s > FULL_S:
                looked_s = now_s
                if now_s - collected_s > FULL_S_MAX or gc.get_freeze_count() < LITTLE:
                    _collect_all()
                    collected_s = now_s
            elif gc.get_count()[2]:
                gc.collect(1)
                gc.freeze()
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


def until_next_s(*, took_s: float, given_back: int) -> float:
    """How long the process may grow after a full collection until there is another, in seconds.

    Args:
        took_s: how long it took, in seconds.
        given_back: how many bytes the process holds less than before it.
    """
    return GROWTH_S if given_back > WORTH_BYTES else max(GROWTH_S, IDLE_PART * took_s)


def _resident_bytes() -> int:
    """Memory that this process holds now; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * PAGESIZE
    except OSError:
        return 0


def _collect_all() -> None:
    gc.unfreeze()
    gc.collect()
    gc.freeze()
