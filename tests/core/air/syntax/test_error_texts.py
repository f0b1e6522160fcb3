"""What authors read: place, problem, the line with carets, help."""

from __future__ import annotations

import pytest
from fluvial.air.syntax import AirSyntaxError, parse
from fluvial.air.syntax.errors import EXCERPT_COLUMNS


def refusal(text: str) -> str:
    with pytest.raises(AirSyntaxError) as caught:
        parse(text, name="chat.air")
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            '(seq\n  (ap 1 message)\n  (call "p" ("s" "f") [mesage]))',
            """\
chat.air:3:24: error A012: `mesage` is not defined
    3 |   (call "p" ("s" "f") [mesage]))
      |                        ^^^^^^
help: did you mean `message`?""",
        ),
        (
            '(seq (ap 1 $acc) (call "p" ("s" "f") [acc]))',
            """\
chat.air:1:39: error A012: `acc` is not defined
    1 | (seq (ap 1 $acc) (call "p" ("s" "f") [acc]))
      |                                       ^^^
help: `$acc` is a stream; fix its content with `(canon PEER $acc #acc)` and read `#acc`""",
        ),
        (
            '(seq\n  (match acc.length 2)\n  (call %init_peer_id% ("s" "f") [] acc[]))',
            """\
chat.air:2:10: error A012: `acc` is read before anything defines it
    2 |   (match acc.length 2)
      |          ^^^
help: it is defined at 3:37, which comes later in the text""",
        ),
        (
            '(seq\n  (call "p" ("s" "f") [] x\n  (null)\n)\n',
            """\
chat.air:1:1: error A002: `(seq` is never closed
    1 | (seq
      | ^
help: add `)` where it ends; by the indentation, `(call` of 2:3 should be closed before 3:3""",
        ),
        (
            '(seq\n  (call "p" ("s" "f") [])\n  (xor\n    (null)\n    (null)\n',
            """\
chat.air:3:3: error A002: `(xor` is never closed
    3 |   (xor
      |   ^
help: 2 brackets are open at the end of the text, the outermost since 1:1""",
        ),
        (
            '(seq (null) (call "p" ("s" "f) []))',
            """\
chat.air:1:28: error A003: the string that begins at 1:28 is never closed
    1 | (seq (null) (call "p" ("s" "f) []))
      |                            ^
help: close it with `"`; if it should not begin here, a `"` is missing before""",
        ),
        (
            "(fold [] i\n  (seq (next i) (next i)))",
            """\
chat.air:2:23: error A014: this is the second `next` of `i` in its fold
    2 |   (seq (next i) (next i)))
      |                       ^
help: the other one is at 2:14; a fold may have one, in whatever branch""",
        ),
        (
            '(cal "p" ("s" "f") [])',
            """\
chat.air:1:2: error A008: `cal` is no instruction
    1 | (cal "p" ("s" "f") [])
      |  ^^^
help: did you mean `call`?""",
        ),
        (
            "(seq (null) (null) (null))",
            """\
chat.air:1:20: error A009: `seq` takes 2 parts, not 3
    1 | (seq (null) (null) (null))
      |                    ^^^^^^
help: write (seq INSTRUCTION INSTRUCTION); for more of them nest: (seq A (seq B C))""",
        ),
        (
            "(ap x.name y)",
            """\
chat.air:1:6: error A007: a lambda begins with `.$`
    1 | (ap x.name y)
      |      ^^^^^
help: did you mean `.$.name`?""",
        ),
        (
            '\t(ap "日本語" 語.3)',
            """\
chat.air:1:13: error A007: a lambda begins with `.$`
    1 |  (ap "日本語" 語.3)
      |                 ^^
help: write `.$.name`, `.$.[0]` or `.length`""",
        ),
    ],
    ids=lambda text: text[:20],
)
def test_texts(text: str, expected: str) -> None:
    assert refusal(text) == expected


def test_a_script_on_one_long_line_is_shown_around_the_place() -> None:
    text = "(seq (null) " * 500 + "(ap y x)" + ")" * 500
    shown = refusal(text).splitlines()
    assert shown[0] == "chat.air:1:6005: error A012: `y` is not defined"
    assert len(shown[1]) <= EXCERPT_COLUMNS + 10
    assert shown[1].startswith("    1 | …")
    caret = shown[2].index("^")
    assert shown[1][caret] == "y"
    assert shown[1].endswith("…")


def test_the_error_carries_its_parts() -> None:
    with pytest.raises(AirSyntaxError) as caught:
        parse("(ap y x)")
    error = caught.value
    assert (error.source_name, error.at.line, error.at.column, error.code) == ("script.air", 1, 5, "A012")
    assert error.message == "`y` is not defined"
    assert error.excerpt == ("(ap y x)", "    ^")
    assert error.hint
