"""The indentation pass: tokens to a tree of lines.

A logical line is what stands between two line ends that count. They do not count inside of brackets, behind an operator or comma, and in
front of a line that begins with ``.`` or an infix operator. A line that ends in ``:``, or is a lone ``|``, may have deeper lines below it;
the first of them fixes how the others are indented. Indentation is compared as text, so a tab is not some number of blanks.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from fluvial_aqua.diagnostics import DiagnosticCollector
from fluvial_aqua.syntax.tokens import BAD, END, NAME, NEWLINE, Token, tokenize
from fluvial_aqua.text import AquaText, Span

DEPTH_MAX: Final = 60
"""Blocks inside each other."""

_OPENING: Final = {"(": ")", "[": "]", "{": "}"}
_GOES_ON_AFTER: Final = frozenset(
    ("(", "[", "{", ",", "&&", "||", "==", "!=", "<", "<=", ">", ">=", "+", "-", "/", "%", "**", "=", "<-", "<<-", "->")
)
_GOES_ON_WITH: Final = frozenset((".", "&&", "||", "==", "!=", "**", "+", "/"))


class Line(Struct, eq=False):
    """A logical line and the lines that are indented below it; ``broken`` if it was reported already and makes no sense."""

    tokens: list[Token]
    indent: str
    children: list[Line]
    broken: bool = False

    @property
    def stray(self) -> Span | None:
        """Where the lines below it begin, if it is no line that has any."""
        return self.children[0].tokens[0].span if self.children and not self.opens else None

    @property
    def span(self) -> Span:
        """From its first to its last token."""
        return Span(self.tokens[0].start, self.tokens[-1].end)

    @property
    def opens(self) -> bool:
        """Whether a block belongs below it."""
        return self.tokens[-1].kind == ":" or (len(self.tokens) == 1 and self.tokens[0].kind == "|")


def read_lines(source: AquaText, reporter: DiagnosticCollector) -> list[Line]:
    """The lines of the outermost level; what is wrong with brackets and indentation is reported and mended."""
    return _nest(_logical(source, reporter), source, reporter)


def _logical(source: AquaText, reporter: DiagnosticCollector) -> list[Line]:
    """The lines in text order, without children yet."""
    text = source.text
    tokens = tokenize(text)
    lines: list[Line] = []
    current: list[Token] = []
    open_brackets: list[Token] = []
    broken = False
    for at, token in enumerate(tokens):
        if token.kind == BAD:
            _report_bad(token, source, reporter)
            broken = True
            open_brackets.clear()  # what is closed in a string that never ends is not closed
            current.append(token)
            continue
        if token.kind in (NEWLINE, END):
            if current and open_brackets and (token.kind == END or _begins_definition(tokens[at + 1], text)):
                opened = open_brackets[0]
                reporter.error(source, opened.span, "Q103", f"`{opened.text}` is never closed")
                open_brackets.clear()
                broken = True
            if current and not open_brackets and not _goes_on(current, tokens, at):
                start = text.rfind("\n", 0, current[0].start) + 1
                indent = text[start : current[0].start].replace("\r", "")
                lines.append(Line(current, indent, [], broken))
                current, broken = [], False
            continue
        if token.kind in _OPENING:
            open_brackets.append(token)
        elif token.kind in (")", "]", "}"):
            if open_brackets and _OPENING[open_brackets[-1].kind] == token.kind:
                open_brackets.pop()
            else:
                reporter.error(source, token.span, "Q103", f"`{token.text}` closes nothing")
                open_brackets.clear()
                broken = True
        current.append(token)
    return lines


def _begins_definition(token: Token, text: str) -> bool:
    """Whether a token begins a top-level definition, so that a bracket that is still open was forgotten."""
    first = token.start == 0 or text[token.start - 1] == "\n"
    return first and token.kind == NAME and token.text in ("func", "service", "data", "ability", "const", "alias")


def _goes_on(current: list[Token], tokens: list[Token], at: int) -> bool:
    """Whether the line end at a token does not count."""
    following = next((one for one in tokens[at:] if one.kind != NEWLINE), None)
    if following is None or following.kind == END:
        return False
    return current[-1].kind in _GOES_ON_AFTER or following.kind in _GOES_ON_WITH


def _report_bad(token: Token, source: AquaText, reporter: DiagnosticCollector) -> None:
    if token.text.startswith('"'):
        hint = 'strings run to the next `"` and know no escapes'
        reporter.error(source, Span(token.start, token.start + 1), "Q102", "the string is never closed", hint)
    else:
        shown = token.text if token.text.isprintable() else f"U+{ord(token.text):04X}"
        reporter.error(source, token.span, "Q101", f"`{shown}` has no meaning in Aqua")


def _nest(lines: list[Line], source: AquaText, reporter: DiagnosticCollector) -> list[Line]:
    """Hang each line below the one that it belongs to."""
    top: list[Line] = []
    # The open blocks, outermost first: how their lines are indented, and the lines.
    blocks: list[tuple[str, list[Line]]] = [(lines[0].indent if lines else "", top)]
    for line in lines:
        indent, siblings = blocks[-1]
        if line.indent != indent:
            last = siblings[-1] if siblings else None
            if last is not None and line.indent.startswith(indent) and not last.children:
                if len(blocks) > DEPTH_MAX:
                    reporter.error(source, line.span, "Q106", f"blocks are nested more than {DEPTH_MAX} deep")
                    continue
                blocks.append((line.indent, last.children))
            else:
                _leave(blocks, line, source, reporter)
        blocks[-1][1].append(line)
    return top


def _leave(blocks: list[tuple[str, list[Line]]], line: Line, source: AquaText, reporter: DiagnosticCollector) -> None:
    """Close blocks until the one that the line belongs to; if there is none, say so."""
    known = [indent for indent, _ in blocks]
    if line.indent in known:
        while blocks[-1][0] != line.indent:
            blocks.pop()
        return
    first = line.tokens[0]
    at = Span(first.start - len(line.indent), first.start) if line.indent else first.span
    hint = "the first line of a block fixes how the others are indented, blanks and tabs alike"
    reporter.error(source, at, "Q104", "inconsistent indentation: no block around is indented like this", hint)
    while len(blocks) > 1 and len(blocks[-1][0]) > len(line.indent):
        blocks.pop()
