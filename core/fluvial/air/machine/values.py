"""Values as the machine moves them: JSON with where it comes from, and canonicalised streams and maps.

Source: AIR values and tetraplets as of AquaVM 0.62 (docs/air.md, "Where values come from").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final, TypeAlias, cast

import msgspec
from msgspec.structs import replace

from fluvial.air.data.batch import MissingError
from fluvial.air.data.content import (
    JSON_DEPTH_MAX,
    ContentId,
    Json,
    KnownIds,
    content_id,
    merkle_root,
    node_id,
)
from fluvial.air.data.content_slices import SlicedId, sliced_content_id
from fluvial.air.data.facts import Argument
from fluvial.air.data.pace import SlicePace
from fluvial.air.data.partial import ABSENT, Absent, Content, Level, Mask, Partial, covers, id_of, together
from fluvial.air.machine.errors import too_much
from fluvial.air.machine.provenance import Provenance, Source

CANON_SIZE_MAX: Final = 8_388_608
"""Size of all that one canon fixes, as ``check_json`` counts it: more than a particle carries by default."""


PAIR: Final = Mask(parts={"key": Mask(Level.WHOLE), "value": Mask()})
"""What must be known of the pair of a map to use it as one."""

PARTIAL_LENGTH_MAX: Final = 1_000_000
"""Longest array that is folded over without being here: a liar's can have any length that costs nothing."""

MapKey: TypeAlias = str | int
Path: TypeAlias = tuple[str | int, ...]


class RootValue:
    """A value of which others are parts: the result of a call, an element of a canon, a literal.

    Attributes:
        content: what is known of it.
        mask: if something may be left out of it: what of it has decided anything so far. Everybody who repeats the evaluation needs that.
    """

    __slots__ = ("_id", "_parts", "content", "mask")

    def __init__(self, content: Content, known_id: ContentId | None = None, mask: Mask | None = None) -> None:
        self.content = content
        self.mask = mask
        self._id = known_id
        self._parts: KnownIds | None = None

    @property
    def id(self) -> ContentId:
        """How facts name it: its content id."""
        if self._id is None:
            self._id = self._name()
        return self._id

    def is_known_as(self, other: RootValue) -> bool:
        """Whether it is known without going through it that another one is the same value."""
        return self is other or (self._id is not None and self._id == other._id)

    def note(self, path: Path, level: Level) -> None:
        """A part of it decides something."""
        if self.mask is not None:
            self.mask.add(path, level)

    def json(self, path: Path) -> Json:
        """A part of it, as far as that is known by now.

        Raises:
            MissingError: not all of that is here.
        """
        content = self.content_at(path)
        if isinstance(content, Partial):
            raise self.missing()
        return content

    def content_at(self, path: Path) -> Content:
        """What is known of a part of it by now."""
        content = self.content
        try:
            for step in path:
                content = content.part(step) if isinstance(content, Partial) else content[step]
        except Absent:
            return ABSENT
        return content

    def id_at(self, path: Path) -> ContentId:
        """The content id of a part of it; raises MissingError if too little of that is here."""
        if not path:
            return self.id
        content = self.content_at(path)
        if type(content) is not Partial:
            if self._parts is None:
                self._parts = {}
            return content_id(content, self._parts)
        try:
            return id_of(content)
        except Absent:
            raise self.missing() from None

    def naming(self, path: Path) -> SlicedId:
        """As :meth:`id_at`, in slices."""
        if not path:
            if self._id is None:
                self._id = yield from sliced_content_id(self.content)
            return self._id
        content = self.content_at(path)
        if type(content) is not list and type(content) is not dict:
            return self.id_at(path)
        if self._parts is None:
            self._parts = {}
        if (found := self._parts.get(id(content))) is not None:
            return found[1]
        key = yield from sliced_content_id(content)
        self._parts[id(content)] = content, key
        return key

    def missing(self) -> MissingError:
        """The error that says that not all of it is here."""
        assert self._id is not None, "literals are whole"
        return MissingError("a value that is read now is not here", contents=(self._id,))

    def _name(self) -> ContentId:
        return content_id(self.content)


class Composite(RootValue):
    """An array or object put together here from other values: a whole canonicalised stream or map, a pair of a map.

    Facts name it as an array or object of its members' ids, whatever its size, so that it has a name also when contents are gone.

    Args:
        members: the elements, or the values of the fields.
        keys: names of the fields, each once; None for an array.
    """

    __slots__ = ("_keys", "_noted", "_places", "members")

    def __init__(self, members: Sequence[Value], keys: Sequence[str] | None = None) -> None:
        self.members = members
        self._keys = keys
        self._places: dict[str, int] | None = None
        self._noted: Level | None = None if any(map(can_be_left_out, members)) else Level.WHOLE
        super().__init__(self._together())

    def note(self, path: Path, level: Level) -> None:
        """Members decide something. They are gone through once: thousands may read all of them."""
        if self._noted is Level.WHOLE:
            return
        if path and (found := self._member(path[0])) is not None:
            found.root.note((*found.path, *path[1:]), level)
        elif path or level is Level.WHOLE:  # a path that leads nowhere: an error will show all
            self._noted = Level.WHOLE
            for member in self.members:
                member.root.note(member.path, Level.WHOLE)

    def noting_ids(self, pace: SlicePace) -> Iterator[None]:
        """The content ids of its members decide something; in slices, and as :meth:`note` once."""
        if self._noted is None:
            self._noted = Level.EXISTENCE
            for member in self.members:
                if pace.over():
                    yield
                yield from member.noting_id(pace)

    @property
    def can_be_noted(self) -> bool:
        """Whether something in it could be left out."""
        return self._noted is not Level.WHOLE

    def _member(self, step: str | int) -> Value | None:
        """The element or field at a step; None if there is none."""
        if self._keys is None:
            return self.members[step] if isinstance(step, int) and step < len(self.members) else None
        if self._places is None:
            self._places = {key: place for place, key in enumerate(self._keys)}
        place = self._places.get(step) if isinstance(step, str) else None
        return None if place is None else self.members[place]

    def asked_for(self, path: Path, level: Level) -> Iterator[tuple[Value, Path, Level]]:
        """The members of which something is asked for if a part of this is: each with what is."""
        if not path:
            if level is Level.WHOLE:
                yield from ((member, (), Level.WHOLE) for member in self.members)
            return
        if (found := self._member(path[0])) is not None:
            yield found, path[1:], level
        else:  # an error will show it
            yield from ((member, (), Level.WHOLE) for member in self.members)

    def json(self, path: Path) -> Json:
        """As for any value, from what is known of the members by now."""
        if isinstance(self.content, Partial):
            self.content = self._together()
        return super().json(path)

    def id_at(self, path: Path) -> ContentId:
        """As for any value, from what is known of the members by now; not the name that stands for it."""
        if isinstance(self.content, Partial):
            self.content = self._together()
        try:
            return id_of(self.content_at(path))
        except Absent:
            raise self.missing() from None

    def naming(self, path: Path) -> SlicedId:
        """As :meth:`id_at`, in slices."""
        if isinstance(self.content, Partial):
            self.content = self._together()
        content = self.content_at(path)
        if isinstance(content, Partial):
            return self.id_at(path)
        return (yield from sliced_content_id(content))

    @property
    def has_name(self) -> bool:
        """Whether the name that stands for it is known."""
        return self._id is not None

    def naming_members(self) -> Iterator[None]:
        """Find the ids of its members in slices, as far as these are here: then the name that stands for it costs nothing."""
        for member in self.members:
            with suppress(MissingError):
                yield from member.naming()

    def missing(self) -> MissingError:
        """The error that names the first member of which something is missing."""
        for member in self.members:
            try:
                member.json  # noqa: B018 - whether it can be had
            except MissingError as error:
                return error
        raise AssertionError("a value of whole members is whole")

    def _together(self) -> Content:
        contents = [
            content if type(content := member.content) is not Partial else member.root.content_at(member.path)
            for member in self.members
        ]
        return together(contents if self._keys is None else dict(zip(self._keys, contents, strict=True)))

    def _name(self) -> ContentId:
        ids = [member.id for member in self.members]
        if self._keys is None:
            return node_id(len(ids), merkle_root(ids), of_object=False)
        fields = sorted(zip(self._keys, ids, strict=True), key=lambda field: field[0].encode())
        return node_id(len(ids), merkle_root([content_id(key) + value for key, value in fields]), of_object=True)


class Value(msgspec.Struct, frozen=True, gc=False):
    """A JSON value and its provenance.

    Attributes:
        content: the value itself, as far as it was known when this was made.
        origins: its tetraplets: one, or one per element for a whole canonicalised stream or map.
        source: how it came about.
        root, path: the value that it is a part of, and where in it.
        volatile: it was taken from an error register, which is not the same on all peers at all times.
    """

    content: Content
    origins: tuple[Provenance, ...]
    source: Source
    root: RootValue
    path: Path = ()
    volatile: bool = False

    @property
    def json(self) -> Json:
        """The value, for this peer's own use; raises MissingError if not all of it is here."""
        content = self.content
        return self.root.json(self.path) if type(content) is Partial else content

    def read(self) -> Json:
        """The value, where it decides how the flow goes on: everybody who repeats the evaluation reads it. Raises as :attr:`json`."""
        self.root.note(self.path, Level.WHOLE)
        return self.json

    @property
    def id(self) -> ContentId:
        """Its content id, or the name that stands for it; raises MissingError if nothing is known of it."""
        return self.root.id_at(self.path) if self.path else self.root.id

    @property
    def argument(self) -> Argument:
        """How facts name it."""
        return Argument(self.root.id, self.path)

    def settled(self) -> Value:
        """The value as ``ap`` binds it: a literal keeps only its peer, a part of a canon its peer and path."""
        origin = self.origins[0]
        if self.source is Source.LITERAL:
            origin = Provenance(origin.peer)
        elif self.source is not Source.CALL:
            origin = Provenance(origin.peer, lens=origin.lens)
        return self if self.origins == (origin,) else replace(self, origins=(origin,))

    def noting_id(self, pace: SlicePace) -> Iterator[None]:
        """Its content id decides something; in slices."""
        root = self.root
        if self.path or type(root) is not Composite:
            root.note(self.path, Level.EXISTENCE)
        else:
            yield from root.noting_ids(pace)

    def naming(self) -> SlicedId:
        """The id of what it is, also of a value that facts name by its members, in slices; raises MissingError if too little of it is here."""
        return self.root.naming(self.path)

    def as_pair(self, key: Value) -> Value:
        """The pair of a stream map that has this value.

        Raises:
            Uncatchable: 20100, it is a pair of a pair and so on; a script that folds over its own map would go on and on.
        """
        if _pairs_within(self.content) >= JSON_DEPTH_MAX:
            raise too_much("pairs within each other", JSON_DEPTH_MAX)
        whole = Composite((literal(key.json, ""), self), ("key", "value"))
        volatile = self.volatile or key.volatile
        return Value(whole.content, self.origins, self.source, whole, (), volatile).settled()


def _pairs_within(content: Content) -> int:
    depth = 0
    while True:
        if isinstance(content, Partial):
            try:
                content = content.part("value")
            except Absent:
                return depth
        elif isinstance(content, dict) and content.keys() == {"key", "value"}:
            content = content["value"]
        else:
            return depth
        depth += 1


def can_be_left_out(value: Value) -> bool:
    """Whether something of a value, or of what it was put together from, need not travel."""
    root = value.root
    return root.can_be_noted if type(root) is Composite else root.mask is not None


def literal(json: Json, initiator: str, *, volatile: bool = False) -> Value:
    """A value written in the script, or taken from the particle's environment."""
    return Value(json, (Provenance(initiator),), Source.LITERAL, RootValue(json), (), volatile)


def length_of(value: Value) -> int | None:
    """How many elements an array has, which decides something; None if it is no array. Raises MissingError if that is not known."""
    content = value.content
    if isinstance(content, Partial) and content.tree is not None:
        length = None if content.is_object else content.size
    else:
        content = value.json
        length = len(content) if isinstance(content, list) else None
    if length is not None:
        value.root.note(value.path, Level.SIZE)
    return length


def elements_at(value: Value) -> Sequence[Content]:
    """The elements of an array, as far as they are known."""
    content = value.content
    if not isinstance(content, Partial):
        return cast(list[Content], content)
    if content.size > PARTIAL_LENGTH_MAX:
        raise value.root.missing()
    elements: list[Content] = [ABSENT] * content.size
    for place, part in content.shown():
        elements[cast(int, place)] = part
    return elements


def key_of(pair: Value) -> MapKey:
    """The key of a pair."""
    key: MapKey = part_at(pair, "key").read()
    return key


def pair_value(pair: Value) -> Value:
    """The value of a pair, with the pair's tetraplet."""
    return part_at(pair, "value")


def part_at(value: Value, step: str | int) -> Value:
    """A field or element that is known to be there, with the tetraplet of the whole."""
    content = value.content
    if isinstance(content, Partial):
        try:
            content = content.part(step)
        except Absent:
            content = ABSENT
    else:
        content = content[step]
    return replace(value, content=content, path=(*value.path, step))


def is_pair(value: Value) -> bool:
    """Whether a value is an element of a stream map: an object with a ``key`` and a ``value``. Raises as :meth:`Value.read`."""
    content = value.content
    if not (isinstance(content, Partial) and content.is_object and content.size == 2 and covers(content, PAIR)):
        content = value.json
        if not (isinstance(content, dict) and content.keys() == {"key", "value"}):
            value.read()
            return False
    value.root.note((*value.path, "value"), Level.EXISTENCE)
    return is_map_key(key_of(value))


def is_map_key(json: Json) -> bool:
    """Whether a value can be the key of a pair: a string or an integer."""
    return isinstance(json, str) or is_integer(json)


def is_integer(json: Json) -> bool:
    """Whether a value is an integer; true and false are not."""
    return isinstance(json, int) and not isinstance(json, bool)
