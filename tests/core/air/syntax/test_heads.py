"""One-line texts of instructions, letter by letter as the reference puts them into error objects."""

from __future__ import annotations

import pytest
from fluvial.air.syntax import head, parse
from fluvial.air.syntax.tree import walk

NAMES = '(seq (ap 1 x) (seq (ap 1 $s) (seq (ap ("k" 1) %m) (seq (canon "p" $s #cc) (seq (canon "p" %m #%mm) {})))))'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('(call "p" ("s" "f") [])', 'call "p" ("s" "f") [] '),
        ('(call %init_peer_id% (x "f") [1 x.$.a[0].b] $s)', 'call %init_peer_id% (x "f") [1 x.$.a.[0].b] $s'),
        ('(call x.$.[i]! ("s" x) [:error:.$.message %last_error% []] y)', None),
        ("(ap 1.0 y)", "ap 1 y"),
        ("(ap +1.50 y)", "ap 1.5 y"),
        ("(ap 0.000000001 y)", "ap 0.000000001 y"),
        ("(ap -0. y)", "ap -0 y"),
        ("(ap true y)", "ap true y"),
        ("(ap #cc.length $s)", "ap #cc.length $s"),
        ('(ap ("k" #%mm.$.k) %m)', 'ap ("k" #%mm.$.k) %m'),
        ("(canon x $s #$c)", "canon x $s #$c"),
        ("(canon x %m y)", "canon x %m y"),
        ("(match x %ttl% (null))", "match x %ttl%"),
        ("(mismatch %timestamp% [] (null))", "mismatch %timestamp% []"),
        ('(fail 007 "t")', 'fail 7 "t"'),
        ("(fail %last_error%)", "fail %last_error%"),
        ("(fold #%mm kv (null))", "fold #%mm kv"),
        ("(fold [] it (next it))", "fold [] it"),
        ("(new $s (null))", "new $s"),
        ("(par (null) (null))", "par"),
        ("(xor (null) (null))", "xor"),
        ("(null)", "null"),
        ("(never)", "never"),
    ],
)
def test_head(text: str, expected: str | None) -> None:
    if expected is None:
        text = text.replace("[i]", "[x]")
        expected = 'call x.$.[x] ("s" x) [:error:.$.message %last_error% []] y'
    instructions = list(walk(parse(NAMES.format(text)).root))
    assert head(instructions[0]) == "seq"
    assert head(instructions[6]) == expected


def test_next() -> None:
    assert head(list(walk(parse("(fold [] it (next it))").root))[1]) == "next it"
