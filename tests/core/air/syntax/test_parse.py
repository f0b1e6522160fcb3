"""Every construct of the language, and what its small print allows."""

from __future__ import annotations

from typing import Any

import pytest
from fluvial.air.syntax import AirSyntaxError, LambdaError, lambda_text, parse, parse_bytes, parse_lambda
from fluvial.air.syntax.tree import (
    Ap,
    ApMap,
    ByName,
    CallInstruction,
    Canon,
    CanonMap,
    CanonStream,
    Error,
    FailLiteral,
    FailValue,
    Field,
    Fold,
    Index,
    InitPeerId,
    Instruction,
    LastError,
    Length,
    Literal,
    Match,
    Mismatch,
    Never,
    New,
    Next,
    Null,
    Par,
    Path,
    Scalar,
    Seq,
    Stream,
    StreamMap,
    Timestamp,
    Ttl,
    Xor,
)

ALL_NAMES = '(seq (ap 1 x) (seq (ap 1 $s) (seq (ap ("k" 1) %m) (seq (canon "p" $s #c) (seq (canon "p" %m #%m) {})))))'


def root(text: str) -> Instruction:
    return parse(text).root


def inside(text: str) -> Instruction:
    """An instruction where ``x``, ``$s``, ``%m``, ``#c`` and ``#%m`` are defined, numbered 0."""
    outer = root(ALL_NAMES.format(text))
    assert isinstance(outer, Seq)
    return outer.children[-1]


def test_call() -> None:
    assert root(
        '(call "p" ("s" "f") [1 "two" [] true %ttl% %timestamp% %init_peer_id% :error: %last_error%] out)'
    ) == CallInstruction(
        number=0,
        peer=Literal("p"),
        service=Literal("s"),
        function=Literal("f"),
        arguments=(
            *(Literal(value) for value in (1, "two", (), True)),
            *(Ttl(), Timestamp(), InitPeerId(), Error(), LastError()),
        ),
        output=Scalar("out"),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(ap 1 y)", Ap(number=6, argument=Literal(1), target=Scalar("y"))),
        ("(ap #c $y)", Ap(number=6, argument=CanonStream("#c"), target=Stream("$y"))),
        ("(ap (x #c) %m)", ApMap(number=6, key=Scalar("x"), argument=CanonStream("#c"), target=StreamMap("%m"))),
        ("(canon x $s #$d)", Canon(number=6, peer=Scalar("x"), source=Stream("$s"), target=CanonStream("#$d"))),
        ("(canon x %m y)", Canon(number=6, peer=Scalar("x"), source=StreamMap("%m"), target=Scalar("y"))),
        ("(par (null) (never))", Par(number=6, left=Null(number=7), right=Never(number=8))),
        ("(xor (null) (never))", Xor(number=6, left=Null(number=7), right=Never(number=8))),
        ("(match x 1.5 (null))", Match(number=6, left=Scalar("x"), right=Literal(1.5), body=Null(number=7))),
        ("(mismatch x #%m (null))", Mismatch(number=6, left=Scalar("x"), right=CanonMap("#%m"), body=Null(number=7))),
        (
            "(fold $s i (seq (null) (next i)) (null))",
            Fold(
                number=6,
                iterable=Stream("$s"),
                iterator="i",
                body=Seq(number=7, children=(Null(number=8), Next(number=9, iterator="i"))),
                last=Null(number=10),
            ),
        ),
        ("(fold [] i (null))", Fold(number=6, iterable=Literal(()), iterator="i", body=Null(number=7))),
        ("(new #%m (null))", New(number=6, target=CanonMap("#%m"), body=Null(number=7))),
        ('(fail -7 "no")', FailLiteral(number=6, error_code=-7, message="no")),
        ("(fail x.$.e)", FailValue(number=6, value=Scalar("x", Path((Field("e"),))))),
        ("(fail :error:)", FailValue(number=6, value=Error())),
    ],
)
def test_instructions(text: str, expected: Instruction) -> None:
    assert inside(text) == expected


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (".length", Length()),
        (".$.a", Path((Field("a"),))),
        (".$.length", Path((Field("length"),))),
        (".$.[3].b-c", Path((Index(3), Field("b-c")))),
        (".$[003][x]!", Path((Index(3), ByName("x")))),
        (".$.[4294967295]", Path((Index(2**32 - 1),))),
        (".$.größe.[ключ]", Path((Field("größe"), ByName("ключ")))),
    ],
)
def test_lambdas(text: str, path: Any) -> None:
    assert parse_lambda(text) == path
    assert parse_lambda(lambda_text(path)) == path


@pytest.mark.parametrize(
    "text", ["", ".", ".$", ".a", ".$a", ".$.3", ".$.[]", ".$.[3a]", ".$.[4294967296]", ".$.a b", ".length!"]
)
def test_what_is_no_lambda(text: str) -> None:
    with pytest.raises(LambdaError):
        parse_lambda(text)


def test_lambdas_are_normalised_as_the_reference_prints_them() -> None:
    assert lambda_text(parse_lambda(".$.a[0][i]!")) == ".$.a.[0].[i]"
    assert lambda_text(None) == ""


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("0", 0),
        ("-0", 0),
        ("+5", 5),
        ("000000000000000000000000000000000007", 7),
        ("9223372036854775807", 2**63 - 1),
        ("-9223372036854775808", -(2**63)),
        ("1.", 1.0),
        ("+1.5", 1.5),
        ("12345678.12", 12345678.12),
        ("true", True),
        ('"a\nb\\"', "a\nb\\"),
        ('"; no comment"', "; no comment"),
    ],
)
def test_literals(word: str, value: object) -> None:
    call = root(f"(ap {word} x)")
    assert isinstance(call, Ap)
    assert call.argument == Literal(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["x", "1abc", "1e3", "-relay-", "--", "+a", "имя", "a٣", "हि", "call2", "_"])
def test_names(name: str) -> None:
    assert parse(f"(seq (ap 1 {name}) (ap {name}.$.f y))").size == 3


@pytest.mark.parametrize(
    "text",
    [
        '(call "p"("s""f")[]x)',
        "(null) ; comment to the end of the text",
        "; first\n(\tnull\u2003\u00a0)\r\n",
        '(seq (canon "p" $s #s) (ap #s.length y))',
        "(seq (fold [] i (seq (next i) (null))) (seq (ap 1 $s) (fold $s i (next i))))",
        "(fold [] i (seq (next i) (null)) (null))",
        "(seq (ap 1 $s) (fold $s i (seq (fold [] j (next i)) (null))))",
        "(seq (new x (null)) (ap x y))",
        "(par (ap 1 x) (ap x y))",
        "(fold [] i (call i (i i) [i] i))",
        "(canon nobody $s #c)",
        '(ap ("k" nothing) %m)',
        "(fail nothing.$.at_all)",
        '(ap ("k" 1) %init_peer_id)',
    ],
)
def test_accepted_as_by_the_reference(text: str) -> None:
    assert not parse(text).paper


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "(null)(null)",
        "(null) x",
        "(seq (null))",
        "(seq (null) (null) (null))",
        "(seq(null) (null))",
        '(call "p" ("s" "f") x)',
        '(call 1 ("s" "f") [])',
        '(call %ttl% ("s" "f") [])',
        '(call "p" (1 "f") [])',
        '(call "p" ("s" "f") [[1]])',
        '(call "p" ("s" "f") [$s])',
        '(call "p" ("s" "f") [] %m)',
        '(call "p" ("s" "f") [] #c)',
        '(call "p" ("s" "f") [] x.$.a)',
        "(ap 1 1)",
        "(ap 1 call)",
        "(ap (1.5 1) %m)",
        "(ap (true 1) %m)",
        '(seq (canon "p" %m #%m) (ap #%m x))',
        '(canon "p" #s #c)',
        '(canon "p" %m #c)',
        '(canon "p" $s x)',
        '(fold "a" i (null))',
        "(fold :error: i (null))",
        "(fold [] $i (null))",
        '(seq (canon "p" $s #cc) (fold #cc.$.[0] i (null)))',
        '(seq (canon "p" $s #cc) (fail #cc))',
        "(fail 1 x)",
        '(fail 1.0 "x")',
        "(fail :error:.$.a)",
        "(new x.$.a (null))",
        "(match 1 1 1)",
        "(ap 1.2.3 x)",
        "(ap 123456789.12 x)",
        "(ap 9223372036854775808 x)",
        "(ap - x)",
        "(ap ٣ x)",
        "(ap 1 a%m)",
        "(ap 1 x;c\n)",
        "(ap 1\x1cx)",
        "\ufeff(null)",
        "(seq (ap 1 x) (ap x.$.a!.b y))",
        "(seq (ap 1 x) (ap x[0] y))",
        "(ap :error:a x)",
        "(ap %init_peer_id%.$.a x)",
    ],
)
def test_refused_as_by_the_reference(text: str) -> None:
    with pytest.raises(AirSyntaxError):
        parse(text)


def test_flattening_sign_may_end_a_word() -> None:
    assert inside("(ap x.$.a! y)") == inside("(ap x.$.a y)")
    assert inside("(ap :error:.$.a!.b y)") == inside("(ap :error:.$.a.b y)")


def test_bytes_are_utf8() -> None:
    assert parse_bytes('(ap "é" x)'.encode()) == parse('(ap "é" x)')
    with pytest.raises(AirSyntaxError, match="0xff is no UTF-8") as caught:
        parse_bytes(b'(ap "\xc3\xa9" x)\n; \xff', name="latin.air")
    assert caught.value.code == "A004"
    assert str(caught.value.at) == "2:3"
