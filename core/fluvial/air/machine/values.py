"""Values as the machine moves them: JSON with where it comes from, and canonicalised streams and maps.

Source: AIR values and tetraplets as of AquaVM 0.62 (docs/air.md, "Where values come from").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from fluvial.air.data.content import JSON_DEPTH_MAX, ContentId, Json, check_json, content_id
from fluvial.air.data.facts import Argument, Element, Instance, Source, Tetraplet
from fluvial.air.machine.errors import too_much

CANON_SIZE_MAX: Final = 8_388_608
"""Size of all that one canon fixes, as ``check_json`` counts it: more than a particle carries by default."""


MapKey: TypeAlias = str | int


class Whole:
    """A value of which others are parts; knows its content id, computed when first asked for."""

    __slots__ = ("_id", "json")

    def __init__(self, json: Json, known_id: ContentId | None = None) -> None:
        self.json = json
        self._id = known_id

    @property
    def id(self) -> ContentId:
        """The content id."""
        if self._id is None:
            self._id = content_id(self.json)
        return self._id


class Value(msgspec.Struct, frozen=True):
    """A JSON value and its provenance.

    Attributes:
        json: the value itself.
        origins: its tetraplets: one, or one per element for a whole canonicalised stream or map.
        source: how it came about.
        whole, path: the value that it is a part of, and where in it.
        volatile: it was taken from an error register, which is not the same on all peers at all times.
    """

    json: Json
    origins: tuple[Tetraplet, ...]
    source: Source
    whole: Whole
    path: tuple[str | int, ...] = ()
    volatile: bool = False

    @property
    def argument(self) -> Argument:
        """How facts name it."""
        return Argument(self.whole.id, self.path)

    def settled(self) -> Value:
        """The value as ``ap`` binds it: a literal keeps only its peer, a part of a canon its peer and path."""
        origin = self.origins[0]
        if self.source is Source.LITERAL:
            origin = Tetraplet(origin.peer)
        elif self.source is Source.CANON:
            origin = Tetraplet(origin.peer, lens=origin.lens)
        return self if self.origins == (origin,) else replace(self, origins=(origin,))

    def as_pair(self, key: MapKey) -> Value:
        """The pair of a stream map that has this value.

        Raises:
            Uncatchable: 20100, it is a pair of a pair and so on; a script that folds over its own map would go on and on.
        """
        inner, depth = self.json, 1
        while is_pair(inner):
            inner, depth = inner["value"], depth + 1
        if depth > JSON_DEPTH_MAX:
            raise too_much("pairs within each other", JSON_DEPTH_MAX)
        pair = {"key": key, "value": self.json}
        return Value(pair, self.origins, self.source, Whole(pair), (), self.volatile).settled()


def literal(json: Json, initiator: str, *, volatile: bool = False) -> Value:
    """A value written in the script, or taken from the particle's environment."""
    return Value(json, (Tetraplet(initiator),), Source.LITERAL, Whole(json), (), volatile)


@dataclass(frozen=True)
class CanonStreamValue:
    """The content of a stream, fixed by ``peer``."""

    peer: str
    elements: tuple[Value, ...]

    @cached_property
    def whole(self) -> Value:
        """All of it as an argument: an array, with the tetraplet of each element."""
        json = [element.json for element in self.elements]
        origins = tuple(element.origins[0] for element in self.elements)
        return Value(json, origins, Source.CANON, Whole(json))

    def bound(self) -> Value:
        """All of it as ``ap`` binds it: an array that the canon's peer vouches for."""
        return replace(self.whole, origins=(Tetraplet(self.peer),))


@dataclass(frozen=True)
class CanonMapValue:
    """The pairs of a stream map, fixed by ``peer``; each pair is an object with ``key`` and ``value``."""

    peer: str
    pairs: tuple[Value, ...]

    def values(self, key: MapKey) -> Sequence[Value] | None:
        """The values of one key in order, each with the tetraplet of its pair; None if there is no such key."""
        found = [
            replace(pair, json=pair.json["value"], path=(*pair.path, "value"))
            for pair in self.pairs
            if pair.json["key"] == key
        ]
        return found or None

    @cached_property
    def whole(self) -> Value:
        """All of it as an argument: an object of arrays, with the tetraplet of each pair."""
        json: dict[str, list[Json]] = {}
        for pair in self.pairs:
            json.setdefault(str(pair.json["key"]), []).append(pair.json["value"])
        return Value(json, tuple(pair.origins[0] for pair in self.pairs), Source.CANON, Whole(json))


def first_values(pairs: Iterable[Value]) -> Json:
    """One object of the pairs of a map: keys as texts, the first value of a key wins."""
    found: dict[str, Json] = {}
    for pair in pairs:
        found.setdefault(str(pair.json["key"]), pair.json["value"])
    return found


def is_pair(json: Json) -> bool:
    """Whether a value is an element of a stream map: an object with a ``key`` and a ``value``."""
    return isinstance(json, dict) and json.keys() == {"key", "value"} and is_map_key(json["key"])


def is_map_key(json: Json) -> bool:
    """Whether a value can be the key of a pair: a string or an integer."""
    return isinstance(json, str) or is_integer(json)


def is_integer(json: Json) -> bool:
    """Whether a value is an integer; true and false are not."""
    return isinstance(json, int) and not isinstance(json, bool)


_CONTAINERS: Final = (list, dict)


def same_json(left: Json, right: Json) -> bool:
    """Deep equality of JSON values, in which an integer never equals a float and true never equals 1."""
    if not isinstance(left, _CONTAINERS):
        return type(left) is type(right) and bool(left == right)
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same_json, left, right))
    return (
        isinstance(right, dict)
        and left.keys() == right.keys()
        and all(same_json(left[key], right[key]) for key in left)
    )


def elements_of(values: Iterable[tuple[Value, Instance]]) -> tuple[Element, ...]:
    """How a canon's fact names what it fixes: values, each with the instance that wrote it.

    Raises:
        ValueError: values that other peers refuse. Canons of canons double a value, or nest it deeper, with every step.
    """
    elements = []
    size = 0
    for value, writer in values:
        size += check_json(value.json, CANON_SIZE_MAX)
        if size > CANON_SIZE_MAX:
            raise ValueError(f"its values are larger than {CANON_SIZE_MAX} together")
        elements.append(Element(content_id(value.json), value.origins[0], value.source, writer.frame, writer.node))
    return tuple(elements)


def value_of(element: Element, json: Json) -> Value:
    """The value that an element of a canon's fact names."""
    return Value(json, (element.origin,), Source(element.source), Whole(json, element.value))
