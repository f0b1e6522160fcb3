"""Scenario files: what they may say, and what is wrong with those that say something else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fluvial.errors import ConfigError
from fluvial.identity import KeyPair
from fluvial.simulation.scenario import MockedError, MockedServices, PeerNames, Scenario, Seeded, ServiceRow, key_of

GOOD: dict[str, Any] = {"name": "n", "script": "(null)", "init_peer": "a", "peers": ["a", "b"]}


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "scenario.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_short_scenario_is_enough(tmp_path: Path) -> None:
    scenario = Scenario.load(write(tmp_path, GOOD))
    assert (scenario.services, scenario.absent_peers, scenario.order) == ([], [], "fifo")


def test_everything_that_may_be_said_is_read(tmp_path: Path) -> None:
    rows = [
        {"peer": "@b", "service": "s", "function": "f", "returns": None},
        {"function": "f", "echo": 0},
        {"error": {"code": 1, "message": '"no"'}},
        {"service": None, "returns_each": [1, 2]},
    ]
    scenario = Scenario.load(
        write(tmp_path, {**GOOD, "about": "x", "services": rows, "absent_peers": ["b"], "order": {"seed": 7}})
    )
    assert scenario.order == Seeded(7)
    assert scenario.services[2].error == MockedError(1, '"no"')
    assert Scenario.load(write(tmp_path, {**GOOD, "order": None})).order is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("not json", "malformed"),
        ('{"name": "n"', "truncated"),
        ([], "Expected `object`"),
        ({"script": None}, r"Expected `str`, got `null` - at `\$.script`"),
        ({"peers": "a"}, r"at `\$.peers`"),
        ({"services": [{"return": 1}]}, "unknown field `return`"),
        ({"services": [{"echo": "0"}]}, r"at `\$.services\[0\].echo`"),
        ({"services": [{"error": {"code": 1}}]}, "missing required field `message`"),
        ({"order": "lifo"}, "Invalid enum value 'lifo'"),
        ({"order": {"seed": "x"}}, r"at `\$.order.seed`"),
        ({"init_peer": "c"}, "init_peer 'c' is not among the peers"),
        ({"peers": []}, "init_peer 'a' is not among the peers"),
        ({"services": [{}, {"returns_each": []}]}, r"services\[1\]: returns_each needs at least one value"),
        ({"services": [{"echo": -1}]}, r"services\[0\]: echo counts arguments from 0"),
        ({"services": [{"error": {"code": 0, "message": ""}}]}, r"services\[0\]: an error's code must not be 0"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_and_where(tmp_path: Path, change: Any, problem: str) -> None:
    path = write(tmp_path, {**GOOD, **change} if isinstance(change, dict) else change)
    with pytest.raises(ConfigError, match=problem) as caught:
        Scenario.load(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize("field", ["name", "script", "init_peer", "peers"])
def test_missing_fields_are_named(tmp_path: Path, field: str) -> None:
    with pytest.raises(ConfigError, match=f"missing required field `{field}`"):
        Scenario.load(write(tmp_path, {name: value for name, value in GOOD.items() if name != field}))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        Scenario.load(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="Is a directory"):
        Scenario.load(tmp_path)
    path = tmp_path / "latin.json"
    path.write_bytes(b'{"name": "\xff"}')
    with pytest.raises(ConfigError, match="this is no scenario"):
        Scenario.load(path)


# --- names


def test_keys_are_made_from_names() -> None:
    secret = hashlib.sha256(b"fluvial:client").digest()
    assert key_of("client").peer_id == KeyPair.from_secret(secret).peer_id
    assert PeerNames(["client"]).keys["client"].peer_id == key_of("client").peer_id


def test_names_become_ids_in_literals_of_scripts() -> None:
    names = PeerNames(["a", "long-name_1"])
    a, long = (key_of(name).peer_id for name in ("a", "long-name_1"))
    script = '(call "@a" ("s" "@long-name_1") ["@unknown" "x @a" @a])'
    assert names.script_to_ids(script) == f'(call "{a}" ("s" "{long}") ["@unknown" "x @a" @a])'


def test_names_become_ids_in_whole_strings_of_values_only() -> None:
    names = PeerNames(["a"])
    a = key_of("a").peer_id
    value = {"@a": ["@a", "x @a", "@b", 1, None, {"k": "@a"}]}
    assert names.to_ids(value) == {"@a": [a, "x @a", "@b", 1, None, {"k": a}]}


def test_integers_beyond_64_bits_are_floats() -> None:
    names = PeerNames(["a"])
    assert names.to_ids([2**64, {"k": -(2**63) - 1}]) == [2.0**64, {"k": -(2.0**63)}]
    assert [type(one) for one in names.to_ids([2**64, 2**64 - 1, -(2**63), True])] == [float, int, int, bool]


def test_ids_become_names_wherever_they_occur() -> None:
    names = PeerNames(["a", "b"])
    a, b = (str(key_of(name).peer_id) for name in "ab")
    value = {f"key of {a}": [f"{a}{b}", f"<{b}>", b, 1.5, True, (a, None)], "k": {a: b}}
    assert names.to_names(value) == {"key of @a": ["@a@b", "<@b>", "@b", 1.5, True, ["@a", None]], "k": {"@a": "@b"}}
    assert names.name(a) == "a"
    assert names.name("x") is None


# --- services


def answers(rows: list[dict[str, Any]], *calls: tuple[str, str, str, list[Any]]) -> list[Any]:
    services = MockedServices(msgspec.convert(rows, list[ServiceRow]), PeerNames(["a", "b"]))
    return [services.answer(*call) for call in calls]


def test_first_row_that_matches_answers() -> None:
    rows = [
        {"peer": "a", "service": "s", "function": "f", "returns": "a s f"},
        {"peer": "@b", "returns": "b"},
        {"service": "s", "returns": "s"},
        {"function": "f", "returns": "f"},
    ]
    calls: list[tuple[str, str, str, list[Any]]] = [
        ("a", "s", "f", []),
        ("b", "s", "f", []),
        ("a", "s", "g", []),
        ("a", "t", "f", []),
        ("a", "t", "g", []),
    ]
    assert answers(rows, *calls) == ["a s f", "b", "s", "f", MockedError(1, '"no such service"')]


def test_ways_to_answer() -> None:
    call: tuple[str, str, str, list[Any]] = ("a", "s", "f", [10, 20])
    assert answers([{"echo": 1}], call) == [20]
    assert answers([{"echo": 2}], call) == [None]
    assert answers([{}], call) == [None]
    assert answers([{"returns": "@b"}], call) == [key_of("b").peer_id]
    assert answers([{"returns_each": [1, None, "@a"]}], *[call] * 5) == [1, None, *[key_of("a").peer_id] * 3]
    assert answers([{"error": {"code": 5, "message": "plain"}}], call) == [MockedError(5, "plain")]


def test_values_in_turn_are_counted_by_row_over_all_peers() -> None:
    rows = [{"function": "f", "returns_each": [1, 2, 3]}, {"returns_each": ["x", "y"]}]
    calls: list[tuple[str, str, str, list[Any]]] = [
        ("a", "s", "f", []),
        ("b", "t", "f", []),
        ("a", "s", "g", []),
        ("a", "s", "f", []),
        ("b", "s", "g", []),
    ]
    assert answers(rows, *calls) == [1, 2, "x", 3, "y"]
