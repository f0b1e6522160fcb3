"""``fluvial aqua …``, as people and tools use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fluvial.air.syntax import parse
from fluvial.cli.main import main

from tests.plugins.aqua.support import HEAD_LINES, program

CASE = Path(__file__).parents[2] / "conformance" / "aqua" / "on-via-relay.json"


def fluvial(*words: str | Path) -> Result:
    return CliRunner().invoke(main, ["aqua", *map(str, words)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "main.aqua"
    path.write_text(program('on "p":\n  x <- Op.echo("a")\nOp.note(x)'))
    return path


def test_compile_prints_scripts_and_signatures(file: Path) -> None:
    done = fluvial("compile", file)
    assert done.exit_code == 0
    head, _, air = done.output.partition("\n")
    assert head == "; func main() -> ()"
    assert parse(air).size > 5


def test_compile_writes_scripts_and_source_maps(file: Path, tmp_path: Path) -> None:
    done = fluvial("compile", file, "-o", tmp_path / "out", "--source-map")
    assert done.exit_code == 0
    air = (tmp_path / "out" / "main.air").read_text()
    lines = json.loads((tmp_path / "out" / "main.map.json").read_text())
    (call,) = [number for number, line in enumerate(air.splitlines(), 0) if '"echo"' in line]
    assert next(one for one in lines if one["air_line"] == call)["line"] == HEAD_LINES + 4


def test_compile_has_options_for_what_is_around_a_function(file: Path) -> None:
    assert "-relay-" in fluvial("compile", file).output
    assert "-relay-" not in fluvial("compile", file, "--no-relay").output
    assert "errorHandlingSrv" not in fluvial("compile", file, "--no-errors").output
    assert '"response") []' in fluvial("compile", file, "--empty-response").output
    (report,) = json.loads(fluvial("compile", file, "--json", "--func", "main").output)
    assert set(report) == {"name", "signature", "air", "source_map"}


def test_constants_and_imports_come_from_outside(tmp_path: Path) -> None:
    (tmp_path / "vendor" / "org").mkdir(parents=True)
    (tmp_path / "vendor" / "org" / "lib.aqua").write_text('aqua Lib declares *\n\nconst WORD ?= "default"\n')
    file = tmp_path / "main.aqua"
    file.write_text('aqua M\n\nimport "org/lib.aqua"\nexport f\n\nfunc f() -> string:\n  <- WORD\n')
    assert fluvial("check", file).exit_code == 1
    done = fluvial("compile", file, "--import", tmp_path / "vendor", "--const", 'WORD = "given"')
    assert '["given"]' in done.output
    table = tmp_path / "imports.json"
    table.write_text(json.dumps({"": {"org": [str(tmp_path / "vendor" / "org")]}}))
    assert '["default"]' in fluvial("compile", file, "--imports", table).output
    assert fluvial("compile", file, "--const", "WORD").exit_code == 1


def test_check_says_what_is_wrong_as_text_and_as_json(file: Path) -> None:
    assert fluvial("check", file).exit_code == 0
    file.write_text(program("Op.note(5)\nOp.ecko()"))
    text = fluvial("check", file)
    assert text.exit_code == 1
    assert "did you mean `echo`?" in text.output
    done = fluvial("check", "--json", file)
    assert done.exit_code == 1
    found = json.loads(done.output)
    assert [(one["severity"], one["code"], one["line"]) for one in found] == [
        ("error", "Q401", HEAD_LINES + 3),
        ("error", "Q307", HEAD_LINES + 4),
    ]
    assert set(found[0]) == {
        *("severity", "code", "message", "hint", "file", "line", "column", "end_line", "end_column"),
    }


def test_simulate_prints_an_observation_per_case() -> None:
    done = fluvial("simulate", CASE, CASE)
    assert done.exit_code == 0
    seen = [json.loads(line) for line in done.output.splitlines()]
    assert len(seen) == 2
    assert seen[0] == seen[1]
    assert set(seen[0]) == {"signature", "result", "error", "calls", "callbacks", "lost", "deliveries"}


def test_fmt_formats_in_place_and_can_only_look(file: Path) -> None:
    file.write_text("aqua  T\nexport f\nfunc f( a :string )->string :\n    <-  a -- back\n")
    assert fluvial("fmt", "--check", file).exit_code == 1
    assert fluvial("fmt", file).exit_code == 0
    assert file.read_text() == "aqua T\nexport f\n\nfunc f(a: string) -> string:\n  <- a  -- back\n"
    assert fluvial("fmt", "--check", file).exit_code == 0


def test_explain_shows_calls_and_hops(file: Path) -> None:
    done = fluvial("explain", file, "main")
    assert done.exit_code == 0
    assert '• call "p" ("op" "echo") ["a"] x' in done.output
    assert "→ -relay-: on the way" in done.output
    steps = json.loads(fluvial("explain", file, "main", "--json").output)
    assert {step["what"] for step in steps} == {"call", "hop"}


def test_types_lists_definitions(file: Path) -> None:
    done = fluvial("types", file)
    assert "type Pair: {left: string, right: u32, inner: Inner}" in done.output
    assert "function main: () -> ()  (exported as main)" in done.output


def test_errors_have_the_form_of_all_commands(file: Path, tmp_path: Path) -> None:
    file.write_text(program("Op.note(5)"))
    for words in (("compile", file), ("explain", file, "main"), ("types", file)):
        done = fluvial(*words)
        assert done.exit_code == 1
        assert "F801" in done.output
    done = fluvial("explain", CASE, "none")
    assert done.exit_code == 1
    binary = tmp_path / "binary.aqua"
    binary.write_bytes(b"\xff\xfe")
    assert "no text in UTF-8" in fluvial("check", binary).output
