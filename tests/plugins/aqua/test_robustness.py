"""No text makes the compiler fail in any other way than by telling what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

from fluvial.air.syntax import parse
from fluvial_aqua.compiler import compile_text
from hypothesis import given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).parents[2] / "conformance"
SOURCES = [
    json.loads(path.read_text())["aqua"] for path in sorted(FOLDER.glob("aqua*/*.json")) if "expected" not in path.name
]
WORDS = st.sampled_from(
    [
        *(
            "func",
            "service",
            "data",
            "const",
            "import",
            "export",
            "on",
            "via",
            "for",
            "par",
            "if",
            "else",
            "try",
            "catch",
        ),
        *(
            "e",
            "x",
            "Op",
            "f",
            "string",
            "u32",
            '"a"',
            "5",
            "-",
            "!",
            "[",
            "]",
            "(",
            ")",
            "{",
            "}",
            ":",
            "<-",
            "<<-",
            "=",
        ),
        *(
            "->",
            ",",
            ".",
            "*",
            "?",
            "|",
            "==",
            "&&",
            "\n",
            "\n  ",
            "\n    ",
            " ",
            "--",
            '"',
            "not",
            "join",
            "co",
            "parseq",
        ),
        *("⊤", "%", "otherwise", "copy", "nil", "\t", "\r\n", "_", "ü"),
    ]
)


def compiles(text: str) -> None:
    """Compile whatever it is; only diagnostics may come out."""
    compilation = compile_text("main.aqua", text, {}.get)
    if not compilation.ok:
        assert any(one.severity == "error" for one in compilation.diagnostics)
        for one in compilation.diagnostics:
            assert one.render(compilation.sources.get(one.file))
            assert (one.line, one.column) < (one.end_line, one.end_column)
        return
    for function in compilation.functions():
        parse(function.air)


@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    compiles(text)
    compiles(f"aqua T declares *\n\n{text}")


@settings(max_examples=150, deadline=None)
@given(st.lists(WORDS, max_size=60))
def test_any_words(words: list[str]) -> None:
    compiles("aqua T declares *\n\nexport f\n\nfunc f(x: string) -> string:\n  " + " ".join(words))


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SOURCES), st.integers(0, 2000), st.integers(0, 30))
def test_truncated_programs(source: str, start: int, length: int) -> None:
    start %= len(source)
    compiles(source[:start] + source[start + length :])
    compiles(source[:start])


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SOURCES), st.integers(0, 2000), st.lists(WORDS, min_size=1, max_size=3), st.integers(0, 3))
def test_mutated_programs(source: str, at: int, words: list[str], dropped: int) -> None:
    at %= len(source)
    compiles(source[:at] + "".join(words) + source[at + dropped :])
