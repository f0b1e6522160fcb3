"""Reading text: words, layout, expressions, and how mistakes in them are told."""

from __future__ import annotations

import pytest
from fluvial_aqua.diagnostics import DiagnosticCollector
from fluvial_aqua.syntax import parse
from fluvial_aqua.syntax.tree import (
    AquaFile,
    BinarySyntax,
    BindLine,
    Expression,
    FunctionSyntax,
    LiteralSyntax,
    NameSyntax,
    UnarySyntax,
)
from fluvial_aqua.text import AquaText

from tests.plugins.aqua.support import HEAD, HEAD_LINES, errors, program, run, told


def read(text: str) -> tuple[AquaFile, DiagnosticCollector]:
    reporter = DiagnosticCollector()
    return parse(AquaText("main.aqua", text), reporter), reporter


def shape(syntax: Expression) -> str:
    """An expression with all brackets."""
    match syntax:
        case BinarySyntax():
            return f"({shape(syntax.left)} {syntax.operator} {shape(syntax.right)})"
        case UnarySyntax():
            return f"!{shape(syntax.value)}"
        case NameSyntax():
            return syntax.name
        case LiteralSyntax():
            return str(syntax.value)
    return type(syntax).__name__


def expression(text: str) -> str:
    file, reporter = read(f"aqua T\n\nfunc f():\n  x = {text}\n")
    assert not reporter.failed, reporter.all()
    function = file.definitions[0]
    assert isinstance(function, FunctionSyntax)
    line = function.body.lines[0]
    assert isinstance(line, BindLine)
    return shape(line.value)


@pytest.mark.parametrize(
    ("text", "grouped"),
    [
        ("a + b * c", "(a + (b * c))"),
        ("a - b - c", "((a - b) - c)"),
        ("a ** b ** c", "(a ** (b ** c))"),
        ("a || b && c", "(a || (b && c))"),
        ("a == b && c != d", "((a == b) && (c != d))"),
        ("a + b < c", "((a + b) < c)"),
        ("!a && b", "(!a && b)"),
        ("not a == b", "!(a == b)"),
        ("not a && b", "(!a && b)"),
        ("(a + b) * c", "((a + b) * c)"),
        ("a -1", "(a - 1)"),
        ("-1 + -2", "(-1 + -2)"),
    ],
)
def test_operators_bind_as_the_language_says(text: str, grouped: str) -> None:
    assert expression(text) == grouped


def test_words_of_the_language_are_names_where_no_block_begins() -> None:
    seen = run("on_air <- Op.echo('x')\ncall = on_air\nOp.note(call)".replace("'", '"'))
    assert told(seen) == ["@client echo(x)", "@client note(x)"]


def test_lines_go_on_after_operators_and_commas_and_in_front_of_dots() -> None:
    lines = 'x = Op.make()\n    .inner\n    .word\nb = true &&\n    x == "w"\nOp.pair(x,\n  -- a comment\n  "a",\n)\nif b:\n  Op.note(x)'
    assert told(run(lines))[-1] == "@client note(w)"


def test_a_blank_line_between_definitions_is_not_needed() -> None:
    assert errors("aqua T declares *\nexport f\nfunc g() -> u32:\n  <- 1\nfunc f() -> u32:\n  <- g()\n") == []


def test_strings_know_no_escapes_and_may_go_over_lines() -> None:
    seen = run('Op.note("a\\n")\nOp.note("b\nc")')
    assert [call["args"] for call in seen["calls"]] == [["a\\n"], ["b\n  c"]]


@pytest.mark.parametrize(
    ("lines", "code", "line"),
    [
        ('Op.note("open)', "Q102", 1),
        ('Op.note("x"', "Q103", 1),
        ('Op.note("x"))', "Q103", 1),
        ("x = #", "Q101", 1),
        ('Op.note("x")\n    Op.note("y")', "Q105", 2),
        ('on "p":\n    Op.note("x")\n  Op.note("y")', "Q104", 3),
        ("x = -y", "Q113", 1),
        ("x = 1 < 2 < 3", "Q114", 1),
        ("x = 007", "Q115", 1),
        ("x = 99999999999999999999", "Q116", 1),
        ("x = Op.list()[-1]", "Q117", 1),
        ('on "p":', "Q120", 1),
        ("|", "Q121", 1),
        ('par on "p":\n  Op.note("x")', "Q122", 1),
        ("5", "Q123", 1),
        ('catch e:\n  Op.note("x")', "Q125", 1),
        ('Op.note("x")\npar if true:\n  Op.note("y")', "Q126", 2),
        ('for x <- Op.list(): Op.note("y")', "Q112", 1),
    ],
)
def test_a_mistake_in_the_text_is_one_error_in_its_place(lines: str, code: str, line: int) -> None:
    found = errors(program(lines))
    assert (found[0].code, found[0].line) == (code, HEAD_LINES + 2 + line), found
    assert len(found) == 1, found


def test_several_mistakes_are_found_at_once() -> None:
    text = program('Op.note(1)\nx = -y\nOp.ecko("a")\non 5:\n  Op.note("z")')
    assert [one.line - HEAD_LINES - 2 for one in errors(text)] == [1, 2, 3, 4]


def test_an_unclosed_bracket_does_not_swallow_what_follows() -> None:
    text = program('Op.note("x"') + "\nfunc other():\n  Op.note(5)\n"
    assert [one.code for one in errors(text)] == ["Q103", "Q401"]


@pytest.mark.parametrize(
    "text",
    [
        'func main() -> string:\n  x <- Op.echo("a"\n  <- x\n',
        'func main() -> string:\n  x <- Op.echo("a)\n  <- x\n',
        "func main(a: string -> string:\n  <- a\n",
        "func main(a string):\n  Op.note(a)\n",
        'func main():\n  y = helper()\n  Op.note(y)\n\nfunc helper( -> string:\n  <- "a"\n',
        "func main(t: Thing):\n  Op.note(t.a)\n\ndata Thing\n  a: string\n",
        "func main():\n  More.go()\n\nservice More(5 :\n  go()\n",
    ],
)
def test_what_uses_something_unreadable_is_no_mistake_of_its_own(text: str) -> None:
    found = errors(HEAD + text)
    assert len(found) == 1, found


def test_lines_may_end_as_on_other_systems() -> None:
    text = program('x <- Op.echo("a")\nif x == "a":\n  Op.note(x)')
    for end in ("\r\n", "\n\r"):
        assert errors(text.replace("\n", end)) == []


def test_an_excerpt_points_at_the_mistake() -> None:
    _, reporter = read('aqua T\n\nfunc f():\n  x = "a" + $\n')
    (found,) = [one for one in reporter.all() if one.code == "Q101"]
    source = reporter.sources["main.aqua"]
    assert found.render(source).splitlines()[1:3] == [' 4 |   x = "a" + $', "   |             ^"]


@pytest.mark.parametrize("depth", [300, 5000])
def test_depth_is_bounded_and_told(depth: int) -> None:
    for text in (f"x = {'(' * depth}1{')' * depth}", f"x = {'!' * depth}true", f"x: {'[]' * depth}u8"):
        assert {one.code for one in errors(program(text))} <= {"Q107", "Q418"}
    nested = "".join(f"{' ' * level}on a:\n" for level in range(1, depth)) + " " * depth + "f()\n"
    assert "Q106" in {one.code for one in errors(f"aqua T\n\nfunc f(a: string):\n{nested}")}
