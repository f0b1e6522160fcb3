"""Partial values: what is shown of a value proves itself, heals what others show, and is written in one way only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fluvial.air.data.content import JSON_DEPTH_MAX, LEAF_BYTES_MAX, Json, content_id, leaf_hash
from fluvial.air.data.healing import adding, adds, merged, merging, uniting
from fluvial.air.data.pace import NODES, Found, SlicePace
from fluvial.air.data.partial import ABSENT, Absent, Level, Mask, Partial, covers, cut, id_of, split, together
from fluvial.air.data.proofs import (
    ArrayPart,
    FieldPart,
    Hidden,
    ObjectPart,
    WholePart,
    read_proof,
    reading_proof,
    write_proof,
    writing_proof,
)
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from hypothesis import given, settings
from hypothesis import strategies as st

LONG = "x" * (LEAF_BYTES_MAX + 1)

Path = tuple[str | int, ...]

ATOMS = st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "a", LONG, LONG + "y"])
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=9) | st.dictionaries(st.text("abcé", max_size=3), inner, max_size=6),
    max_leaves=25,
)


def paths(value: Json) -> Iterator[Path]:
    """Every part of a value."""
    yield ()
    steps = range(len(value)) if isinstance(value, list) else value if isinstance(value, dict) else ()
    for step in steps:
        yield from ((step, *rest) for rest in paths(value[step]))


@st.composite
def values_and_masks(draw: st.DrawFn) -> tuple[Json, list[tuple[Path, Level]]]:
    """A value, and what is asked for of it."""
    value = draw(VALUES)
    wanted = st.tuples(st.sampled_from(list(paths(value))), st.sampled_from(list(Level)))
    return value, draw(st.lists(wanted, max_size=4))


def mask_of(wanted: list[tuple[Path, Level]]) -> Mask:
    mask = Mask()
    for path, level in wanted:
        mask.add(path, level)
    return mask


def at(content: Any, path: Path) -> Any:
    for step in path:
        content = content.part(step) if isinstance(content, Partial) else content[step]
    return content


def sent(partial: Partial) -> Partial:
    """A partial value after a journey."""
    kind = ObjectPart if partial.is_object else ArrayPart
    return read_proof(decode(encode(write_proof(partial)), kind, what="proof"))


@given(values_and_masks())
def test_a_cut_has_what_was_asked_for_and_the_id_of_the_whole(given_: tuple[Json, list[tuple[Path, Level]]]) -> None:
    value, wanted = given_
    mask = mask_of(wanted)
    part = cut(value, mask)
    assert id_of(part) == content_id(value)
    assert covers(part, mask)
    for path, level in wanted:
        if level is Level.WHOLE:
            assert at(part, path) == at(value, path)
        elif not isinstance(shown := at(part, path), Partial):
            assert shown == at(value, path)
        elif level is Level.SIZE and isinstance(at(value, path), list | dict):
            assert shown.size == len(at(value, path))


@given(values_and_masks())
def test_a_partial_value_comes_back_as_it_was(given_: tuple[Json, list[tuple[Path, Level]]]) -> None:
    value, wanted = given_
    part = cut(value, mask_of(wanted))
    if isinstance(part, Partial) and part.tree is not None:
        again = sent(part)
        assert again.id == part.id == content_id(value)
        assert write_proof(again) == write_proof(part)


@given(values_and_masks(), st.data())
def test_a_cut_of_a_cut_is_what_the_smaller_mask_asks_for(
    given_: tuple[Json, list[tuple[Path, Level]]], data: st.DataObject
) -> None:
    value, wanted = given_
    fewer = data.draw(st.lists(st.sampled_from(wanted), unique=True)) if wanted else []
    part = cut(cut(value, mask_of(wanted)), mask_of(fewer))
    assert id_of(part) == content_id(value)
    assert covers(part, mask_of(fewer))


@given(values_and_masks(), st.data())
def test_holes_heal(given_: tuple[Json, list[tuple[Path, Level]]], data: st.DataObject) -> None:
    value, wanted = given_
    others = data.draw(st.lists(st.tuples(st.sampled_from(list(paths(value))), st.sampled_from(list(Level)))))
    one, other = cut(value, mask_of(wanted)), cut(value, mask_of(others))
    healed = merged(one, other)
    assert id_of(healed) == content_id(value)
    assert covers(healed, mask_of(wanted))
    assert covers(healed, mask_of(others))
    assert shape(healed) == shape(merged(other, one))
    assert shape(merged(healed, one)) == shape(healed)
    assert merged(healed, value) == merged(value, healed) == value


def shape(content: Any) -> Any:
    """Comparable."""
    if not isinstance(content, Partial):
        return content
    return content.id if content.tree is None else encode(write_proof(content))


@settings(max_examples=40)
@given(VALUES)
def test_all_parts_together_are_the_whole(value: Json) -> None:
    parts = [cut(value, mask_of([(path, Level.WHOLE)])) for path in paths(value) if path]
    whole: Any = cut(value, Mask())
    for part in parts:
        whole = merged(whole, part)
    if not isinstance(whole, Partial) or whole.size:
        assert whole == value or not value


@given(values_and_masks(), st.data())
def test_an_altered_proof_is_refused_or_proves_another_value(
    given_: tuple[Json, list[tuple[Path, Level]]], data: st.DataObject
) -> None:
    value, wanted = given_
    part = cut(value, mask_of(wanted))
    if not isinstance(part, Partial) or part.tree is None:
        return
    spelled = bytearray(encode(write_proof(part)))
    place = data.draw(st.integers(0, len(spelled) - 1))
    spelled[place] ^= 1 << data.draw(st.integers(0, 7))
    kind = ObjectPart if part.is_object else ArrayPart
    try:
        other = read_proof(decode(bytes(spelled), kind, what="proof"))
    except RemoteProtocolError:
        return
    assert other.id != part.id


HASH = b"\1" * 32


@pytest.mark.parametrize(
    ("proof", "problem"),
    [
        (ArrayPart(0, ()), "0 parts"),
        (ArrayPart(2**32, (HASH,)), "parts"),
        (ArrayPart(2, ()), "fewer nodes"),
        (ArrayPart(2, (None, HASH)), "fewer nodes"),
        (ArrayPart(2, (HASH, HASH)), "more nodes"),
        (ArrayPart(2, (None, HASH, HASH)), "nothing is shown"),
        (ArrayPart(2, (WholePart(1),)), "fewer forks"),
        (ArrayPart(1, (None, WholePart(1), HASH)), "more forks"),
        (ArrayPart(2, (None, WholePart(1), WholePart(2))), "all of its parts"),
        (ArrayPart(1, (b"short",)), "32 bytes"),
        (ArrayPart(1, (Hidden(b"short"),)), "32 bytes"),
        (ArrayPart(1, (WholePart(b"no json"),)), "no JSON"),
        (ArrayPart(1, (WholePart(float("nan")),)), "no JSON"),
        (ObjectPart(3, (None, None, FieldPart("b", WholePart(1)), FieldPart("a", WholePart(2)), HASH)), "order"),
        (ObjectPart(3, (None, None, FieldPart("a", WholePart(1)), FieldPart("a", WholePart(2)), HASH)), "order"),
    ],
)
def test_what_is_no_proof_is_refused(proof: ArrayPart | ObjectPart, problem: str) -> None:
    with pytest.raises(RemoteProtocolError, match=problem):
        read_proof(proof)


def test_who_signs_a_tree_that_is_no_value_is_found_out_when_its_parts_meet() -> None:
    """A small array is no tree: whoever signed its root named nothing."""
    leaves = [content_id(1), content_id(2)]
    hashes = [leaf_hash(leaf) for leaf in leaves]
    one = read_proof(ArrayPart(2, (None, WholePart(1), hashes[1])))
    other = read_proof(ArrayPart(2, (None, hashes[0], WholePart(2))))
    assert one.id == other.id != content_id([1, 2])
    with pytest.raises(RemoteProtocolError, match="do not make up"):
        merged(one, other)


def test_fields_that_are_out_of_order_are_found_out_when_they_meet() -> None:
    """The same name twice: one half of the tree shows a field, the other half the same field with another value."""
    hashes = [leaf_hash(content_id("a") + content_id(value)) for value in (1, 2)]
    one = read_proof(ObjectPart(2, (None, FieldPart("a", WholePart(1)), hashes[1])))
    other = read_proof(ObjectPart(2, (None, hashes[0], FieldPart("a", WholePart(2)))))
    assert one.id == other.id
    with pytest.raises(RemoteProtocolError, match="order"):
        merged(one, other)


def test_what_is_not_shown_is_absent() -> None:
    part = cut({"name": "n", "blob": LONG}, mask_of([(("name",), Level.WHOLE)]))
    assert isinstance(part, Partial)
    assert part.part("name") == "n"
    for step in ("blob", "other", 0):
        with pytest.raises(Absent):
            part.part(step)


def test_values_put_together_are_partial_if_one_of_them_is() -> None:
    hole = cut(LONG, Mask())
    assert together([1, [2]]) == [1, [2]]
    array = together([1, hole, 3])
    assert isinstance(array, Partial)
    assert (array.size, array.part(0), array.part(1), array.part(2)) == (3, 1, hole, 3)
    fields = together({"key": "k", "value": hole})
    assert isinstance(fields, Partial)
    assert (fields.part("key"), fields.part("value")) == ("k", hole)
    assert id_of(array) == content_id([1, LONG, 3])
    assert id_of(fields) == content_id({"key": "k", "value": LONG})
    unsorted = together({"z": hole, "a": hole, "é": 1})
    assert id_of(unsorted) == content_id({"z": LONG, "a": LONG, "é": 1})
    with pytest.raises(Absent):
        id_of(together([1, ABSENT]))


# --- what strangers make large


def shown_but(fields: int, hidden: int = 0) -> Partial:
    """A proof of so many fields, of which one is not shown."""
    value = {f"f{number:05}": f"{number:040}" for number in range(fields)}
    part = cut(value, mask_of([((name,), Level.WHOLE) for place, name in enumerate(value) if place != hidden]))
    assert isinstance(part, Partial)
    return part


class CountedName(str):
    """A name that counts with how many it is compared."""

    __slots__ = ("compared",)
    compared: int

    def __lt__(self, other: str) -> bool:
        self.compared += 1
        return str.__lt__(self, other)


@pytest.mark.parametrize("place", [1, 2_048, 4_095])
def test_a_field_is_found_without_a_look_at_all_of_them(place: int) -> None:
    name = CountedName(f"f{place:05}")
    name.compared = 0
    assert shown_but(4_096).part(name) == f"{place:040}"
    assert name.compared <= 12


def test_fields_that_are_not_shown_are_not_found() -> None:
    part = shown_but(9, hidden=4)
    assert dict(part.shown()) == {f"f{place:05}": f"{place:040}" for place in range(9) if place != 4}
    for name in ("", "f00004", "f000041", "g"):
        with pytest.raises(Absent):
            part.part(name)


def pauses(work: Found[Any]) -> tuple[int, Any]:
    """How often work hands control back, and what it comes to."""
    count = 0
    while True:
        try:
            next(work)
        except StopIteration as end:
            return count, end.value
        count += 1


def test_large_partial_values_are_worked_with_in_slices() -> None:
    fields = 4 * NODES
    one, other = shown_but(fields), shown_but(fields, hidden=fields - 1)
    written, proof = pauses(writing_proof(one, SlicePace()))
    read, again = pauses(reading_proof(proof, SlicePace()))
    looked, news = pauses(adding(one, again, SlicePace()))
    joined, whole = pauses(merging(one, other, SlicePace()))
    assert (again.id, news, len(whole)) == (one.id, False, fields)
    assert min(written, read, looked, joined) >= 7  # two nodes for a field
    united, _ = pauses(uniting({}, {content_id(number): number for number in range(fields)}))
    assert united >= 4


def test_many_small_partial_values_within_one_are_counted_together() -> None:
    size = 2 * NODES
    parts = [ArrayPart(2, (None, WholePart(1), HASH))] * (size - 1)
    flat: list[Any] = []
    sizes = [size]
    leaves: list[Any] = [HASH, *parts][::-1]
    while sizes:
        if (over := sizes.pop()) == 1:
            flat.append(leaves.pop())
        else:
            flat.append(None)
            sizes += (over - split(over), split(over))
    count, part = pauses(reading_proof(ArrayPart(size, tuple(flat)), SlicePace()))
    assert count >= 8
    assert part.size == size


def nested(levels: int, forks: int) -> ArrayPart:
    """Arrays within each other, each the first element of a long one."""
    proof: Any = WholePart(1)
    for _ in range(levels):
        proof = ArrayPart(1 << forks, (None,) * forks + (proof,) + (HASH,) * forks)
    return proof


@pytest.mark.parametrize("forks", [1, 31])
def test_a_proof_may_be_as_deep_as_values(forks: int) -> None:
    part = read_proof(nested(JSON_DEPTH_MAX, forks))
    mask = mask_of([((0,) * JSON_DEPTH_MAX, Level.WHOLE)])
    again = cut(part, mask)
    assert covers(again, mask)
    assert not adds(part, again)
    assert shape(merged(part, again)) == shape(again) == shape(part)
    assert id_of(part) == part.id
    with pytest.raises(RemoteProtocolError, match="nested deeper"):
        read_proof(nested(JSON_DEPTH_MAX + 1, forks))


def test_the_values_in_a_proof_are_no_deeper_for_it() -> None:
    def around(value: Json) -> ArrayPart:
        return ArrayPart(2, (None, WholePart(value), HASH))

    value: Json = 1
    for _ in range(JSON_DEPTH_MAX - 1):
        value = [value]
    read_proof(around(value))
    with pytest.raises(RemoteProtocolError, match="nested deeper"):
        read_proof(around([value]))
