"""The trust graph's vectors with known answers, as `fluvial trust evaluate` sees them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from fluvial.cli.main import main
from fluvial_trust_graph.cli import trust

FOLDER = Path(__file__).parent / "trust_graph"
VECTORS = sorted(FOLDER.glob("*.json"))


def evaluated(*files: Path) -> list[dict[str, Any]]:
    result = CliRunner().invoke(trust, ["evaluate", *map(str, files)], catch_exceptions=False)
    assert result.exit_code == 0
    return [json.loads(line) for line in result.output.splitlines()]


def without_answers(step: dict[str, Any]) -> dict[str, Any]:
    """A step that asks about the same peers but says nothing of the answer."""
    asked = {**step}
    if "expect_weights" in asked:
        asked["expect_weights"] = dict.fromkeys(asked["expect_weights"])
    return asked


def test_there_are_vectors() -> None:
    assert len(VECTORS) >= 17


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_vectors(path: Path) -> None:
    vector = json.loads(path.read_text())
    (answer,) = evaluated(path)
    assert answer["name"] == vector["name"]
    if "steps" in vector:
        for step, given in zip(vector["steps"], answer["steps"], strict=True):
            if "expect_weights" in step:
                assert given == {"weights": step["expect_weights"]}
            else:
                assert ("rejected" in given) == (step.get("expect") == "rejected")
                assert given.keys() <= {"accepted", "rejected"}
    elif "items" in vector:
        for item, given in zip(vector["items"], answer["items"], strict=True):
            assert given == {key: item[key] for key in given}
        certificate = "certificate_of_all_trusts_binary_hex"
        assert answer[certificate] == vector[certificate]
    else:
        assert answer["weights"] == vector["expect_weights"]
        assert answer["weights_from"] == vector.get("expect_weights_from", [])
        assert answer["chains"] == {peer: sorted(chains) for peer, chains in vector.get("expect_chains", {}).items()}


@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_what_a_file_expects_is_not_looked_at(path: Path, tmp_path: Path) -> None:
    vector = json.loads(path.read_text())
    blind = (
        {**vector, "steps": [without_answers(step) for step in vector["steps"]]} if "steps" in vector else {**vector}
    )
    if "expect_weights" in vector:
        blind["expect_weights"] = dict.fromkeys(vector["expect_weights"])
        blind["expect_weights_from"] = [[*pair[:2], None] for pair in vector.get("expect_weights_from", [])]
        blind["expect_chains"] = dict.fromkeys(vector.get("expect_chains", {}))
    file = tmp_path / path.name
    file.write_text(json.dumps(blind))
    assert evaluated(file) == evaluated(path)


def test_one_line_for_each_file() -> None:
    assert [line["name"] for line in evaluated(*VECTORS)] == [path.stem for path in VECTORS]


def steps(tmp_path: Path, *given: dict[str, Any]) -> list[dict[str, Any]]:
    file = tmp_path / "steps.json"
    file.write_text(json.dumps({"name": "steps", "steps": given}))
    (answer,) = evaluated(file)
    found: list[dict[str, Any]] = answer["steps"]
    return found


def link(issuer: str, subject: str, *, at: int = 100, until: int = 1000, **more: str) -> dict[str, Any]:
    return {"issuer": issuer, "issued_for": subject, "issued_at": at, "expires_at": until, **more}


def test_a_certificate_is_taken_in_whole_or_not_at_all(tmp_path: Path) -> None:
    whole = [link("R", "R"), link("R", "A"), link("A", "B")]
    broken = [link("R", "R"), link("R", "C"), link("C", "D", signed_by="M")]
    answer = steps(
        tmp_path,
        {"at": 100, "set_root": ["R", 4]},
        {"at": 110, "cert": broken},
        {"at": 110, "expect_weights": {"C": 0}},
        {"at": 110, "cert": whole},
        {"at": 110, "expect_weights": {"B": 4, "C": 0}},
        {"at": 110, "cert": [link("Q", "Q"), link("Q", "E")]},
    )
    assert [set(one) for one in answer] == [
        {"accepted"},
        {"rejected"},
        {"weights"},
        {"accepted"},
        {"weights"},
        {"rejected"},
    ]
    assert answer[2]["weights"] == {"C": 0}
    assert answer[4]["weights"] == {"B": 4, "C": 0}


def test_what_is_forged_expired_or_of_the_future_is_rejected(tmp_path: Path) -> None:
    ban = {"revoked_by": "R", "revoked": "A", "revoked_at": 100}
    answer = steps(
        tmp_path,
        {"at": 100, "trust": link("R", "A", signed_by="M")},
        {"at": 100, "trust": link("R", "A", at=101)},
        {"at": 1000, "trust": link("R", "A")},
        {"at": 99, "revoke": ban},
        {"at": 100, "revoke": {**ban, "signed_by": "M"}},
        {"at": 100, "revoke": ban},
    )
    assert [set(one) for one in answer] == [{"rejected"}] * 5 + [{"accepted"}]


def test_the_last_setting_of_a_root_counts_and_a_root_can_be_removed(tmp_path: Path) -> None:
    answer = steps(
        tmp_path,
        {"at": 1, "set_root": ["R", 4]},
        {"at": 1, "set_root": ["R", 2]},
        {"at": 1, "expect_weights": {"R": None}},
        {"at": 1, "remove_root": "R"},
        {"at": 1, "expect_weights": {"R": None}},
    )
    assert [one.get("weights") for one in answer] == [None, None, {"R": 4}, None, {"R": 0}]


def test_a_look_into_the_future_changes_nothing(tmp_path: Path) -> None:
    answer = steps(
        tmp_path,
        {"at": 100, "set_root": ["R", 4]},
        {"at": 100, "trust": link("R", "R", until=2**64 - 1)},
        {"at": 100, "trust": link("R", "A")},
        {"at": 5000, "expect_weights": {"R": None, "A": None}},
        {"at": 200, "expect_weights": {"A": None}},
    )
    assert answer[3:] == [{"weights": {"R": 16, "A": 0}}, {"weights": {"A": 8}}]


def explained(*arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(main, ["trust", "explain", *arguments])
    assert result.exit_code == exit_code, result.output
    return result.output


def test_explanations_have_the_names_of_the_file() -> None:
    assert explained(str(FOLDER / "10-revoked-issuer-is-no-bridge.json"), "R", "P").splitlines() == [
        "P has weight 0",
        "without bans, the heaviest chain would be R → Z → Y → X → P",
        "Z bans X, which comes later in it",
        "no other chain is open",
    ]
    said = json.loads(explained(str(FOLDER / "15-weight-from.json"), "C", "P", "--json"))
    assert said == {
        "peer": "P",
        "weight": 8,
        "chain": ["R", "B", "C", "P"],
        "steps": [
            "R is a root of exponent 6: 2^6 = 64",
            "R trusts B: half of it, 32",
            "B trusts C: half of it, 16",
            "C trusts P: half of it, 8",
        ],
    }


@pytest.mark.parametrize("content", ["{", "[]", '{"name": 3}', '{"name": "x", "steps": [{"at": 1}]}'])
def test_a_file_of_another_form_is_an_error_that_names_it(content: str, tmp_path: Path) -> None:
    file = tmp_path / "odd.json"
    file.write_text(content)
    result = CliRunner().invoke(main, ["trust", "evaluate", str(file)])
    assert result.exit_code != 0
    assert "odd.json: these are no vectors of the trust graph" in result.stderr


def test_a_name_that_the_file_does_not_have_is_an_error() -> None:
    result = CliRunner().invoke(main, ["trust", "explain", str(FOLDER / "01-direct.json"), "R", "nobody"])
    assert result.exit_code != 0
    assert "names nobody" in result.stderr


def test_a_step_may_ask_for_chains_and_for_the_weight_by_way_of_a_peer(tmp_path: Path) -> None:
    *_, question = steps(
        tmp_path,
        {"at": 100, "set_root": ["R", 4]},
        {"at": 100, "cert": {"trusts": [link("R", "R"), link("R", "A"), link("A", "B")]}},
        {"at": 100, "trust": link("R", "B")},
        {"at": 101, "expect_weights_from": [["B", "A", None]], "expect_chains": {"B": None}},
    )
    assert question == {"weights_from": [["B", "A", 4]], "chains": {"B": [["R", "A", "B"], ["R", "B"]]}}
