"""Text to tokens: one regular expression, every character accounted for."""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from fluvial_aqua.text import Span

NAME: Final = "name"
CLASS: Final = "Class"
INTEGER: Final = "integer"
DECIMAL: Final = "decimal"
STRING: Final = "string"
NEWLINE: Final = "line end"
END: Final = "end"
BAD: Final = "bad"
SPECIAL: Final = "%init_peer_id%"

_TOKEN: Final = re.compile(
    r"""
    (?P<blank>[ \t\r]+)
  | (?P<comment>--[^\n]*)
  | (?P<newline>\n)
  | (?P<name>[A-Za-z][A-Za-z0-9_]*)
  | (?P<decimal>\d+\.\d+)
  | (?P<integer>\d+)
  | (?P<string>"[^"]*")
  | (?P<special>%init_peer_id%)
  | (?P<operator><<-|<-|->|<=|>=|==|!=|&&|\|\||\*\*|\?=|[-+*/%!=<>()\[\]{},.:?|⊤⊥])
  | (?P<bad>"[^"]*|.)
    """,
    re.VERBOSE | re.ASCII,
)


class Token(Struct, frozen=True, gc=False):
    """A word of the text; ``kind`` is one of the constants above, or for operators the operator itself."""

    kind: str
    text: str
    start: int
    end: int

    @property
    def span(self) -> Span:
        """Where it stands."""
        return Span(self.start, self.end)


_SHORT_STRINGS: Final = re.compile(_TOKEN.pattern.replace('[^"]*', r'[^"\n]*'), re.VERBOSE | re.ASCII)


def tokenize(text: str) -> list[Token]:
    """All tokens but blanks and comments, a ``line end`` for each line end, ``end`` as the last one.

    Strings may have line ends in them. If one is never closed, all strings end with their lines instead, so that it shows which one it is.
    """
    tokens = _tokens(_TOKEN, text)
    if any(token.kind == BAD and token.text[0] == '"' for token in tokens):
        tokens = _tokens(_SHORT_STRINGS, text)
    return tokens


def _tokens(pattern: re.Pattern[str], text: str) -> list[Token]:
    tokens = []
    for found in pattern.finditer(text):
        group = found.lastgroup
        if group in ("blank", "comment"):
            continue
        word = found[0]
        if group == "name":
            kind = NAME if word[0].islower() else CLASS
        elif group == "operator":
            kind = word
        elif group == "newline":
            kind = NEWLINE
        elif group == "special":
            kind = SPECIAL
        else:
            kind = str(group)
        tokens.append(Token(kind, word, found.start(), found.end()))
    tokens.append(Token(END, "", len(text), len(text)))
    return tokens


def comments(text: str) -> list[Span]:
    """Where comments stand, for the formatter."""
    return [Span(one.start(), one.end()) for one in _TOKEN.finditer(text) if one.lastgroup == "comment"]
