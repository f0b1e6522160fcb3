"""Ids of large values in slices are the ids of the values, and no slice has much to hash."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

import pytest
from fluvial.air.data import content_slices
from fluvial.air.data.content import Json, content_id
from fluvial.air.data.content_slices import HASHES, sliced_content_id


def run(value: Json) -> tuple[bytes, int]:
    """The id, and how many slices it took."""
    work, slices = sliced_content_id(value), 1
    while True:
        try:
            next(work)
            slices += 1
        except StopIteration as end:
            return end.value, slices


def made(rng: Random, depth: int) -> Json:
    """A value, often larger than a leaf."""
    kind = rng.randrange(4 if depth else 2)
    if kind == 0:
        return rng.choice((None, True, 1.5, rng.randint(-(2**63), 2**64 - 1)))
    if kind == 1:
        return "ß" * rng.choice((0, 3, 100, 300))
    if kind == 2:
        return [made(rng, depth - 1) for _ in range(rng.choice((0, 1, 5, 40)))]
    return {f"k{rng.random()}": made(rng, depth - 1) for _ in range(rng.choice((0, 1, 5, 40)))}


@pytest.mark.parametrize("seed", range(20))
def test_the_id_is_that_of_the_value(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = Random(seed)
    monkeypatch.setattr(content_slices, "HASHES", rng.randint(1, 40))
    monkeypatch.setattr(content_slices, "PART", 2 ** rng.randint(0, 4))
    value = made(rng, 3)
    assert run(value)[0] == content_id(value)


@pytest.mark.parametrize(
    "value",
    [
        list(range(20_000)),
        {str(number): number for number in range(10_000)},
        [[number] * 300 for number in range(200)],
        {"a": [{"b": [[number, str(number)] for number in range(9_000)]}]},
    ],
)
def test_a_large_value_takes_many_slices(value: Any) -> None:
    key, slices = run(value)
    assert key == content_id(value)
    assert slices >= _count(value) // HASHES


def _count(value: Any) -> int:
    def below(item: Any) -> Iterator[Any]:
        yield from item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()

    level, count = [value], 0
    while level:
        count += len(level)
        level = [one for item in level for one in below(item)]
    return count
