"""Text and tree are two forms of one thing."""

from __future__ import annotations

import pytest
from fluvial.air.syntax import Script, format_text, head, parse, to_text
from fluvial.air.syntax.tree import CallInstruction, InitPeerId, Literal, Null, Scalar, Seq, walk
from hypothesis import HealthCheck, given, settings

from tests.core.air.strategies import scripts


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(scripts())
def test_a_printed_tree_parses_to_itself(script: Script) -> None:
    text = to_text(script.root)
    parsed = parse(text)
    assert parsed == script
    assert parse(format_text(text)) == script
    instructions = list(walk(parsed.root))
    assert [one.number for one in instructions] == list(range(parsed.size))
    assert not any(isinstance(child, Seq) for one in instructions if isinstance(one, Seq) for child in one.children)
    assert all(head(one) for one in instructions)


@pytest.mark.parametrize("value", ['say "hi"', "a\0b", None, 1.23456789012345, 1e300])
def test_what_scripts_cannot_express_is_not_printed(value: str | float | None) -> None:
    call = CallInstruction(
        number=0, peer=InitPeerId(), service=Literal("s"), function=Literal("f"), arguments=(Literal(value),)
    )
    with pytest.raises(ValueError, match="AIR has no way to write"):
        to_text(call)


@pytest.mark.parametrize(
    "number", ["1.0", "-0.0", "0.000000001", "1234567890.", "12345678.12", "-123456.123", "100.50"]
)
def test_floats_survive(number: str) -> None:
    root = parse(f"(ap {number} x)").root
    assert parse(to_text(root)).root == root


def test_literals_of_different_json_text_are_different() -> None:
    values: list[str | float | tuple[()]] = [1, 1.0, True, "1", 0.0, -0.0, False, 0, (), ""]
    assert len({Literal(value) for value in values}) == len(values)


def test_both_nestings_of_seq_are_one_node() -> None:
    right = parse("(seq (ap 1 a) (seq (ap 2 b) (seq (null) (ap 3 c))))")
    left = parse("(seq (seq (seq (ap 1 a) (ap 2 b)) (null)) (ap 3 c))")
    assert right == left
    assert right.size == 5
    assert isinstance(right.root, Seq)
    assert right.root.children[2] == Null(number=3)


def test_positions_do_not_make_trees_different() -> None:
    close, wide = parse("(ap 1 x)"), parse("\n\n   (ap   1   x)")
    assert close == wide
    assert str(wide.root.at) == "3:4"
    assert Scalar("x") == Scalar("x")
