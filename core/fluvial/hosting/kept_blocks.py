"""How many bytes the old blocks in the database take, so that those that are too many go, the oldest first."""

from __future__ import annotations

from collections import deque
from typing import Final

SLICES: Final = 16
"""Blocks are counted in so many slices of the bytes that may stay, and those of one go together."""


class KeptBlocks:
    """See the module's docstring.

    Args:
        bytes_max: what may stay.

    Attributes:
        height: of the last block that was counted.
    """

    def __init__(self, bytes_max: int) -> None:
        self.height = 0
        self._bytes_max: Final = bytes_max
        self._slices: deque[tuple[int, int]] = deque()  # (last height, bytes), the oldest first
        self._bytes = 0

    def count(self, height: int, size: int) -> None:
        """Count the next block."""
        self.height = height
        self._bytes += size
        if self._slices and self._slices[-1][1] < self._bytes_max // SLICES:
            size += self._slices.pop()[1]
        self._slices.append((height, size))

    def surplus(self, upto: int) -> int:
        """The height up to which blocks have to go, so that what stays fits; all up to ``upto`` do in any case."""
        while self._slices and (self._bytes > self._bytes_max or self._slices[0][0] <= upto):
            height, size = self._slices.popleft()
            self._bytes -= size
            upto = max(upto, height)
        return upto
