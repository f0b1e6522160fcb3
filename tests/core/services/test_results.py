"""What functions may return: JSON values and what msgspec makes one of; everything else fails with a clear text."""

from __future__ import annotations

import datetime
from collections import OrderedDict, UserDict
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

import msgspec
import pytest
from fluvial.air.data.content import JSON_DEPTH_MAX
from fluvial.air.data.weight import EncodedJson
from fluvial.encoding import encode
from fluvial.errors import ServiceError
from fluvial.identity import KeyPair
from fluvial.services.values import to_json, to_result
from hypothesis import given, settings
from hypothesis import strategies as st


class Point(msgspec.Struct):
    x: int


@dataclass
class Named:
    name: str
    at: Point


class Level(IntEnum):
    LOW = 1


class Colour(Enum):
    RED = "red"


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


def endless() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("returned", "value"),
    [
        (None, None),
        (True, True),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (Named("a", Point(1)), {"name": "a", "at": {"x": 1}}),
        (Level.LOW, 1),
        (Colour.RED, "red"),
        (OrderedDict(b=1), {"b": 1}),
        (UserDict(b=(1,)), {"b": [1]}),
        (datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC), "2026-01-02T00:00:00Z"),
        (b"ab", "YWI="),
        (nested(JSON_DEPTH_MAX), nested(JSON_DEPTH_MAX)),
    ],
)
def test_what_can_be_json_becomes_json(returned: Any, value: Any) -> None:
    assert to_json(returned, of="a.b") == value


def test_a_peer_id_becomes_a_plain_string() -> None:
    result = to_json([KeyPair.generate().peer_id], of="a.b")
    assert type(result[0]) is str


@pytest.mark.parametrize(
    ("returned", "complaint"),
    [
        (float("nan"), r"nan is no JSON number, at \$"),
        ({"a": [1.0, float("inf")]}, r"inf is no JSON number, at \$\.a\[1\]"),
        ([2**64], r"does not fit in 64 bits, at \$\[0\]"),
        (-(2**63) - 1, "does not fit in 64 bits"),
        ({"a": {1: 2}}, r"the key 1 is not a string, at \$\.a"),
        ({None: 2}, "the key None is not a string"),
        ("\ud800", "surrogates not allowed"),
        (object(), "a builtins.object is no JSON value"),
        ([lambda: 1], "a builtins.function is no JSON value"),
        (nested(JSON_DEPTH_MAX + 1), "nested deeper than 128 levels"),
        (nested(100_000), "nested deeper than 128 levels"),
        (endless(), "nested deeper than 128 levels"),
    ],
)
def test_what_cannot_be_json_fails_with_status_5_and_says_why(returned: Any, complaint: str) -> None:
    with pytest.raises(ServiceError, match=complaint) as failure:
        to_json(returned, of="a.b")
    assert failure.value.status == 5
    assert failure.value.message.startswith("a.b returned what cannot be used: ")


def test_a_result_has_a_limit_in_bytes() -> None:
    assert to_json("x" * 97, of="a.b", bytes_max=99) == "x" * 97
    with pytest.raises(ServiceError, match="its 100 bytes are more than the limit of 99"):
        to_json("x" * 98, of="a.b", bytes_max=99)


@pytest.mark.parametrize(
    "value", [["x" * 100_000] * 10_000, [[[[]] * 100] * 100] * 1_000, {"a": [{"b": "y" * 99_999}] * 9_999}]
)
def test_a_result_that_repeats_a_large_value_is_refused_before_it_is_encoded(value: Any) -> None:
    with pytest.raises(ServiceError, match="more than"):
        to_json(value, of="a.b", bytes_max=100_000)


def test_a_heavy_result_stays_encoded() -> None:
    value = [[number] for number in range(10_000)]
    result = to_result(value, of="a.b")
    assert isinstance(result, EncodedJson)
    assert result.json == value
    assert len(result.data) < 50_000 < result.weight
    assert to_result([[1]] * 10, of="a.b") == [[1]] * 10


def test_objects_have_a_bounded_number_of_fields_together() -> None:
    few = [dict.fromkeys(map(str, range(10_000)), 0)] * 10
    assert to_json(few, of="a.b", bytes_max=10**7) == few
    with pytest.raises(ServiceError, match="more than 100,000 fields together"):
        to_json([*few, {"one": 1}], of="a.b", bytes_max=10**7)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=25)
@given(JSON)
def test_json_values_stay_what_they_are_and_can_be_encoded(value: Any) -> None:
    result = to_json(value, of="a.b")
    assert result == value
    assert encode(result) == encode(value)


@settings(max_examples=25)
@given(
    st.recursive(
        st.floats() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.integers() | st.text(), inner)
    )
)
def test_anything_else_is_a_service_error_and_nothing_worse(value: Any) -> None:
    try:
        result = to_json(value, of="a.b")
    except ServiceError as error:
        result = error.status
    assert result == 5 or encode(result)


@given(st.integers(990, 1_040), st.integers(1_000, 1_040), st.sampled_from(["a", "é", "\0"]))
def test_the_limit_of_a_text_is_that_of_its_encoding_whatever_its_length(
    length: int, bytes_max: int, letter: str
) -> None:
    text = letter * length
    if len(encode(text)) <= bytes_max:
        assert to_result(text, of="a.b", bytes_max=bytes_max) == text
    else:
        with pytest.raises(ServiceError, match="more than the limit"):
            to_result(text, of="a.b", bytes_max=bytes_max)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800"])
def test_what_cannot_be_encoded_is_no_result_however_short(value: Any) -> None:
    with pytest.raises(ServiceError):
        to_result(value, of="a.b")


def test_a_text_that_is_more_than_a_text_becomes_one() -> None:
    class Loud(str):
        __slots__ = ("volume",)

    assert type(to_result(Loud("a"), of="a.b")) is str
