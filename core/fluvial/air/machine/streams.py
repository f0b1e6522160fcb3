"""Streams: append-only, ordered locally; what a peer learned first stands first.

Elements written between two boundaries form one *generation*: a step of the log is one, and so is the beginning and the end of each pass of a
fold over the stream. A fold visits generation by generation. Which elements an instruction sees is a matter of positions alone: those
whose writers stand before it, and for a fold also those inside of it. Two peers may hold the same elements in different orders;
only a canon makes an order common.

Deviation: a fold knows which elements it has looked at. The reference counts generations, empty ones included, and so may skip some.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Sequence
from sys import getsizeof
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from fluvial.air.machine.errors import stream_too_long
from fluvial.air.machine.positions import BEYOND, Key
from fluvial.air.machine.values import Value

ELEMENTS_MAX: Final = 1023
"""As many as the reference allows; own and received ones count alike."""

LISTED_BYTES: Final = 700
"""Memory of an element, which may be the pair of a map, with its value; or of a fold's entry."""


class StreamElement(msgspec.Struct, frozen=True, gc=False):
    """An element: its generation, which instance wrote it at which position, and the value."""

    generation: int
    writer: tuple[bytes, int]
    key: Key
    value: Value


class Chain(NamedTuple):
    """The elements of one generation that a fold visits together.

    ``pass_number`` is 1 for elements from outside of the fold, one more than the writer's for those written inside of it;
    ``end`` is where to look for the next chain.
    """

    elements: tuple[StreamElement, ...]
    pass_number: int
    end: int


class StreamReader(Protocol):
    """A fold that runs over a stream."""

    @property
    def key(self) -> Key:
        """Its position."""

    @property
    def visited(self) -> int:
        """How many elements it has looked at."""


ReaderT = TypeVar("ReaderT", bound=StreamReader)


class LocalStream(Generic[ReaderT]):
    """The elements known on this peer, and the folds that run over them."""

    __slots__ = ("_boundary", "_elements", "_folds", "_generation", "_positions_bytes", "_values", "name")

    def __init__(self, name: str) -> None:
        self.name: Final = name
        self._elements: list[StreamElement] = []
        self._folds: list[tuple[Key, ReaderT]] = []
        self._generation = self._positions_bytes = 0
        self._boundary: tuple[int, Key] = (-1, ())
        self._values: dict[tuple[bytes, int], Value] = {}

    def append(self, step: int, writer: tuple[bytes, int], key: Key, value: Value) -> None:
        """Add an element in a step.

        Raises:
            Uncatchable: 20013, it is one too many.
        """
        if len(self._elements) >= ELEMENTS_MAX:
            raise stream_too_long(self.name, ELEMENTS_MAX)
        boundary = (step, self._last_boundary(key))
        if boundary != self._boundary:
            self._generation += 1
            self._boundary = boundary
        self._elements.append(StreamElement(self._generation, writer, key, value))
        self._values[writer] = value
        self._positions_bytes += getsizeof(key)

    def written_by(self, writer: tuple[bytes, int]) -> Value | None:
        """What an instance has written, at whatever position."""
        return self._values.get(writer)

    def watch(self, fold: ReaderT) -> None:
        """A fold runs over the stream; ``fold.visited`` counts the elements that it has looked at."""
        insort(self._folds, (fold.key, fold), key=lambda watched: watched[0])

    @property
    def watched(self) -> int:
        """How many folds run over it."""
        return len(self._folds)

    def watchers(self, key: Key) -> Iterator[tuple[Key, ReaderT]]:
        """The folds that see an element written at this position, each with the position at which it will visit it."""
        for fold_key, fold in self._folds:
            if key < (*fold_key, BEYOND):
                yield (*fold_key, _pass_number(fold_key, key), self._generation), fold

    def dry(self) -> Iterator[ReaderT]:
        """The folds that have seen no element yet."""
        return (fold for _, fold in self._folds if not fold.visited)

    def folds(self) -> Iterator[ReaderT]:
        """The folds that run over it."""
        return (fold for _, fold in self._folds)

    @property
    def held(self) -> int:
        """How many bytes of memory it takes, about; without the texts of errors among its elements."""
        return LISTED_BYTES * (len(self._elements) + len(self._folds)) + self._positions_bytes

    def forget(self) -> None:
        """Forget everything: it is not used any more."""
        self._elements.clear()
        self._folds.clear()

    def values(self) -> Iterator[Value]:
        """What all elements are."""
        return (element.value for element in self._elements)

    def elements(self) -> Sequence[StreamElement]:
        """All elements, in local order."""
        return self._elements

    def visible(self, key: Key) -> list[StreamElement]:
        """The elements whose writers stand before a position, in local order."""
        return [element for element in self._elements if element.key < key]

    def first_generation(self, fold_key: Key) -> int:
        """The generation of the first element that a fold sees; there is one."""
        end_key = (*fold_key, BEYOND)
        return next(element.generation for element in self._elements if element.key < end_key)

    def chain(self, fold_key: Key, start: int) -> Chain | None:
        """What a fold visits next, having looked at ``start`` elements; None if there is nothing more."""
        end_key = (*fold_key, BEYOND)
        found: list[StreamElement] = []
        position = start
        for position in range(start, len(self._elements)):
            element = self._elements[position]
            if element.key >= end_key:
                continue
            if found and element.generation != found[0].generation:
                break
            found.append(element)
        else:
            position = len(self._elements)
        return Chain(tuple(found), _pass_number(fold_key, found[0].key), position) if found else None

    def _last_boundary(self, key: Key) -> Key:
        """Names the last beginning or end of a pass before a position."""
        boundary: Key = ()
        for fold_key, fold in self._folds:
            if fold_key > key:
                break
            if fold.visited:
                inside = key[: len(fold_key)] == fold_key
                boundary = (*fold_key, key[len(fold_key)] if inside else BEYOND)
        return boundary


def _pass_number(fold_key: Key, key: Key) -> int:
    return int(key[len(fold_key)]) + 1 if key[: len(fold_key)] == fold_key else 1
