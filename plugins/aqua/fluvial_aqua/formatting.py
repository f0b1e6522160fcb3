"""The formatter: indentation by two blanks, one blank between words, comments and line ends kept."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from fluvial_aqua.diagnostics import AquaError, DiagnosticCollector
from fluvial_aqua.syntax import parse
from fluvial_aqua.syntax.layout import Line, read_lines
from fluvial_aqua.syntax.tokens import END, NEWLINE, Token, comments, tokenize
from fluvial_aqua.text import AquaText

INDENT: Final = "  "
_ALWAYS_APART: Final = frozenset(("<-", "<<-", "->", "=", "?=", "==", "!=", "&&", "||", "<=", ">="))
_BIG: Final = frozenset(("func", "service", "data", "ability"))


class _PhysicalLine(Struct):
    """What stands between two line ends."""

    tokens: list[Token]
    comment: str
    blank: bool


def format_text(name: str, text: str) -> str:
    """A file set anew.

    Args:
        name: how the file is called in errors.
        text: what it holds.

    Raises:
        AquaError: it cannot be read.
    """
    source = AquaText(name, text)
    reporter = DiagnosticCollector()
    parse(source, reporter)
    if reporter.failed:
        raise AquaError(reporter.all(), reporter.sources)
    depths: dict[int, int] = {}
    _depths(read_lines(source, DiagnosticCollector()), 0, depths)
    formatted = _join(_physical(text), depths)
    before = [token.text for token in tokenize(text) if token.kind not in (NEWLINE, END)]
    after = [token.text for token in tokenize(formatted) if token.kind not in (NEWLINE, END)]
    assert before == after, "formatting never changes words"
    return formatted


def _depths(lines: list[Line], depth: int, found: dict[int, int]) -> None:
    """How deep each logical line is, by where it begins."""
    for line in lines:
        found[line.tokens[0].start] = depth
        _depths(line.children, depth + 1, found)


def _physical(text: str) -> list[_PhysicalLine]:
    """The lines of the file; a string that goes over several belongs to the one where it begins."""
    ends = [*(token for token in tokenize(text) if token.kind in (NEWLINE, END))]
    marks = comments(text)
    tokens = [token for token in tokenize(text) if token.kind not in (NEWLINE, END)]
    lines = []
    at_token = at_comment = 0
    for end in ends:
        mine = []
        while at_token < len(tokens) and tokens[at_token].start < end.start:
            mine.append(tokens[at_token])
            at_token += 1
        comment = ""
        while at_comment < len(marks) and marks[at_comment].start < end.start:
            comment = text[marks[at_comment].start : marks[at_comment].end].rstrip()
            at_comment += 1
        lines.append(_PhysicalLine(mine, comment, not mine and not comment))
    return lines


def _join(lines: list[_PhysicalLine], depths: dict[int, int]) -> str:
    written: list[str] = []
    depth = 0
    for index, line in enumerate(lines):
        if line.blank:
            if written and written[-1]:
                written.append("")
            continue
        if line.tokens:
            start = line.tokens[0].start
            if start in depths:
                depth = depths[start]
                indent = INDENT * depth
                if depth == 0 and line.tokens[0].text in _BIG:
                    _one_blank_above(written)
            else:
                indent = INDENT * (depth + 2)
        else:
            indent = INDENT * _next_depth(lines, index, depths, depth)
        text = _words(line.tokens)
        gap = "  " if text and line.comment else ""
        written.append(f"{indent}{text}{gap}{line.comment}")
    while written and not written[-1]:
        written.pop()
    return "\n".join(written) + "\n" if written else ""


def _one_blank_above(written: list[str]) -> None:
    """A block at the top level stands apart from what is above, comments that belong to it not counted."""
    at = len(written)
    while at > 0 and written[at - 1].startswith("--"):
        at -= 1
    if at > 0 and written[at - 1]:
        written.insert(at, "")


def _next_depth(lines: list[_PhysicalLine], index: int, depths: dict[int, int], depth: int) -> int:
    """A comment is as deep as the line below it."""
    for line in lines[index + 1 :]:
        if line.tokens:
            return depths.get(line.tokens[0].start, depth + 2)
    return depth


def _words(tokens: list[Token]) -> str:
    parts: list[str] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and _apart(before, token):
            parts.append(" ")
        parts.append(token.text)
    return "".join(parts)


def _apart(before: Token, token: Token) -> bool:
    """Whether a blank stands between two words."""
    touching = before.end == token.start
    if token.kind in (",", ")", "]", "}", ".") or before.kind in ("(", "[", "{", "."):
        return False
    if token.kind in _ALWAYS_APART or before.kind in _ALWAYS_APART:
        return True
    if token.kind == ":":
        return False
    if before.kind in (",", ":"):
        return True
    return not touching
