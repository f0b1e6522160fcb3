"""Calls that are found as a whole are read as those that are read piece by piece."""

from __future__ import annotations

import re
from typing import TypeAlias

import pytest
from fluvial.air.syntax import AirSyntaxError, Script, parse, to_text
from fluvial.air.syntax.errors import SourceText
from fluvial.air.syntax.reader import PARTS_MAX, WHITE_SPACE, Group, Node, read
from fluvial.air.syntax.tree import CallInstruction, Literal, Scalar, walk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.core.air.strategies import NEARLY_AIR, mutated, scripts

Nested: TypeAlias = "tuple[str, int, int, list[Nested]] | tuple[str, int]"

PAPER = """
(seq (call %init_peer_id% ("load" "peers") [] peers)
(seq (call peers.$.[0] ("s" f) [peers "a b" 1.5 []] acc[])
(seq (fold peers p (par (call p ("chat" "message") [peers.$.[0] p] acc[]) (next p)))
(seq (match acc.length 2)
(seq (call %init_peer_id% ("s" "f") [acc acc.$.[0]] $x) (call peers "f" [peers] y))))))
"""
TEXTS = st.one_of(scripts().map(lambda script: to_text(script.root)), st.just(PAPER))
DAMAGED = TEXTS.flatmap(mutated)


def plainly(text: str) -> list[Nested] | None:
    """The nodes of a text, read piece by piece; None if it cannot be read."""
    inside = rf'[^{WHITE_SPACE}()\[\]";]'
    word = rf"{inside}+(?:\[{inside}*\]{inside}*)*(?=[{WHITE_SPACE})\]]|\Z)"
    top: list[Nested] = []
    opened: list[tuple[str, int, list[Nested]]] = [("", 0, top)]
    at = 0
    while found := re.compile(rf'[{WHITE_SPACE}]*(?:([()\[\]])|("[^"]*"|{word})|;[^\n]*|\Z)').match(text, at):
        bracket, atom = found.groups()
        if atom:
            opened[-1][2].append((atom, found.start(2)))
        elif bracket and bracket in "([":
            opened.append((bracket, found.start(1), []))
        elif bracket:
            opening, start, items = opened.pop()
            if opening + bracket not in ("()", "[]"):
                return None
            opened[-1][2].append((opening, start, found.end(), items))
        elif found.end() == len(text):
            return top if len(opened) == 1 else None
        at = found.end()
    return None


def nested(nodes: list[Node]) -> list[Nested]:
    return [
        (one.bracket, one.start, one.end, nested(one.items)) if isinstance(one, Group) else (one.text, one.start)
        for one in nodes
    ]


def piece_by_piece(text: str) -> str:
    """The same script with a comment in every call, so that no call is found as a whole."""
    calls = re.compile(rf'"[^"]*"|;[^\n]*|\(call(?=[{WHITE_SPACE}])')
    return calls.sub(lambda found: "(call ;\n" if found[0] == "(call" else found[0], text)


def outcome(text: str) -> Script | tuple[str, ...]:
    """A tree, or what is wrong, without what a further line moves."""
    try:
        return parse(text)
    except AirSyntaxError as error:
        hint, _, _ = error.hint.partition("; by the indentation")
        return (error.code, *(re.sub(r"\d+:\d+", "…", said) for said in (error.message, hint)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.one_of(DAMAGED, NEARLY_AIR))
def test_every_part_is_found_in_its_place(text: str) -> None:
    try:
        nodes = read(SourceText(text, "script.air"))
    except AirSyntaxError:
        assert "\0" in text or plainly(text) is None
    else:
        assert nested(nodes) == plainly(text)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.one_of(TEXTS, DAMAGED))
def test_a_comment_in_a_call_changes_neither_its_meaning_nor_what_is_wrong(text: str) -> None:
    assert outcome(piece_by_piece(text)) == outcome(text)


@pytest.mark.parametrize("part", range(11))
def test_the_first_part_too_many_is_shown_in_whatever_call_it_stands(part: int) -> None:
    call = '(call "p" ("s" "f") [] x)'
    pieces = [found.start() for found in re.finditer(r'[()\[\]]|"[^"]*"|\w+', call)]
    before = "x " * (PARTS_MAX - part)
    with pytest.raises(AirSyntaxError, match="parts") as caught:
        read(SourceText(before + call, "script.air"))
    assert caught.value.code == "A011"
    assert caught.value.at.column == len(before) + pieces[part] + 1


def test_a_bare_word_is_a_string_until_something_defines_it_as_a_name() -> None:
    text = '(seq (call "p" ("s" f) []) (seq (call "p" ("s" "f") [] f) (call "p" ("s" f) [])))'
    calls = [one for one in walk(parse(text).root) if isinstance(one, CallInstruction)]
    assert [call.function for call in calls] == [Literal("f"), Literal("f"), Scalar("f")]
