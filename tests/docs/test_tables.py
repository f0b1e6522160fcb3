"""What the pages list is what the code has: metrics, events, reasons, codes, rooms, links."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest
from fluvial.air.machine import errors
from fluvial.particles import notice
from fluvial.particles.notice import Kind
from fluvial.particles.receipt import REASONS, TEMPORARY

from tests.docs.pages import PAGES, ROOT, rows, section, words
from tests.support.nodes import Work, chain, peer

LEVELS = {"debug", "info", "warning", "error", "exception"}
TRANSPORTS = (ROOT / "plugins/transport_tcp", ROOT / "core/fluvial/memory")


# --- metrics


async def test_metrics_are_those_of_a_running_node(tmp_path: Path) -> None:
    listed = {words(row[0])[0]: row for row in rows(section("operate.md", "## Metrics"))}
    async with peer("a", tmp_path, serves=[Work()]) as one, peer("b", tmp_path, knows=[one], serves=[Work()]) as other:
        particle = other.node.particle(chain([one.peer_id]), ttl_ms=10_000)
        await other.node.submit(particle)
        families = [*one.node.metrics.collect(), *other.node.metrics.collect()]
    found = {family.name + ("_total" if family.type == "counter" else ""): family for family in families}
    assert set(listed) == set(found)
    for name, row in listed.items():
        assert row[1] == found[name].type, name
        labels = {label for sample in found[name].samples for label in sample.labels} - {"le"}
        assert labels <= set(words(row[2])), name


# --- log events


def test_events_are_those_of_the_code() -> None:
    text = section("operate.md", "## Logs")
    listed = {event: row[1] for row in rows(text) for event in words(row[0])}
    said: dict[str, set[str]] = {}
    for path in (ROOT / "core").rglob("*.py"):
        if path.parent in TRANSPORTS:
            continue
        for event, level in _events(ast.parse(path.read_text(encoding="utf-8"))):
            said.setdefault(event, set()).add(level)
    assert {event for event in said if event not in listed} == set()
    assert {event for event in listed if event not in said} == set()
    for event, level in listed.items():
        assert level in said[event], event


def test_events_of_the_transports_are_those_of_their_code() -> None:
    paragraph = section("operate.md", "## Logs").rpartition("Transports log for themselves")[2]
    code = [path.read_text(encoding="utf-8") for folder in TRANSPORTS for path in folder.rglob("*.py")]
    said = {event for text in code for event, level in _events(ast.parse(text)) if level != "debug"}
    assert said == set(words(paragraph)) - {"seat", "tcp", "memory", "reason", "count"}


def _events(tree: ast.Module) -> list[tuple[str, str]]:
    """The events that a module logs, with their levels."""
    found = []
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Call) and node.args):
            continue
        function = ast.unparse(node.func)
        owner, _, level = function.rpartition(".")
        by_level = level in LEVELS and "log" in owner.rpartition(".")[2]
        throttled = level == "note"  # what others can cause
        if not (by_level or throttled or function == "log"):
            continue
        if throttled:
            level = _level_of(node)
        event = node.args[0]
        texts = [event.body, event.orelse] if isinstance(event, ast.IfExp) else [event]
        level = {"exception": "error", "log": "warning"}.get(level, level)
        found += [
            (text.value, level) for text in texts if isinstance(text, ast.Constant) and isinstance(text.value, str)
        ]
    return found


def _level_of(note: ast.Call) -> str:
    """The level of a throttled line: that of its keyword, of two the usual one, which comes last."""
    level = next((keyword.value for keyword in note.keywords if keyword.arg == "level"), None)
    return "info" if level is None else ast.unparse(level.orelse if isinstance(level, ast.IfExp) else level).lower()


# --- reasons and codes


def test_reasons_are_those_of_core() -> None:
    table = rows(section("particle.md", "## Receipt"))
    reasons = {words(row[0])[0]: row for row in table if len(row) == 3 and words(row[0])}
    assert set(reasons) == REASONS
    for reason, row in reasons.items():
        assert ("again" in row[2]) == (reason in TEMPORARY), reason


def test_kinds_and_reasons_of_failure_notices_are_those_of_core() -> None:
    listed = [
        word for row in rows(section("particle.md", "## Failure notice")) if len(row) == 2 for word in words(row[0])
    ]
    kinds = get_args(Kind)
    begin = listed.index(kinds[0])
    assert tuple(listed[begin : begin + len(kinds)]) == kinds
    assert set(listed[begin + len(kinds) :]) == notice.REASONS
    fields = [field for kind in (notice.SignedNotice, notice.Notice) for field in kind.__struct_fields__]
    order = ["to", "notice", "signature", *notice.Notice.__struct_fields__]
    assert sorted(fields) == sorted(order)
    assert listed[:begin] == order


def test_errors_of_runs_are_those_of_the_machine() -> None:
    listed = {row[0] for row in rows(section("air.md", "## Errors"))}
    raised = set(re.findall(r"(?:Catchable|Uncatchable|__init__)\(\s*(\d{5})", Path(errors.__file__).read_text()))
    assert listed == raised


def test_exit_codes_are_those_of_the_commands() -> None:
    main = (ROOT / "core/fluvial/cli/main.py").read_text()
    said = re.search(r"Exit codes: (.*)\.", main)
    assert said is not None
    listed = [f"{row[0]} {row[1]}" for row in rows(section("operate.md", "## Exit codes"))]
    assert [text.replace("wrong ", "") for text in listed] == said[1].split(", ")


# --- the map


def test_rooms_are_those_of_the_tree() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tree = text.partition("```text\n")[2].partition("```")[0]
    rooms = re.search(r"^core/fluvial/.*?(?=^plugins/)", tree, re.MULTILINE | re.DOTALL)
    assert rooms is not None
    listed = set(re.findall(r"^  (\S+)", rooms[0], re.MULTILINE))
    there = {
        path.name + ("/" if path.is_dir() else "")
        for path in (ROOT / "core/fluvial").iterdir()
        if not path.name.startswith(("_", ".")) and path.suffix in ("", ".py")
    }
    assert listed == there
    plugins = tree.partition("plugins/\n")[2].partition("tests/")[0]
    members = {path.parent.name + "/" for path in ROOT.glob("plugins/*/pyproject.toml")}
    assert set(re.findall(r"^  (\S+)", plugins, re.MULTILINE)) == members
    for path in re.findall(r"`((?:core|plugins|docs|tests)/[\w./]+)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), target
        if anchor:
            assert anchor in _anchors(there.read_text(encoding="utf-8")), target


def _anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
