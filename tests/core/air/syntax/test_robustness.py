"""Whatever a peer is sent: a tree or an ``AirSyntaxError``, soon, and nothing else."""

from __future__ import annotations

import time

import pytest
from fluvial.air.syntax import AirSyntaxError, Script, format_text, parse, parse_bytes, to_text
from fluvial.air.syntax.builder import NESTING_MAX
from fluvial.air.syntax.forms import ARGUMENTS_MAX
from fluvial.air.syntax.reader import PARTS_MAX, SCRIPT_BYTES_MAX
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.air.strategies import NEARLY_AIR, mutated

CHAT = """
(seq
  (call %init_peer_id% ("load" "peers") [] peers)
  (seq
    (fold peers p (par (seq (mismatch p %init_peer_id%) (call p ("chat" "message") [peers.$.[0]] acc[])) (next p)))
    (xor (seq (match acc.length 2) (fold $acc it (seq (ap it #x) (next it)) (null))) (fail :error:))))
"""
CALL = '(call "p" ("s" "f") [])'


def outcome(text: str) -> Script | AirSyntaxError:
    try:
        return parse(text)
    except AirSyntaxError as error:
        return error


def check(text: str) -> None:
    result = outcome(text)
    if isinstance(result, AirSyntaxError):
        assert str(result).startswith("script.air:")
        assert len(str(result)) < 2000
    elif not result.paper:
        assert parse(to_text(result.root)) == result


@settings(max_examples=200, deadline=None)
@given(NEARLY_AIR)
def test_pieces_of_air_in_any_order(text: str) -> None:
    check(text)


@settings(max_examples=200, deadline=None)
@given(mutated(CHAT))
def test_damaged_scripts(text: str) -> None:
    check(text)


@settings(max_examples=100, deadline=None)
@given(st.text())
def test_any_text(text: str) -> None:
    check(text)
    check(f"(ap 1 {text})")
    check(f"(seq (ap 1 x) (ap x.$.{text} y))")


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    with pytest.raises(AirSyntaxError):
        parse_bytes(data + b"(")


@pytest.mark.parametrize(
    "text",
    [
        "(" * 100_000,
        "(" * 100_000 + ")" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        "x[" * 100_000,
        "(par (null) " * 20_000 + "(null)" + ")" * 20_000,
        "(new x " * (NESTING_MAX + 1) + "(null)" + ")" * (NESTING_MAX + 1),
        f"(ap {'9' * 100_000} x)",
        f"(seq (ap 1 {'a' * 100_000}) (ap {'a' * 99_999}b x))",
        "(ap x" + ".$.a" * 100_000 + " y)",
        '"' * 99_999,
        f"({'q' * 100_000} 1 x)",
        "(call " * 100_000,
        "(call x (y z) [a " * 40_000,
        "(call x (call x (y z) [] " * 20_000,
        f"(call x (y z) [{'a ' * 200_000}",
        f"(call x (y z) [{' ' * 500_000}",
        f"(call x{'[a]' * 100_000}[",
        '(call "p" ("s" "f") ["a" ' + '"' * 99_999,
    ],
    ids=lambda text: text[:12],
)
def test_large_nonsense_is_refused_soon(text: str) -> None:
    begin = time.process_time()
    assert isinstance(outcome(text), AirSyntaxError)
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    "text",
    [f"(seq {CALL} " * 20_000 + CALL + ")" * 20_000, "(seq " * 20_000 + CALL + f" {CALL})" * 20_000],
    ids=["right", "left"],
)
def test_long_chains_of_seq_are_one_level(text: str) -> None:
    script = parse(text)
    assert script.size == 20_002
    assert to_text(script.root).count("\n") == 40_001


def test_the_deepest_nesting_that_is_allowed() -> None:
    text = "(par (null) " * NESTING_MAX + "(null)" + ")" * NESTING_MAX
    script = parse(text)
    assert script.size == 2 * NESTING_MAX + 1
    assert to_text(parse(to_text(script.root)).root) == to_text(script.root)
    assert format_text(text).count("(par") == NESTING_MAX


def test_a_script_may_not_be_too_long() -> None:
    with pytest.raises(AirSyntaxError, match="bytes") as caught:
        parse(";" + " " * SCRIPT_BYTES_MAX)
    assert caught.value.code == "A011"


def test_a_script_may_not_have_too_many_parts() -> None:
    with pytest.raises(AirSyntaxError, match="parts") as caught:
        parse("x " * (PARTS_MAX + 1))
    assert caught.value.code == "A011"


def test_ten_thousand_lines_are_read_in_less_than_a_second() -> None:
    steps = 5_000
    lines = [
        f'(seq\n  (call %init_peer_id% ("svc" "f{i % 9}") [x{i}.$.a.[0] "lit" {i}] x{i + 1})\n' for i in range(steps)
    ]
    text = "(seq (ap 1 x0)\n" + "".join(lines) + "(null)" + ")" * (steps + 1)
    assert text.count("\n") > 10_000

    def seconds() -> float:
        begin = time.process_time()
        assert parse(text).size == steps + 3
        return time.process_time() - begin

    assert min(seconds() for _ in range(3)) < 1


def test_a_call_may_not_have_too_many_arguments() -> None:
    assert parse(f'(call "p" ("s" "f") [{"1 " * ARGUMENTS_MAX}])').size == 1
    for service in ('("s" "f")', '(x.$.name "f")'):
        with pytest.raises(AirSyntaxError, match="10,000 arguments") as caught:
            parse(f'(seq (ap 1 x) (call "p" {service} [{"1 " * (ARGUMENTS_MAX + 1)}]))')
        assert caught.value.code == "A011"
