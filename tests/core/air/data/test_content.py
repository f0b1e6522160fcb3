"""Content ids: the root of a Merkle tree over a value's structure, the same for the same value and never for another."""

from __future__ import annotations

import hashlib
import json
import struct
from itertools import pairwise
from typing import Any

import pytest
from fluvial.air.data.content import (
    CHECKED,
    ENCODED_AGAIN_MAX,
    JSON_DEPTH_MAX,
    LEAF_BYTES_MAX,
    VALUE_SIZE,
    Json,
    KnownIds,
    check_json,
    checking_json,
    content_id,
    merkle_root,
    node_id,
)
from fluvial.encoding import encode
from hypothesis import assume, given, settings
from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ATOMS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
JSON = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=15
)
LARGE = st.lists(JSON, min_size=1).map(lambda values: [*values, "x" * LEAF_BYTES_MAX])


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def tree_hash(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, in its own words: split at the largest power of two smaller than n."""
    if not leaves:
        return sha256()
    if len(leaves) == 1:
        return sha256(b"\x00", leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return sha256(b"\x01", tree_hash(leaves[:split]), tree_hash(leaves[split:]))


def independent_id(value: Any) -> bytes:
    """The content id as the documentation has it, from the leaves up."""
    encoded = encode(value)
    if len(encoded) > 256 and isinstance(value, list):
        return sha256(b"\x01", len(value).to_bytes(4, "big"), tree_hash([independent_id(item) for item in value]))
    if len(encoded) > 256 and isinstance(value, dict):
        pairs = sorted((key.encode(), independent_id(item)) for key, item in value.items())
        return sha256(
            b"\x02",
            len(value).to_bytes(4, "big"),
            tree_hash([independent_id(key.decode()) + item for key, item in pairs]),
        )
    return sha256(b"\x00", encoded)


PUBLISHED_LEAVES = [
    bytes.fromhex(text)
    for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
PUBLISHED_ROOTS = [  # certificate-transparency reference implementation, merkle tree tests
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize("count", range(9))
def test_merkle_root_is_the_published_one(count: int) -> None:
    assert merkle_root(PUBLISHED_LEAVES[:count]).hex() == PUBLISHED_ROOTS[count]


@given(st.lists(st.binary(max_size=40), max_size=40))
def test_merkle_root_is_the_one_of_the_definition(leaves: list[bytes]) -> None:
    assert merkle_root(leaves) == tree_hash(leaves)


@settings(max_examples=100)
@given(JSON | LARGE)
def test_content_id_is_the_documented_one(value: Any) -> None:
    assert content_id(value) == independent_id(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, sha256(b"\x00\xc0")),
        (True, sha256(b"\x00\xc3")),
        (1, sha256(b"\x00\x01")),
        (1.0, sha256(b"\x00\xcb", struct.pack(">d", 1.0))),
        ("a", sha256(b"\x00\xa1a")),
        ([], sha256(b"\x00\x90")),
        ({"b": 1, "a": 2}, sha256(b"\x00\x82\xa1a\x02\xa1b\x01")),
        ("x" * 300, sha256(b"\x00\xda\x01\x2c", b"x" * 300)),
        (
            ["x" * 300, 1],
            sha256(b"\x01\0\0\0\2", tree_hash([sha256(b"\x00\xda\x01\x2c", b"x" * 300), sha256(b"\x00\x01")])),
        ),
        (
            {"k": "x" * 300},
            sha256(b"\x02\0\0\0\1", tree_hash([sha256(b"\x00\xa1k") + sha256(b"\x00\xda\x01\x2c", b"x" * 300)])),
        ),
    ],
)
def test_known_ids(value: Any, expected: bytes) -> None:
    assert content_id(value) == expected


@settings(max_examples=50)
@given(st.dictionaries(TEXTS, ATOMS, min_size=2, max_size=8), st.randoms())
def test_order_of_keys_is_irrelevant(value: dict[str, Any], random: Any) -> None:
    pairs = [*value.items(), ("filler", "x" * 300)]
    whole = content_id(dict(pairs))
    random.shuffle(pairs)
    assert content_id(dict(pairs)) == whole


def canonical_text(value: Any) -> str:
    """Different for different JSON values: 1, 1.0 and true are three."""
    return json.dumps(value, sort_keys=True)


@settings(max_examples=100)
@given(JSON, JSON)
def test_different_values_have_different_ids(left: Any, right: Any) -> None:
    assume(canonical_text(left) != canonical_text(right))
    assert content_id(left) != content_id(right)


@given(st.integers(-(2**53), 2**53))
def test_integers_floats_and_booleans_never_collide(number: int) -> None:
    ids = {
        content_id(number),
        content_id(float(number)),
        content_id(bool(number)),
        content_id(str(number)),
        content_id([number]),
    }
    assert len(ids) == 5


def test_zero_and_minus_zero_differ() -> None:
    assert len({content_id(value) for value in (0, 0.0, -0.0, False, None, "", [], {})}) == 8


@settings(max_examples=50)
@given(LARGE, st.data())
def test_id_of_a_large_value_changes_with_every_part(value: list[Any], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(value) - 1))
    changed = [*value[:index], [value[index]], *value[index + 1 :]]
    assert content_id(changed) != content_id(value)
    assert content_id(value[::-1]) != content_id(value) or value[::-1] == value


@settings(max_examples=50)
@given(LARGE)
def test_ids_of_parts_stand_for_the_parts(value: list[Any]) -> None:
    size = len(value).to_bytes(4, "big")
    assert content_id(value) == sha256(b"\x01", size, merkle_root([content_id(item) for item in value]))


# --- what is JSON


@given(JSON)
def test_json_passes_and_its_size_is_said(value: Any) -> None:
    size = check_json(value)
    assert check_json(value, size) == size
    with pytest.raises(ValueError, match="larger than"):
        check_json([value], size)


def test_large_values_are_checked_in_slices() -> None:
    value = [["text"], 1] * 3 * CHECKED
    assert len(list(checking_json(value))) == 7
    assert check_json(value) == VALUE_SIZE * (1 + 9 * CHECKED) + 12 * CHECKED


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (None, VALUE_SIZE),
        ("abc", VALUE_SIZE + 3),
        ([1, [2]], 4 * VALUE_SIZE),
        ({"ab": "c", "d": {}}, 3 * VALUE_SIZE + 4),
    ],
)
def test_size_counts_values_and_characters(value: Any, size: int) -> None:
    assert check_json(value) == size


@pytest.mark.parametrize(
    "value",
    [b"x", float("nan"), float("inf"), -float("inf"), ..., (1,), {1, 2}, {1: 2}, {None: 1}, {b"k": 1}],
    ids=repr,
)
def test_what_is_no_json_is_refused_wherever_it_stands(value: Any) -> None:
    for inside in (value, [1, value], {"k": [value]}):
        with pytest.raises(ValueError, match=r"is no JSON value|is no text"):
            check_json(inside)


def test_depth_is_bounded() -> None:
    value: Any = "leaf"
    for _ in range(JSON_DEPTH_MAX):
        value = [value]
    check_json(value)
    with pytest.raises(ValueError, match="nested deeper than 128"):
        check_json([value])


def test_shared_parts_count_as_often_as_they_occur_in_bounded_time() -> None:
    value: Any = []
    for _ in range(100):
        value = [value, value]
    with pytest.raises(ValueError, match="larger than"):
        check_json(value, 100_000)


def test_ids_of_parts_are_noted_and_the_same() -> None:
    long = "x" * LEAF_BYTES_MAX
    value: Any = {"a": [[long, 1], {"b": [long] * 3}], "c": long, "d": [1, 2]}
    known: KnownIds = {}
    assert content_id(value, known) == content_id(value)
    for part in (value, value["a"], value["a"][0], value["a"][1], value["a"][1]["b"]):
        assert known[id(part)] == (part, content_id(part))
        assert content_id(part, known) == content_id(part)
    assert len(known) == 5


def test_ids_of_large_deep_values_are_those_of_their_parts() -> None:
    value: Json = [{"k": number, "l": ["x" * (100 + number % 100)]} for number in range(600)]
    assert len(encode(value)) > ENCODED_AGAIN_MAX
    parts = [value]
    for level in range(100):
        value = [value] if level % 2 else {"a": value, "b": level}
        parts.append(value)
    for (_, inner), (outer, found) in pairwise((part, content_id(part)) for part in parts):
        leaves = (
            [inner] if isinstance(outer, list) else [content_id("a") + inner, content_id("b") + content_id(outer["b"])]
        )
        assert found == node_id(len(outer), merkle_root(leaves), of_object=isinstance(outer, dict))
