"""Aqua does what the reference compiler and interpreter do: programs to play, in today's language and with the extensions, and to refuse."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from fluvial.air.syntax import parse
from fluvial_aqua.compiler import compile_text
from fluvial_aqua.simulation import Case, compile_case, play

HERE: Final = Path(__file__).parent
ELSEWHERE: Final = Path(os.environ.get("FLUVIAL_CONFORMANCE", HERE.parents[2] / "shared" / "conformance"))
"""A newer collection, where there is one."""


def files(folder: str, *, expected: bool) -> list[Path]:
    """The cases of a folder, here and elsewhere, each name once."""
    found = {path.name: path for root in (ELSEWHERE, HERE) for path in sorted((root / folder).glob("*.json"))}
    cases = [path for name, path in sorted(found.items()) if not name.endswith(".expected.json")]
    return [path for path in cases if not expected or path.with_suffix(".expected.json").exists()]


PLAYED: Final = [*files("aqua", expected=True), *files("aqua-extensions", expected=True)]
REFUSED: Final = files("aqua-errors", expected=False)


def as_multiset(value: Any) -> str:
    """A text that is the same for arrays with the same elements in another order, at any depth."""
    if isinstance(value, list):
        return f"[{', '.join(sorted(map(as_multiset, value)))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {as_multiset(one)}' for key, one in sorted(value.items()))}}}"
    return json.dumps(value)


def differences(expected: dict[str, Any], seen: dict[str, Any], ignored: Sequence[str]) -> list[str]:
    """What is not as expected, compared as the case says."""
    compare = expected["compare"]
    found = [] if seen["signature"] == expected["signature"] else [f"signature {seen['signature']}"]
    for key in ("calls", "callbacks"):
        wanted, got = (
            [call for call in calls if call.get("service") not in ignored]
            for calls in (expected.get(key, []), seen[key])
        )
        if compare.get(key, "in_order") == "any_order":
            wanted, got = (sorted(calls, key=json.dumps) for calls in (wanted, got))
        if wanted != got:
            found.append(f"{key} {got}")
    result = seen["result"]
    good = {
        "exact": result == expected["result"],
        "as_multisets": as_multiset(result) == as_multiset(expected["result"]),
        "one_of": result in expected.get("result_one_of", []),
    }
    if not good[compare["result"]]:
        found.append(f"result {result}")
    error, told = expected["error"], seen["error"]
    fits = {
        "none": told is None,
        "exact": told == error,
        "code": told is not None and error is not None and told["code"] == error["code"],
        "any": told is not None,
    }
    if not fits[compare["error"]]:
        found.append(f"error {told}")
    if sorted(seen["lost"]) != sorted(expected["lost"]):
        found.append(f"lost {seen['lost']}")
    return found


def test_cases_are_all_here() -> None:
    assert len(PLAYED) >= 48
    assert len(REFUSED) >= 23


@pytest.mark.parametrize("path", PLAYED, ids=lambda path: path.stem)
def test_a_program_does_what_it_does_elsewhere(path: Path) -> None:
    expected = json.loads(path.with_suffix(".expected.json").read_text(encoding="utf-8"))
    ignored = json.loads(path.read_text(encoding="utf-8")).get("calls_ignore", [])
    assert differences(expected, play(Case.load(path)), ignored) == []


def test_no_more_deliveries_are_needed_than_elsewhere() -> None:
    ours = theirs = 0
    for path in PLAYED:
        expected = json.loads(path.with_suffix(".expected.json").read_text(encoding="utf-8"))
        theirs += expected["reference"]["deliveries"]
        ours += play(Case.load(path))["deliveries"]
    assert 0 < ours <= theirs


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("path", PLAYED, ids=lambda path: path.stem)
def test_the_order_of_deliveries_changes_nothing(path: Path, seed: int) -> None:
    expected = json.loads(path.with_suffix(".expected.json").read_text(encoding="utf-8"))
    ignored = json.loads(path.read_text(encoding="utf-8")).get("calls_ignore", [])
    values = json.loads(path.read_text(encoding="utf-8")) | {"order": {"seed": seed}}
    case = Case(**{name: value for name, value in values.items() if name in Case.__struct_fields__})
    assert differences(expected, play(case), ignored) == []


@pytest.mark.parametrize("path", PLAYED, ids=lambda path: path.stem)
def test_every_script_is_air_whose_lines_lead_back(path: Path) -> None:
    function = compile_case(Case.load(path))
    assert not parse(function.air).paper
    assert function.source_map
    lines = json.loads(path.read_text(encoding="utf-8"))["aqua"].count("\n") + 1
    for line in function.source_map:
        assert line.file != "main.aqua" or 1 <= line.line <= lines


@pytest.mark.parametrize("path", REFUSED, ids=lambda path: path.stem)
def test_a_mistake_is_one_error_at_its_line(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    compilation = compile_text("main.aqua", case["aqua"], case.get("modules", {}).get)
    errors = [one for one in compilation.diagnostics if one.severity == "error"]
    assert [(one.file, one.line) for one in errors] == [("main.aqua", case["error_line"])], errors
