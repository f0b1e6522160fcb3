"""Why a script is refused: where, what is wrong, and what to do about it.

::

    AirSyntaxError A001      the general case: an instruction must stand here, something is left over …
    ├── UnbalancedBrackets A002   ├── UnknownInstruction A008   ├── UndefinedName   A012
    ├── UnclosedString     A003   ├── WrongShape         A009   ├── NextOutsideFold A013
    ├── UnreadableText     A004   ├── WrongOperand       A010   ├── SecondNext      A014
    ├── BadWord            A005   ├── TooLarge           A011   ├── IteratorInUse   A015
    ├── BadNumber          A006   │                             ├── NewOfIterator   A016
    └── BadLambda          A007   │                             ├── AfterNext       A017
                                                                └── FailWithZero    A018

A002 to A011 are about the text, from A012 on the static checks of a script that reads well.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from typing import TypeVar

from fluvial.air.syntax.tree import Position
from fluvial.errors import FluvialError

EXCERPT_COLUMNS = 100
"""How much of a source line an error shows; scripts made by compilers may be one line of megabytes."""

_SHOWN_WORD_CHARS = 60


class AirSyntaxError(FluvialError):
    """A script that cannot be run; ``str()`` shows the place in the source.

    Args:
        problem: what is wrong, one line.
        at: where.
        source_name: the file's name, or whatever stands for one.
        excerpt: the source line and the caret line below it.
        hint: what the author can do about it.
    """

    code = "A001"

    def __init__(
        self, problem: str, *, at: Position, source_name: str, excerpt: tuple[str, str], hint: str = ""
    ) -> None:
        super().__init__(problem, hint=hint)
        self.at = at
        self.source_name = source_name
        self.excerpt = excerpt

    def __str__(self) -> str:
        """Place, problem, source line with carets, help."""
        line, carets = self.excerpt
        shown = [
            f"{self.source_name}:{self.at}: error {self.code}: {self.message}",
            f"{self.at.line:>5} | {line}",
            f"      | {carets}",
        ]
        if self.hint:
            shown.append(f"help: {self.hint}")
        return "\n".join(shown)


ErrorT = TypeVar("ErrorT", bound=AirSyntaxError)


class UnbalancedBrackets(AirSyntaxError):
    """A bracket is not closed, closed by the other kind, or closes nothing."""

    code = "A002"


class UnclosedString(AirSyntaxError):
    """A string literal runs to the end of the text."""

    code = "A003"


class UnreadableText(AirSyntaxError):
    """Not UTF-8, or a character that no script may contain."""

    code = "A004"


class BadWord(AirSyntaxError):
    """A word that is no name, number, literal or variable."""

    code = "A005"


class BadNumber(AirSyntaxError):
    """A number out of range, too long, or not quite a number."""

    code = "A006"


class BadLambda(AirSyntaxError):
    """What hangs on a name is no lambda."""

    code = "A007"


class UnknownInstruction(AirSyntaxError):
    """The first word in a bracket names no instruction."""

    code = "A008"


class WrongShape(AirSyntaxError):
    """An instruction has too few or too many parts, or not in its order."""

    code = "A009"


class WrongOperand(AirSyntaxError):
    """A value of a kind that cannot stand at this place."""

    code = "A010"


class TooLarge(AirSyntaxError):
    """The script exceeds a limit: bytes, parts, nesting."""

    code = "A011"


class UndefinedName(AirSyntaxError):
    """A name is read that nothing earlier in the text defines.

    Attributes:
        undefined: the name.
    """

    code = "A012"
    undefined: str = ""


class NextOutsideFold(AirSyntaxError):
    """A ``next`` whose iterator belongs to no fold around it."""

    code = "A013"


class SecondNext(AirSyntaxError):
    """A fold with two ``next`` of its iterator."""

    code = "A014"


class IteratorInUse(AirSyntaxError):
    """A fold inside another one with the same iterator."""

    code = "A015"


class NewOfIterator(AirSyntaxError):
    """``new`` of the iterator of a fold around it."""

    code = "A016"


class AfterNext(AirSyntaxError):
    """An instruction behind ``next`` in a fold over a stream or stream map."""

    code = "A017"


class FailWithZero(AirSyntaxError):
    """``fail`` with the code 0, which means success."""

    code = "A018"


class SourceText:
    """A script's text with its name: turns offsets into places and into errors.

    Args:
        text: the whole script.
        name: how errors call it.
    """

    def __init__(self, text: str, name: str) -> None:
        self.text = text
        self.name = name
        self._line_starts = [0, *(found.end() for found in re.finditer("\n", text))]

    def position(self, offset: int) -> Position:
        """Line and column, from 1, of a character's offset, from 0."""
        line = bisect_right(self._line_starts, offset)
        return Position(line, offset - self._line_starts[line - 1] + 1)

    def error(self, kind: type[ErrorT], problem: str, offset: int, length: int = 1, *, hint: str = "") -> ErrorT:
        """An error about ``length`` characters at ``offset``, to be raised."""
        at = self.position(offset)
        excerpt = _excerpt(self._line(at.line), at.column - 1, length)
        return kind(problem, at=at, source_name=self.name, excerpt=excerpt, hint=hint)

    def _line(self, line: int) -> str:
        start = self._line_starts[line - 1]
        end = self._line_starts[line] - 1 if line < len(self._line_starts) else len(self.text)
        return self.text[start:end].rstrip("\r")


def shown(text: str) -> str:
    """A word as an error message quotes it: printable, in back quotes, shortened in the middle of nothing."""
    cut = text if len(text) <= _SHOWN_WORD_CHARS else text[: _SHOWN_WORD_CHARS - 1] + "…"
    return f"`{_printable(cut)}`"


def _excerpt(line: str, column: int, length: int) -> tuple[str, str]:
    """A line cut to a window around a column, and the carets below it."""
    start = 0
    if len(line) > EXCERPT_COLUMNS and column > EXCERPT_COLUMNS // 2:
        start = min(column - EXCERPT_COLUMNS // 2, len(line) - EXCERPT_COLUMNS)
    window = line[start : start + EXCERPT_COLUMNS]
    ahead = "…" if start else ""
    behind = "…" if start + EXCERPT_COLUMNS < len(line) else ""
    before = window[: column - start]
    marked = window[column - start : column - start + length]
    blanks = " " * (len(ahead) + _columns(before))
    return ahead + _printable(window) + behind, blanks + "^" * max(1, _columns(marked))


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " if c in "\t\n\r" else "�" for c in text)


def _columns(text: str) -> int:
    """How wide a terminal shows a text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
