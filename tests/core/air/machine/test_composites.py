"""Canonicalised streams and maps are gone through once, however many instructions use them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fluvial.air.data.content import content_id
from fluvial.air.data.pace import NODES, SlicePace
from fluvial.air.data.partial import ABSENT, Level, Mask
from fluvial.air.machine import canon_values
from fluvial.air.machine.canon_values import CanonMapValue, CanonStreamValue
from fluvial.air.machine.provenance import Provenance, Source
from fluvial.air.machine.values import Composite, Path, RootValue, Value, literal


class CountedRoot(RootValue):
    """A value that could be left out, and counts what is noted of it."""

    __slots__ = ("noted",)

    def __init__(self, content: Any) -> None:
        super().__init__(content, content_id(content), Mask())
        self.noted: list[tuple[Path, Level]] = []

    def note(self, path: Path, level: Level) -> None:
        self.noted.append((path, level))
        super().note(path, level)


def member(content: Any) -> Value:
    return Value(content, (Provenance("p"),), Source.CALL, CountedRoot(content))


def noted(one: Value) -> list[tuple[Path, Level]]:
    assert isinstance(one.root, CountedRoot)
    return one.root.noted


def pauses(work: Iterator[None]) -> int:
    return sum(1 for _ in work)


def test_what_is_read_as_a_whole_is_noted_once() -> None:
    members = [member(number) for number in range(5)]
    canon = CanonStreamValue("p", tuple(members)).whole
    for _ in range(3):
        assert canon.read() == [0, 1, 2, 3, 4]
    assert [noted(one) for one in members] == [[((), Level.WHOLE)]] * 5


def test_a_part_of_a_whole_is_noted_by_itself() -> None:
    members = [member([number]) for number in range(3)]
    array = Composite(members)
    fields = Composite(members, ("a", "b", "c"))
    array.note((1, 0), Level.EXISTENCE)
    fields.note(("c",), Level.SIZE)
    array.note((), Level.SIZE)
    assert [noted(one) for one in members] == [[], [((0,), Level.EXISTENCE)], [((), Level.SIZE)]]
    assert list(fields.asked_for(("b", 0), Level.WHOLE)) == [(members[1], (0,), Level.WHOLE)]
    array.note((3,), Level.EXISTENCE)
    assert [noted(one)[-1] for one in members] == [((), Level.WHOLE)] * 3


def test_what_cannot_be_left_out_is_not_gone_through(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = Composite([literal(number, "p") for number in range(5)])
    outer = Composite([Value(inner.content, (Provenance("p"),), Source.CANON, inner)])
    monkeypatch.setattr(RootValue, "note", None)
    outer.note((), Level.WHOLE)
    outer.note((0, 3), Level.WHOLE)


def test_ids_are_noted_in_slices_and_once() -> None:
    members = [member(number) for number in range(4)]
    arrays = [CanonStreamValue("p", (one,) * NODES).whole for one in members]
    whole = CanonStreamValue("p", tuple(arrays)).whole
    assert pauses(whole.noting_id(SlicePace())) >= 4
    assert [len(noted(one)) for one in members] == [NODES] * 4
    assert pauses(whole.noting_id(SlicePace())) == 0
    whole.read()
    assert [len(noted(one)) for one in members] == [2 * NODES] * 4, "their ids are not all of them"


def test_a_map_is_looked_through_once_for_all_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0

    def counted(pair: Value) -> Any:
        nonlocal asked
        asked += 1
        return found(pair)

    found = canon_values.key_of
    monkeypatch.setattr(canon_values, "key_of", counted)
    keys = ["a", "b", 1, "1", "a"]
    canon = CanonMapValue("p", tuple([member({"key": key, "value": place}) for place, key in enumerate(keys)]))
    for _ in range(3):
        assert [[one.content for one in canon.values(key) or ()] for key in ("a", "b", 1, "1", "c")] == [
            [0, 4],
            [1],
            [2],
            [3],
            [],
        ]
    assert asked == len(keys)


def test_a_whole_follows_what_is_known_of_its_members() -> None:
    key = content_id("x")
    root = RootValue(ABSENT, key, Mask())
    whole = CanonStreamValue("p", (Value(ABSENT, (Provenance("p"),), Source.CALL, root),)).whole
    root.content = "x"
    assert whole.json == ["x"]
