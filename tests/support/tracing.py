"""How much memory something really takes, as Python's allocator sees it."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from typing import TypeVar

ResultT = TypeVar("ResultT")


def taken(work: Callable[[], ResultT]) -> tuple[ResultT, int]:
    """What a piece of work gives, and how many bytes it has taken for good."""
    tracemalloc.start()
    try:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        result = work()
        gc.collect()
        return result, tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
