"""``fluvial air``: what it says of scripts, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from fluvial.cli.main import main


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str, exit_code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["air", *arguments], prog_name="fluvial")
    assert result.exit_code == exit_code, result.output
    return result


def test_fmt_formats_in_place(here: Path) -> None:
    Path("a.air").write_text("(seq (null)   (null))")
    assert "a.air: would be formatted" in run("fmt", "--check", "a.air", exit_code=1).output
    assert run("fmt", "a.air").output == "a.air: formatted\n"
    assert run("fmt", "a.air").output == run("fmt", "--check", "a.air").output == ""


@pytest.mark.parametrize(
    "script", ["(seq (null)", "(foo  bar)", "(seq  (null))", '(call a ("b" "c") [x.$.[ b])', "\xff"]
)
def test_fmt_leaves_what_is_broken_and_says_so(here: Path, script: str) -> None:
    Path("broken.air").write_bytes(script.encode("latin-1"))
    Path("good.air").write_text("(seq   (null) (null))")
    result = run("fmt", "broken.air", "good.air", exit_code=1)
    assert result.stdout == "good.air: formatted\n"
    assert result.stderr.startswith("broken.air:1:")
    assert Path("broken.air").read_bytes() == script.encode("latin-1")


def test_fmt_takes_scripts_whose_values_a_client_gives(here: Path) -> None:
    Path("a.air").write_text('(call   relay ("op" "noop") [])')
    assert run("fmt", "a.air").output == "a.air: formatted\n"
