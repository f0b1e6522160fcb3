"""Formatting moves blanks and line breaks, and nothing else."""

from __future__ import annotations

import re

import pytest
from fluvial.air.syntax import AirSyntaxError, format_text
from fluvial.air.syntax.layout import COLUMNS_MAX
from hypothesis import given, settings
from hypothesis import strategies as st

COMMENTS = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]), max_size=30).map(
    lambda text: f";{text}\n"
)
WORDS = st.sampled_from(
    ["seq", "call", "par", "x.$.[0]", "acc[]", "%init_peer_id", "1.5", "a-rather-long-name-of-a-value"]
)
STRINGS = st.text(st.characters(exclude_characters='"\0', exclude_categories=["Cs"]), max_size=20).map(
    lambda text: f'"{text}"'
)
BLANKS = st.sampled_from([" ", "\n", "\n\n\n", "\t", "\r\n", "\u2003"])
LEAVES = st.one_of(WORDS, STRINGS, BLANKS, COMMENTS)
TREES = st.recursive(
    st.lists(LEAVES, max_size=4).map(" ".join),
    lambda inner: st.tuples(
        st.sampled_from(["()", "[]", "(seq )"]), st.lists(st.one_of(inner, LEAVES), max_size=4)
    ).map(lambda made: made[0][:-1] + " ".join(made[1]) + made[0][-1]),
    max_leaves=25,
)


def pieces(text: str) -> list[str]:
    """What a text is made of, blanks left out, comments without the blanks at their ends."""
    found = re.findall(r'"[^"]*"|;[^\n]*|[()]|\[|\]|(?:[^\s()\[\]";]|\[[^\s()\[\]";]*\])+', text)
    return [piece.rstrip() if piece[0] == ";" else piece for piece in found]


@settings(max_examples=150, deadline=None)
@given(TREES)
def test_every_piece_is_kept_and_set_text_is_set_to_itself(text: str) -> None:
    once = format_text(text)
    assert pieces(once) == pieces(text)
    assert format_text(once) == once


def test_what_fits_stays_on_one_line() -> None:
    assert format_text('( seq\n(call "p"\n("s" "f")[ ] )  (null))') == '(seq (call "p" ("s" "f") []) (null))\n'


def test_a_chain_of_seq_does_not_move_to_the_right() -> None:
    steps = [f'(call "a peer with a long name" ("service" "function") [] result{i})' for i in range(4)]
    text = f"(seq {steps[0]} (seq {steps[1]} (seq {steps[2]} {steps[3]})))"
    assert format_text(text) == "\n".join(
        ["(seq", "  " + steps[0], "(seq", "  " + steps[1], "(seq", "  " + steps[2], "  " + steps[3], ")))", ""]
    )


def test_a_long_instruction_is_broken_between_its_parts() -> None:
    long = " ".join(f'"argument number {i}"' for i in range(6))
    assert format_text(f'(call %init_peer_id% ("service" "function") [{long}] out)') == "\n".join(
        [
            '(call %init_peer_id% ("service" "function")',
            "  [",
            *(f'    "argument number {i}"' for i in range(6)),
            "  ]",
            "  out",
            ")",
            "",
        ]
    )


def test_comments_stay_where_they_are() -> None:
    text = """\
; what this is about

(seq  ; two steps
  ; the first
  (ap 1 x)  ; one

  ; the second
  (ap 2 y)
  ; the end
)  ; of it
"""
    assert format_text(text) == text


def test_a_comment_between_closing_brackets_keeps_them_apart() -> None:
    text = "(seq\n  (null)\n  (seq\n    (null)\n    (null)\n    ; inner\n  )  ; outer\n)\n"
    assert format_text(text) == text


def test_a_string_of_several_lines_is_left_alone() -> None:
    text = '(call "p" ("s" "f") ["one\n   two  \nthree"])'
    assert '"one\n   two  \nthree"' in format_text(text)


def test_deep_nesting_stops_moving_in() -> None:
    text = "(par (null) " * 1500 + "(null)" + ")" * 1500
    formatted = format_text(text)
    assert max(map(len, formatted.splitlines())) <= COLUMNS_MAX
    assert format_text(formatted) == formatted


def test_the_empty_file_stays_empty() -> None:
    assert format_text(" \n\n") == ""


def test_open_brackets_are_refused() -> None:
    with pytest.raises(AirSyntaxError, match="never closed"):
        format_text("(seq (null)")
