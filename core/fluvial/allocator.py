"""Has the C library give memory back to the system that this process does not use any more.

glibc takes small blocks from one heap that grows at its end, and large ones from the system one by one, to which they return. But each large block that is freed raises the
size from which blocks are large, up to 32 MiB: a peer that has handled some values of megabytes has all that follow in the heap, among small blocks that stay. With a
hundred megabytes in use it had half a gigabyte. So the size is set, which keeps it where it is, and what is free inside of the heap is given back from time to time.

Source: GNU C Library manual, "Malloc Tunable Parameters" (``M_MMAP_THRESHOLD``); mallopt(3), malloc_trim(3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

LARGE_BYTES: Final = 131_072
"""Blocks of so many bytes are taken from the system one by one."""
SPARE_BYTES: Final = 16 * 2**20
"""So much may be free at the end of the heap."""

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Source: malloc.h."""


def tuned_allocator() -> Callable[[], None]:
    """Set the sizes; returns what gives free memory back when it is called. With another C library than glibc both do nothing."""
    import ctypes  # takes milliseconds, and a peer that holds little never needs it

    library = ctypes.CDLL(None)
    try:
        set_option, trim = library.mallopt, library.malloc_trim
    except AttributeError:
        return lambda: None
    set_option(_M_MMAP_THRESHOLD, LARGE_BYTES)
    set_option(_M_TRIM_THRESHOLD, SPARE_BYTES)
    return lambda: trim(0)
