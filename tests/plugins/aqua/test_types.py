"""The type checker: what is accepted, what is refused, and what is said of it."""

from __future__ import annotations

import pytest
from fluvial_aqua.checking.types import (
    BOTTOM,
    TOP,
    UNKNOWN,
    ArrayType,
    ArrowType,
    DataType,
    OptionType,
    ScalarType,
    StreamType,
    accepts,
    literal_type,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.plugins.aqua.support import HEAD_LINES, errors, program, warnings

SCALARS = [ScalarType(name) for name in ("u8", "u32", "i16", "i64", "f32", "f64", "bool", "string")]


def kinds() -> st.SearchStrategy[object]:
    """Types of data."""
    plain = st.sampled_from([*SCALARS, TOP, BOTTOM])
    return st.recursive(
        plain,
        lambda inner: st.one_of(
            inner.map(ArrayType),
            inner.map(OptionType),
            st.tuples(inner, inner).map(lambda two: DataType("R", (("a", two[0]), ("b", two[1])))),
            st.tuples(inner, inner).map(lambda two: ArrowType((("x", two[0]),), (two[1],))),
        ),
        max_leaves=6,
    )


@given(kinds())
def test_everything_accepts_itself_and_fits_between_bottom_and_top(kind: object) -> None:
    assert accepts(kind, kind)  # type: ignore[arg-type]  # the strategy makes types
    assert accepts(TOP, kind)  # type: ignore[arg-type]
    assert accepts(kind, BOTTOM)  # type: ignore[arg-type]
    assert accepts(kind, UNKNOWN)  # type: ignore[arg-type]


@given(kinds(), kinds(), kinds())
def test_acceptance_goes_on_through_a_third(one: object, other: object, third: object) -> None:
    if accepts(one, other) and accepts(other, third):  # type: ignore[arg-type]
        assert accepts(one, third)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "given_one", "good"),
    [
        (ScalarType("u16"), ScalarType("u8"), True),
        (ScalarType("i16"), ScalarType("u8"), True),
        (ScalarType("u16"), ScalarType("i8"), False),
        (ScalarType("f32"), ScalarType("u16"), True),
        (ScalarType("f32"), ScalarType("u32"), False),
        (ScalarType("u8"), literal_type(5), True),
        (ScalarType("f32"), literal_type(5), True),
        (ScalarType("u8"), literal_type(-5), False),
        (ScalarType("string"), ScalarType("bool"), False),
        (ArrayType(ScalarType("u16")), StreamType(ScalarType("u8")), True),
        (StreamType(ScalarType("u8")), ArrayType(ScalarType("u8")), False),
        (OptionType(ScalarType("u8")), ScalarType("u8"), False),
        (ArrowType((("", ScalarType("u8")),), ()), ArrowType((("", ScalarType("u16")),), ()), True),
        (ArrowType((("", ScalarType("u16")),), ()), ArrowType((("", ScalarType("u8")),), ()), False),
    ],
)
def test_what_is_accepted_for_what(wanted: object, given_one: object, good: bool) -> None:
    assert accepts(wanted, given_one) is good  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("Op.count(-1)", "Q401"),
        ("Op.note(Op.note('x'))", "Q411"),
        ("a, b <- Op.echo('x')", "Q411"),
        ("x = 'a' + 'b'", "Q405"),
        ("x = 1.5 < 2.5", "Q405"),
        ("x = 1 == 'a'", "Q405"),
        ("x = !5", "Q401"),
        ("x = 2 ** Op.count(1) ** -1", "Q405"),
        ("x = Op.list()['a']", "Q402"),
        ("x = Op.echo('a')[0]", "Q403"),
        ("x = ?['a'][0]", "Q403"),
        ("x = Op.make().none", "Q307"),
        ("x = Op.make().copy(none = 1)", "Q307"),
        ("x = Pair(left = 'a', right = 1)", "Q413"),
        ("x = Pair(1, left = 'a', right = 1, inner = Inner(word = 'x'))", "Q414"),
        ("x = []", "Q417"),
        ("x: string", "Q418"),
        ("join 5", "Q419"),
        ("s: **string\ns <<- 1", "Q406"),
        ("x = 1\nx <<- 2", "Q406"),
        ("for x <- 5:\n  Op.note('a')", "Q407"),
        ("for x <- Op.list() rec:\n  Op.note(x)", "Q407"),
        ("on Op.list():\n  Op.note('a')", "Q401"),
        ("on 'p' via 5:\n  Op.note('a')", "Q401"),
        ("if Op.yes():\n  <- 1", "Q430"),
        ("Free.go('x')", "Q306"),
        ("Nowhere 'id'", "Q309"),
        ("nowhere('x')", "Q308"),
        ("x = Pair", "Q305"),
        ("main()", "Q311"),
        ("Op = 1\nx = 5()", "Q111"),
        ("x = 9223372036854775807 + 1", "Q116"),
    ],
)
def test_a_mistake_is_one_error(lines: str, code: str) -> None:
    found = errors(program(lines.replace("'", '"')))
    assert [one.code for one in found] == [code], found


def test_names_may_not_hide_others() -> None:
    assert [one.code for one in errors(program("x = 1\nfor x <- Op.list():\n  Op.note(x)"))] == ["Q310"]
    assert [one.code for one in errors(program("helper = 1", more="func helper():\n  x = 1\n"))] == ["Q310"]
    assert errors(program("on 'p':\n  x <- Op.echo('a')\nOp.note(x)".replace("'", '"'))) == []


def test_names_of_inner_blocks_are_gone_behind_them() -> None:
    lines = 'if Op.yes():\n  x = "a"\nOp.note(x)'
    assert [(one.code, one.line) for one in errors(program(lines))] == [("Q305", HEAD_LINES + 5)]


def test_near_names_are_offered_and_far_ones_not() -> None:
    near, far = errors(program('longish = "a"\nOp.note(longis)\nOp.note(qqq)'))
    assert near.hint == "did you mean `longish`?"
    assert far.hint == ""


def test_an_unknown_value_has_no_consequences() -> None:
    lines = "x = nowhere\ny = x + 1\nOp.note(y)\nfor z <- x:\n  Op.count(z)\nif x:\n  Op.note(x.a.b)"
    assert len(errors(program(lines))) == 1


def test_functions_stand_in_any_order_and_circles_are_named() -> None:
    assert errors(program("later()", more="") + '\nfunc later():\n  Op.note("x")\n') == []
    (found,) = errors(program("one()", more="func two():\n  one()\n\nfunc one():\n  two()\n"))
    assert found.code == "Q311"
    assert "one → two → one" in found.hint or "two → one → two" in found.hint


def test_types_of_types_that_contain_themselves_are_refused() -> None:
    assert [one.code for one in errors("aqua T\n\ndata A:\n  b: B\n\ndata B:\n  a: A\n")] == ["Q303"]


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        ("x = 5", "Q906"),
        ("s: *string", "Q906"),
        ("Op.echo('x')", "Q904"),
        ("s: *string\ns <<- 'a'\njoin s[1]", "Q905"),
        ("p = Pair(left = 'a', right = 1, inner = Inner(word = 'x', more = 1))\nOp.note(p.left)", "Q903"),
        ("b: *u8\nb <<- 300\nfor x <- b:\n  Op.note('x')", "Q901"),
    ],
)
def test_oddities_are_warnings(lines: str, code: str) -> None:
    assert code in [one.code for one in warnings(program(lines.replace("'", '"')))]


def test_a_join_that_can_be_filled_is_no_oddity() -> None:
    lines = "s: *string\nfor x <- Op.list():\n  s <<- x\njoin s[5]\nOp.note(s[0])"
    assert warnings(program(lines)) == []
