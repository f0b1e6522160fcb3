"""The static checks: each refuses what the reference refuses, with a stable code and the place of the offence."""

from __future__ import annotations

import pytest
from fluvial.air.syntax import AirSyntaxError, parse
from fluvial.air.syntax import errors as errors_module

STREAM = "(seq (ap 1 $s) (fold $s i {}))"


@pytest.mark.parametrize(
    ("code", "at", "text"),
    [
        ("A001", "1:1", ""),
        ("A001", "1:8", "(null) (null)"),
        ("A002", "1:1", "(null"),
        ("A002", "1:18", "(seq (null) (null]"),
        ("A003", "1:5", '(ap "a x)'),
        ("A004", "1:6", '(ap "\0" x)'),
        ("A004", "1:6", '(ap "\ud800" x)'),
        ("A005", "1:6", "(ap a%b y)"),
        ("A006", "1:5", "(ap 99999999999999999999 x)"),
        ("A006", "1:5", "(ap 1.23456789012 x)"),
        ("A007", "1:6", "(ap x.name y)"),
        ("A008", "1:2", "(cal 1 x)"),
        ("A009", "1:7", "(null 1)"),
        ("A010", "1:7", '(call 1 ("s" "f") [])'),
        ("A012", "1:5", "(ap x x)"),
        ("A012", "1:7", "(fold x x (null))"),
        ("A012", "1:7", "(fold $s i (null))"),
        ("A012", "1:10", "(par (ap x y) (ap 1 x))"),
        ("A012", "1:26", "(seq (ap 1 x) (ap x.$.a.[y] z))"),
        ("A012", "1:10", "(xor (ap #c y) (ap 1 c))"),
        ("A013", "1:7", "(next i)"),
        ("A013", "1:31", "(seq (fold [] i (null)) (next i))"),
        ("A014", "1:32", "(fold [] i (xor (next i) (next i)))"),
        ("A014", "1:27", "(fold [] i (next i) (next i))"),
        ("A015", "1:21", "(fold [] i (fold [] i (null)))"),
        ("A015", "1:28", "(fold [] i (null) (fold [] i (null)))"),
        ("A016", "1:17", "(fold [] i (new i (null)))"),
        ("A017", "1:41", STREAM.format("(seq (next i) (null))")),
        ("A017", "1:41", STREAM.format("(par (next i) (null))")),
        ("A017", "1:54", STREAM.format("(seq (xor (next i) (null)) (null))")),
        ("A017", "1:49", STREAM.format("(seq (new x (next i)) (null))")),
        ("A017", "1:48", STREAM.format("(null) (seq (next i) (null))")),
        ("A018", "1:7", '(fail 0 "x")'),
    ],
)
def test_refusals(code: str, at: str, text: str) -> None:
    with pytest.raises(AirSyntaxError) as caught:
        parse(text)
    assert (caught.value.code, str(caught.value.at)) == (code, at)


@pytest.mark.parametrize(
    "text",
    [
        STREAM.format("(seq (null) (next i))"),
        STREAM.format("(par (null) (next i))"),
        STREAM.format("(xor (next i) (null))"),
        STREAM.format("(next i) (null)"),
        "(fold [] i (seq (next i) (null)))",
        "(fold [] i (seq (ap 1 i) (ap i y)))",
        '(fold [] i (call "p" ("s" "f") [] i))',
        "(seq (fold [] i (next i)) (fold [] i (next i)))",
        "(par (ap 1 ⓐ🅑) (ap ⓐ🅑 y))",
        "(ap :error:.$.[x] y)",
        '(par (match %last_error%.$.[x] 1 (null)) (ap "message" x))',
        "(fold [] i (seq (new j (null)) (fold [] j (next i))))",
    ],
)
def test_what_passes(text: str) -> None:
    assert parse(text).size > 0


def test_codes_are_unique() -> None:
    kinds: list[type[AirSyntaxError]] = [AirSyntaxError, *AirSyntaxError.__subclasses__()]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(kind.__module__ == errors_module.__name__ and kind.__doc__ for kind in kinds)
