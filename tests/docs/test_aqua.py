"""What the page about Aqua says: its programs compile, its tables are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fluvial.air.syntax import parse
from fluvial_aqua import files
from fluvial_aqua.checking import modules
from fluvial_aqua.cli import aqua
from fluvial_aqua.compiler import compile_text
from fluvial_aqua.diagnostics import ERRORS_MAX
from fluvial_aqua.explaining import route, route_text
from fluvial_aqua.formatting import format_text
from fluvial_aqua.model import emitter
from fluvial_aqua.syntax import expressions, layout

from tests.docs.pages import ROOT, Block, blocks, rows, section, words

PACKAGE = ROOT / "plugins" / "aqua" / "fluvial_aqua"


@pytest.mark.parametrize("block", blocks("aqua"), ids=str)
def test_programs_compile_or_are_refused_as_said(block: Block) -> None:
    compilation = compile_text("main.aqua", block.text, {}.get)
    errors = [one for one in compilation.diagnostics if one.severity == "error"]
    if block.info[1:2] == ("refused",):
        assert [one.code for one in errors] == [block.info[2]]
        return
    assert block.info == ("aqua",)
    assert errors == []
    for function in compilation.functions():
        assert parse(function.air).size > 1


def test_programs_of_the_page_and_the_examples_are_formatted() -> None:
    texts = [block.text for block in blocks("aqua")]
    texts += [path.read_text(encoding="utf-8") for path in (ROOT / "examples").glob("*.aqua")]
    for text in texts:
        assert format_text("main.aqua", text) == text


def test_the_shown_diagnostic_is_what_is_said() -> None:
    (program,) = blocks("aqua", "refused")
    compilation = compile_text("main.aqua", program.text, {}.get)
    (found,) = [one for one in compilation.diagnostics if one.severity == "error"]
    assert found.render(compilation.sources["main.aqua"]) + "\n" in section("aqua.md", "## Diagnostics")


def test_the_shown_way_is_what_is_explained() -> None:
    text = section("aqua.md", "## Where things are done")
    (program,) = [block for block in blocks("aqua") if block.text in text]
    compilation = compile_text("main.aqua", program.text, {}.get)
    lines = route_text(route(compilation.placed("main")))
    (shown,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    assert [line for line in shown.splitlines() if line not in lines] == []


def test_every_code_is_listed() -> None:
    listed = [row[0] for row in rows(section("aqua.md", "## Diagnostics"))]
    used = {code for path in PACKAGE.rglob("*.py") for code in re.findall(r'"(Q\d{3})"', path.read_text("utf-8"))}
    assert listed == sorted(used)


def test_every_command_is_listed() -> None:
    listed = [words(row[0])[0].split()[2] for row in rows(section("aqua.md", "## Commands"))]
    assert sorted(listed) == sorted(aqua.commands)


def test_limits_are_those_of_the_code() -> None:
    listed = [row[1] for row in rows(section("aqua.md", "## Limits"))]
    assert listed == [
        f"{layout.DEPTH_MAX}",
        f"{expressions.DEPTH_MAX}",
        f"{emitter.DEPTH_MAX}",
        f"{emitter.INSTRUCTIONS_MAX:,}",
        f"{modules.FILES_MAX:,}",
        f"{files.FILE_BYTES_MAX // 2**20} MiB",
        f"{ERRORS_MAX}",
    ]


def test_the_demo_runs_the_paper_s_script_word_for_word() -> None:
    script = Path(ROOT, "core/fluvial/demo/chat.aqua").read_text(encoding="utf-8")
    assert script.startswith("def chat_id, message, relay\n\n{members, history} <- relay.resolve_backend(chat_id)\n")
    assert script.endswith("  if acc.length == 2:\n    sender.chat.delivered()\n")
