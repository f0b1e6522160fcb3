"""Lambdas applied to values: paths with fields and indices, and ``.length``.

Source: AquaVM 0.62, lambda applier; tetraplets as in docs/air.md, "Where values come from".
"""

from __future__ import annotations

import sys
from typing import Final, TypeAlias

from msgspec.structs import replace

from fluvial.air.data.content import Json
from fluvial.air.data.partial import Absent, Level, Partial
from fluvial.air.machine.canon_values import CanonMapValue, CanonStreamValue
from fluvial.air.machine.errors import Catchable, bad_lambda, no_length, too_much
from fluvial.air.machine.positions import ANYTIME, Key
from fluvial.air.machine.provenance import Provenance, Source
from fluvial.air.machine.scopes import Scope
from fluvial.air.machine.shown import json_text
from fluvial.air.machine.values import MapKey, RootValue, Value, is_integer, is_map_key, length_of
from fluvial.air.syntax.lambdas import lambda_text
from fluvial.air.syntax.tree import Accessor, ByName, Field, Index, Lambda, Length, Path

Names: TypeAlias = tuple[Scope, Key]
"""Where names are looked up: a scope, and the position of who reads them."""

LENS_CHARACTERS_MAX: Final = 1_024
"""Of the lens in a tetraplet: a value has at most 128 levels, so there is room for names of some length."""

INDEX_LIMIT: Final = 2**32
"""Indices are below it."""


def behind(origin: Provenance, lens: str) -> Provenance:
    """Where a part comes from to which a lens leads.

    Thousands of values may have the same one, so there is one text for them all; and a script may have names of a megabyte.

    Raises:
        Uncatchable: 20100, the whole lens is too long.
    """
    whole = origin.lens + lens
    if len(whole) > LENS_CHARACTERS_MAX:
        raise too_much("characters in the lens of a tetraplet", LENS_CHARACTERS_MAX)
    return replace(origin, lens=sys.intern(whole))


def part_of(value: Value, path: Lambda, scope: Scope, key: Key = ANYTIME) -> Value:
    """A part of a scalar or iterator: the path is added to its tetraplet.

    Raises:
        Catchable: 10007 or 10010, the path does not fit. Uncatchable: as for :func:`behind`.
        Waiting: a name in the path has no value yet.
    """
    if type(path) is Length:
        return _length(value)
    # A path may have thousands of steps, of which no value takes more than a hundred: its text is made when it has led somewhere.
    part = _follow(value, path.accessors, (scope, key), value.origins)
    return replace(part, origins=(behind(value.origins[0], lambda_text(path)),))


def _length(value: Value) -> Value:
    if (length := length_of(value)) is None:
        raise no_length(value.read())
    return _computed(length, Provenance("", lens=".length"), value.source, volatile=value.volatile)


def part_of_error(value: Value, path: Lambda, scope: Scope, key: Key = ANYTIME) -> Value:
    """A part of ``:error:`` or ``%last_error%``: the tetraplet stays what it is.

    Raises:
        Catchable: 10007 or 10010. Waiting: as for :func:`part_of`.
    """
    if type(path) is Length:
        return replace(_length(value), origins=value.origins)
    return _follow(value, path.accessors, (scope, key), value.origins)


def part_of_canon(canon: CanonStreamValue, path: Lambda, scope: Scope, me: str, key: Key = ANYTIME) -> Value:
    """An element of a canonicalised stream, or a part of one: with the tetraplet of the element.

    Raises:
        Catchable: 10007. Waiting: as for :func:`part_of`.
    """
    if type(path) is Length:
        # The reference's odd tetraplet, kept because services see it: the peer that runs, and the functor as service.
        return _computed(len(canon.elements), Provenance(me, service=".length"), Source.COUNTED)
    element = canon.elements[_element_index(len(canon.elements), path.accessors[0], (scope, key))]
    return _follow(element, path.accessors[1:], (scope, key), element.origins)


def part_of_canon_map(canon: CanonMapValue, path: Lambda, scope: Scope, me: str, key: Key = ANYTIME) -> Value:
    """The values of a key of a canonicalised map, one of them, or a part of one.

    Raises:
        Catchable: 10007. Waiting: as for :func:`part_of`.
    """
    if type(path) is Length:
        return _computed(len(canon.pairs), Provenance(me, lens="length"), Source.COUNTED)
    wanted = _map_key(path.accessors[0], (scope, key))
    values = canon.values(wanted)
    rest = path.accessors[1:]
    if values is None or not rest:
        whole = canon.array(wanted)
        return Value(whole.content, (behind(Provenance(canon.peer), lambda_text(path)),), Source.CANON, whole)
    element = values[_element_index(len(values), rest[0], (scope, key))]
    part = _follow(element, rest[1:], (scope, key), element.origins)
    lens = lambda_text(Path(rest[1:])).removeprefix(".$") if rest[1:] else ""
    return replace(part, origins=(behind(element.origins[0], lens),), source=Source.CANON)


def _computed(json: Json, origin: Provenance, source: Source, *, volatile: bool = False) -> Value:
    return Value(json, (origin,), source, RootValue(json), volatile=volatile)


def _follow(value: Value, accessors: tuple[Accessor, ...], names: Names, origins: tuple[Provenance, ...]) -> Value:
    """The part of a value to which accessors lead; that it is there is something that everybody has to see."""
    content = value.content
    if isinstance(content, Partial):
        content = value.root.content_at(value.path)
    path = list(value.path)
    try:
        for accessor in accessors:
            step = _step(accessor, names)
            if isinstance(content, Partial):
                content = content.part(step)
            else:
                content = _field(content, step) if isinstance(step, str) else _item(content, step)
            path.append(step)
    except Absent:
        raise value.root.missing() from None
    except Catchable:
        value.read()
        raise
    if value.root.mask is not None:
        value.root.note(tuple(path), Level.EXISTENCE)
    return Value(content, origins, value.source, value.root, tuple(path), value.volatile)


def _named(name: str, names: Names) -> Json:
    """The value of a name in a path."""
    scope, key = names
    return scope.scalar(name, key).read()


def _step(accessor: Accessor, names: Names) -> str | int:
    if type(accessor) is Field:
        return accessor.name
    if type(accessor) is Index:
        return accessor.index
    key = _named(accessor.name, names)
    if isinstance(key, str):
        return key
    if isinstance(key, bool) or not isinstance(key, int | float):
        raise bad_lambda(f"scalar accessor `{json_text(key)}` should has number or string type")
    return _index(key)


def _index(number: Json) -> int:
    if not is_integer(number) or not 0 <= number < INDEX_LIMIT:
        raise bad_lambda(f"index accessor `{json_text(number)} can't be converted to u32`")
    return int(number)


def _field(json: Json, name: str) -> Json:
    if not isinstance(json, dict):
        raise bad_lambda(
            f"value '{json_text(json)}' is not an map-type to match field accessor with field_name = '{name}'"
        )
    if name not in json:
        raise bad_lambda(f"value '{json_text(json)}' does not contain element with field name = '{name}'")
    return json[name]


def _item(json: Json, index: int) -> Json:
    if not isinstance(json, list):
        raise bad_lambda(f"value '{json_text(json)}' is not an array-type to match array accessor with idx = '{index}'")
    if index >= len(json):
        raise bad_lambda(f"value '{json_text(json)}' does not contain element for idx = '{index}'")
    return json[index]


def _element_index(size: int, accessor: Accessor, names: Names) -> int:
    match accessor:
        case Field(name):
            raise bad_lambda(f"field accessor (with field name = '{name}') can't be applied to a stream")
        case Index(index):
            pass
        case ByName(name):
            key = _named(name, names)
            if isinstance(key, bool) or not isinstance(key, int | float):
                raise bad_lambda(f"stream accessor `{json_text(key)}` should has number (u32) type")
            index = _index(key)
    if index >= size:
        raise bad_lambda(f"lambda is applied to a stream that have only '{size}' elements, but '{index}' requested")
    return index


def _map_key(accessor: Accessor, names: Names) -> MapKey:
    match accessor:
        case Field(name):
            return name
        case Index(index):
            return index
        case ByName(name):
            scope, position = names
            if scope.is_iterator(name, position):
                raise bad_lambda("canon stream map accessor must not be iterable")
            key = _named(name, names)
            if not is_map_key(key):
                raise bad_lambda(f"canon stream map accessor `{json_text(key)}` should be either string or number")
            found: MapKey = key
            return found
