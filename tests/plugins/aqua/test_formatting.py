"""The formatter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fluvial_aqua.formatting import format_text

CASES = sorted((Path(__file__).parents[2] / "conformance").glob("aqua*/*.json"))
SOURCES = [
    json.loads(path.read_text())["aqua"]
    for path in CASES
    if "expected" not in path.name and "errors" not in path.parent.name
]


@pytest.mark.parametrize("source", SOURCES, ids=range(len(SOURCES)))
def test_formatting_twice_changes_nothing_more(source: str) -> None:
    once = format_text("main.aqua", source)
    assert format_text("main.aqua", once) == once


def test_indentation_is_two_blanks_and_comments_go_along() -> None:
    text = "aqua T\n\nfunc f(a: []string):\n\t-- first\n\tfor  x<-a par :\n\t\t\tg( x,1 )--why\n\n\n\n\t-- last\n\tg(a!,2)\nfunc g(a :string,b:u8):\n  x = ?[a]\n"
    assert format_text("t.aqua", text) == (
        "aqua T\n\nfunc f(a: []string):\n  -- first\n  for x <- a par:\n    g(x, 1)  --why\n\n  -- last\n  g(a!, 2)\n\n"
        "func g(a: string, b: u8):\n  x = ?[a]\n"
    )


def test_lines_that_go_on_stay_apart_and_strings_are_kept() -> None:
    text = 'aqua T\n\nfunc f():\n  x = "a\n   b"\n  y = (x ==\n  "c")\n'
    assert format_text("t.aqua", text) == 'aqua T\n\nfunc f():\n  x = "a\n   b"\n  y = (x ==\n      "c")\n'
