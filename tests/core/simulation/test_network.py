"""Whole flows in one process: who gets what in which order, and what the command prints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from fluvial.air.data.content import JSON_DEPTH_MAX
from fluvial.cli import main as root
from fluvial.simulation import network
from fluvial.simulation.network import Observation, simulate
from fluvial.simulation.scenario import Scenario


def play(script: str, *rows: dict[str, Any], **more: Any) -> Observation:
    fields = {
        "name": "n",
        "script": script,
        "init_peer": "a",
        "peers": ["a", "b", "c", "d"],
        "services": [*rows, {"returns": None}],
    }
    return simulate(msgspec.convert({**fields, **more}, Scenario))


def made(observation: Observation) -> list[str]:
    return [f"{call.peer} {call.function}" for call in observation.calls]


SPREAD = """
    (par (call "@b" ("s" "b") [])
      (par (call "@c" ("s" "c") [])
        (par (call "@d" ("s" "d") []) (null))))
"""


def test_deliveries_are_handled_in_order_of_arrival() -> None:
    observation = play(SPREAD)
    assert made(observation) == ["@b b", "@c c", "@d d"]
    assert (observation.deliveries, observation.failures, observation.lost) == (3, [], [])


def test_particles_of_one_run_go_out_in_the_order_of_the_peers() -> None:
    assert made(play(SPREAD, peers=["d", "c", "a", "b"])) == ["@d d", "@c c", "@b b"]


@pytest.mark.parametrize("seed", [0, 1, 7, 2**32 + 7, 123_456_789])
def test_seed_picks_deliveries_as_the_generator_has_it(seed: int) -> None:
    queue, expected, state = ["@b b", "@c c", "@d d"], [], seed % 2**32
    while queue:
        state = (1664525 * state + 1013904223) % 2**32
        expected.append(queue.pop((state >> 16) % len(queue)))
    assert made(play(SPREAD, order={"seed": seed})) == expected


def test_a_value_that_is_nested_too_deep_is_a_failure_of_its_service() -> None:
    deep: list[Any] = []
    for _ in range(JSON_DEPTH_MAX):
        deep = [deep]
    script = '(seq (call "@b" ("s" "deep") [] x) (call "@c" ("s" "after") [x]))'
    assert made(play(script, {"function": "deep", "returns": deep[0]})) == ["@b deep", "@c after"]
    observation = play(script, {"function": "deep", "returns": [deep]})
    assert made(observation) == ["@b deep"]
    assert [(one.peer, one.code) for one in observation.failures] == [("@b", 10000)]


def test_seeds_lead_to_different_orders_and_each_to_the_same() -> None:
    orders = {tuple(made(play(SPREAD, order={"seed": seed}))) for seed in range(20)}
    assert len(orders) > 2
    assert play(SPREAD, order={"seed": 3}) == play(SPREAD, order={"seed": 3})


def test_particles_for_absent_and_unknown_peers_are_lost() -> None:
    script = '(par (call "@b" ("s" "b") []) (par (call "@zoe" ("s" "z") []) (par (call "nobody" ("s" "n") []) (call "@c" ("s" "c") []))))'
    observation = play(script, absent_peers=["@b"])
    assert made(observation) == ["@c c"]
    assert observation.lost == ["@b", "@zoe", "nobody"]
    assert observation.deliveries == 1


def test_lost_peers_are_listed_once() -> None:
    script = '(par (call "@b" ("s" "1") []) (seq (call "@c" ("s" "c") []) (par (call "@b" ("s" "2") []) (call "@b" ("s" "3") []))))'
    assert play(script, absent_peers=["b"]).lost == ["@b"]


def test_names_stand_for_ids_in_every_part_of_the_observation() -> None:
    script = """
        (seq (call "@b" ("s" "value") ["@c"] x)
          (seq (canon "@a" $s #s) (xor (match x "@b" (null)) (call x.$.who ("s" "deep") [x x.$.list]))))
    """
    rows = {"function": "value", "returns": {"who": "@a", "list": ["@b"], "text": "for @b"}}
    observation = play(script, rows)
    assert observation.calls[0].args == ["@c"]
    assert observation.calls[1].peer == "@a"
    assert observation.calls[1].args == [{"who": "@a", "list": ["@b"], "text": "for @b"}, ["@b"]]
    assert observation.calls[1].tetraplets[1] == [
        {"peer": "@b", "service": "s", "function": "value", "lens": ".$.list"}
    ]


def test_names_stand_for_ids_in_keys_and_longer_texts() -> None:
    script = """
        (seq (seq (ap ("@b" 1) %m) (canon "@a" %m o))
          (seq (call "@a" ("s" "keys") [o]) (xor (call "@b" ("s" "bad") []) (call "@a" ("s" "text") [:error:.$.instruction]))))
    """
    observation = play(script, {"function": "bad", "error": {"code": 1, "message": '"@x"'}})
    assert [call.args for call in observation.calls] == [[{"@b": 1}], [], ['call "@b" ("s" "bad") [] ']]


def test_failures_name_peer_code_and_message() -> None:
    observation = play('(call "@b" ("s" "bad") [])', {"function": "bad", "error": {"code": 1, "message": '"no"'}})
    (failure,) = observation.failures
    assert (failure.peer, failure.code) == ("@b", 10000)
    assert failure.message == "Local service error, ret_code is 1, error message is '\"no\"'"


def test_script_that_does_not_parse_is_a_failure_of_the_first_peer() -> None:
    observation = play("(seq (null))")
    assert [(failure.peer, failure.code) for failure in observation.failures] == [("@a", 1)]
    assert (observation.calls, observation.deliveries, observation.final_data_bytes) == ([], 0, {})


def test_data_that_a_peer_would_send_are_measured() -> None:
    small = play('(call "@a" ("s" "f") [] x)', {"returns": "x"}).final_data_bytes
    large = play(
        '(seq (call "@a" ("s" "f") [] x) (call "@b" ("s" "f") [x]))', {"returns": "x" * 1_000}
    ).final_data_bytes
    assert set(small) == {"@a"}
    assert set(large) == {"@a", "@b"}
    assert large["@b"] > 1_000


def test_too_long_a_flow_is_cut_off_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    script = '(seq (call "@b" ("s" "1") []) (seq (call "@c" ("s" "2") []) (call "@d" ("s" "3") [])))'
    assert not play(script).truncated
    monkeypatch.setattr(network, "DELIVERIES_MAX", 2)
    observation = play(script)
    assert observation.truncated
    assert (observation.deliveries, made(observation)) == (2, ["@b 1", "@c 2"])


# --- the command


def write(path: Path, **fields: Any) -> Path:
    path.write_text(json.dumps({"name": path.stem, "init_peer": "a", "peers": ["a", "b"], **fields}), encoding="utf-8")
    return path


def test_command_prints_one_line_of_json_for_each_file(tmp_path: Path) -> None:
    one = write(
        tmp_path / "one.json",
        script='(call "@b" ("s" "f") ["multi\\nline"])'.replace("\\n", "\n"),
        services=[{"returns": 1}],
    )
    two = write(tmp_path / "two.json", script="(nonsense)")
    result = CliRunner().invoke(root.main, ["air", "simulate", str(one), str(two)])
    assert result.exit_code == 0, result.output
    first, second = map(json.loads, result.output.splitlines())
    assert first["calls"] == [
        {
            "peer": "@b",
            "service": "s",
            "function": "f",
            "args": ["multi\nline"],
            "tetraplets": [[{"peer": "@a", "service": "", "function": "", "lens": ""}]],
        }
    ]
    assert set(first) == {"calls", "failures", "deliveries", "lost", "final_data_bytes"}
    assert (first["deliveries"], first["lost"], first["failures"]) == (1, [], [])
    assert [failure["code"] for failure in second["failures"]] == [1]


def test_command_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.json", script="(null)", services=[{"returns_each": []}])
    result = CliRunner().invoke(root.main, ["air", "simulate", str(path)])
    assert result.exit_code == 1
    assert "returns_each needs at least one value" in result.output
    result = CliRunner().invoke(root.main, ["air", "simulate", str(tmp_path / "none.json")])
    assert result.exit_code == 2
    assert "does not exist" in result.output
