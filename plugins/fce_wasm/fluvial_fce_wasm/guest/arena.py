"""Memory for arguments, a budget for results, and how a value fails to fit its type."""

from __future__ import annotations

import ctypes
import sys
from ctypes import addressof
from typing import Any, Final

_ARENA_BYTES: Final = 4_096
_KEPT_BYTES_MAX: Final = 65_536


class Misfit(ValueError):
    """A value does not fit its type. ``str`` is the path of the wrong part and what is wrong with it."""

    def __init__(self, reason: str, path: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path

    def within(self, step: str) -> Misfit:
        """The same, seen from the value that contains it."""
        return Misfit(self.reason, step + self.path)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason


class BudgetExceeded(ValueError):
    """A result is larger than its budget."""


class Budget:
    """How many bytes a result may still take."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, size: int) -> None:
        """Count some bytes; raises BudgetExceeded if there are not so many."""
        self.left -= size
        if self.left < 0:
            raise BudgetExceeded


class Arena:
    """Memory for one tree of arguments at a time.

    Args:
        bytes_max: what it may have.
    """

    __slots__ = ("_base", "_budget", "_bytes_max", "_kept", "_left", "_place", "_view")

    def __init__(self, bytes_max: int = sys.maxsize) -> None:
        self._bytes_max = self._budget = bytes_max
        self._kept: list[Any] = []
        self._left = 0
        self._place = 0
        self._base = 0
        self._view = memoryview(b"")

    def reset(self) -> None:
        """Forget everything; a buffer that is alone and not large is used again."""
        if len(self._kept) == 1 and self._place + self._left <= _KEPT_BYTES_MAX:
            self._left += self._place
            self._place = 0
        elif self._kept:
            self._kept.clear()
            self._left = self._place = 0
        self._budget = self._bytes_max

    def take(self, size: int) -> None:
        """Count some bytes before memory is made for them; raises Misfit if there are not so many."""
        self._budget -= size
        if self._budget < 0:
            raise Misfit(f"for the guest all of it would take more than {self._bytes_max:,} bytes")

    def reserve(self, size: int) -> tuple[memoryview, int, int]:
        """(buffer, offset in it, address) of ``size`` bytes of any content; raises Misfit as :meth:`take`."""
        size = (size + 7) & ~7
        self.take(size)
        if size > self._left:
            total = max(size, _ARENA_BYTES)
            raw = (ctypes.c_char * total)()
            self._kept.append(raw)
            self._base, self._view = addressof(raw), memoryview(raw).cast("B")
            self._place, self._left = 0, total
        place = self._place
        self._place += size
        self._left -= size
        return self._view, place, self._base + place

    def text(self, data: bytes) -> int:
        """The address of a copy of some bytes; 0 for none."""
        if not data:
            return 0
        view, place, address = self.reserve(len(data))
        view[place : place + len(data)] = data
        return address

    def keep(self, buffer: Any) -> int:
        """The address of a buffer that is not copied, and was counted before it was made."""
        self._kept.append(buffer)
        return addressof(buffer)
