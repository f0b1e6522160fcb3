"""Streams: append-only, ordered locally.

An element's *generation* is the evaluation, refined by the passes of folds, in which its writer was first met on this peer. Generations are
remembered from evaluation to evaluation and never change; elements are read by generation and, inside one, in the order of writing.
Two peers may hold the same elements in different orders; only a canon makes an order common.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Final

from fluvial.air.data.facts import Instance
from fluvial.air.machine.errors import stream_too_long
from fluvial.air.machine.values import Value

ELEMENTS_MAX: Final = 1023
"""As many as the reference allows; own and received ones count alike."""


class StreamMemory:
    """Where each writer's element stands; outlives evaluations."""

    __slots__ = ("_generation", "_places")

    def __init__(self) -> None:
        self._generation = 0
        self._places: dict[Instance, tuple[int, int]] = {}

    def begin_generation(self) -> None:
        """Elements whose writers are first met from now on come after all before."""
        self._generation += 1

    def place(self, writer: Instance) -> tuple[int, int]:
        """(generation, position) of a writer's element, decided when it is first asked for."""
        return self._places.setdefault(writer, (self._generation, len(self._places)))


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """An element of a stream with its place and its writer."""

    generation: int
    position: int
    writer: Instance = field(compare=False)
    value: Value = field(compare=False)


class Stream:
    """The elements that one evaluation has met so far, so that what is written later in the script is not seen earlier."""

    __slots__ = ("_entries", "_memory", "name")

    def __init__(self, name: str, memory: StreamMemory) -> None:
        self.name: Final = name
        self._memory: Final = memory
        self._entries: list[Entry] = []

    def append(self, writer: Instance, value: Value) -> None:
        """Add an element.

        Raises:
            Uncatchable: 20013, it is one too many.
        """
        if len(self._entries) >= ELEMENTS_MAX:
            raise stream_too_long(self.name, ELEMENTS_MAX)
        insort(self._entries, Entry(*self._memory.place(writer), writer, value))

    def entries(self) -> tuple[Entry, ...]:
        """All elements, in local order."""
        return tuple(self._entries)

    def passes(self) -> Iterator[list[tuple[Entry, ...]]]:
        """The passes of a fold: each is the list of generations not visited so far; ends when a pass has added nothing."""
        visited: set[Instance] = set()
        while True:
            fresh = [entry for entry in self._entries if entry.writer not in visited]
            if not fresh:
                return
            visited.update(entry.writer for entry in fresh)
            self._memory.begin_generation()
            yield [tuple(group) for _, group in groupby(fresh, key=lambda entry: entry.generation)]
            self._memory.begin_generation()
