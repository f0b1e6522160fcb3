"""Long arrays piece by piece, so that no step of Python takes long: while one does, not even other threads go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from fluvial.air.data.weight import CHUNK

T = TypeVar("T")


def pieces(values: list[T]) -> Iterator[list[T]]:
    """The values, some thousand at a time."""
    return (values[start : start + CHUNK] for start in range(0, len(values), CHUNK))


def bytes_of(numbers: list[int]) -> bytes:
    """The bytes that numbers from 0 to 255 are."""
    return b"".join(map(bytes, pieces(numbers)))
