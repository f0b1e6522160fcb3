"""What is remembered for a while only: when there is too much of it, the oldest is forgotten."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def remember(known: MutableMapping[K, V], key: K, value: V, *, most: int) -> None:
    """Remember a value, and forget those that were remembered first of more than ``most``."""
    known[key] = value
    while len(known) > most:
        del known[next(iter(known))]
