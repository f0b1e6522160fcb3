"""The glossary: sorted, each word once, and every place that it names is there."""

from __future__ import annotations

import ast
import re
from typing import Final

import pytest

from tests.docs.pages import ROOT, rows

PAGE: Final = ROOT / "docs/glossary.md"
ENTRIES: Final = rows(PAGE.read_text(encoding="utf-8"))
CODE: Final = re.compile(r"\[`(\w+)`\]\((\S+\.py)\)")


def test_words_are_sorted_and_stand_once() -> None:
    words = [entry[0] for entry in ENTRIES]
    assert len(words) > 50
    assert words == sorted(set(words), key=str.lower)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry[0])
def test_a_word_has_one_sentence_and_a_place(entry: list[str]) -> None:
    _, meaning, reference, places = entry
    assert meaning.endswith(".")
    assert ". " not in meaning
    assert reference
    links = re.findall(r"\[[^\]]+\]\([^)\s]+\)", places)
    assert links
    assert places == ", ".join(links)
    for name, path in CODE.findall(places):
        tree = ast.parse((PAGE.parent / path).read_text(encoding="utf-8"))
        defined = {
            node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in defined, path
