"""What the compiler has to say about a program: errors and warnings with a place, a code and a hint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from fluvial.errors import FluvialError
from msgspec import Struct

from fluvial_aqua.text import AquaText, Span

ERRORS_MAX: Final = 100
"""So many diagnostics of one program are kept; nobody reads more."""
LINE_CHARS_MAX: Final = 200
"""Longer lines are cut in excerpts."""


class Diagnostic(Struct, frozen=True):
    """One mistake or oddity; lines and columns count from 1, the end column is the one behind the last character."""

    severity: Literal["error", "warning"]
    code: str
    message: str
    hint: str
    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def render(self, source: AquaText | None = None) -> str:
        """The diagnostic for people, with an excerpt if the source is at hand."""
        head = f"{self.file}:{self.line}:{self.column}: {self.severity} {self.code}: {self.message}"
        parts = [head]
        if source is not None:
            text = source.line(self.line).expandtabs(1)[:LINE_CHARS_MAX]
            number = str(self.line)
            last = self.end_column if self.end_line == self.line else len(text) + 1
            width = max(1, min(last, len(text) + 1) - self.column)
            parts += [f" {number} | {text}", f" {' ' * len(number)} | {' ' * (self.column - 1)}{'^' * width}"]
        if self.hint:
            parts.append(f"    {self.hint}")
        return "\n".join(parts)


class AquaError(FluvialError):
    """A program is refused; all that is wrong with it, and where.

    Args:
        diagnostics: errors, and the warnings that were found beside them.
        sources: the texts by file name, for excerpts.
    """

    code = "F801"

    def __init__(self, diagnostics: Sequence[Diagnostic], sources: dict[str, AquaText]) -> None:
        shown = [one.render(sources.get(one.file)) for one in diagnostics if one.severity == "error"]
        super().__init__("\n".join(shown))
        self.diagnostics = tuple(diagnostics)


class DiagnosticCollector:
    """Collects diagnostics while a program is read; one per place, so that one mistake is reported once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, int, str], Diagnostic] = {}
        self.sources: Final[dict[str, AquaText]] = {}

    @property
    def failed(self) -> bool:
        """Whether there is an error among what was found."""
        return any(one.severity == "error" for one in self._found.values())

    @property
    def errors(self) -> int:
        """How many errors were found."""
        return sum(one.severity == "error" for one in self._found.values())

    def error(self, source: AquaText, span: Span, code: str, message: str, hint: str = "") -> None:
        """Note a mistake."""
        self._note("error", source, span, code, message, hint)

    def warning(self, source: AquaText, span: Span, code: str, message: str, hint: str = "") -> None:
        """Note something odd that is no mistake."""
        self._note("warning", source, span, code, message, hint)

    def all(self) -> list[Diagnostic]:
        """What was found, by file and place."""
        return sorted(self._found.values(), key=lambda one: (one.file, one.line, one.column, one.severity))

    def _note(
        self,
        severity: Literal["error", "warning"],
        source: AquaText,
        span: Span,
        code: str,
        message: str,
        hint: str,
    ) -> None:
        key = (source.name, span.start, severity)
        if key in self._found or len(self._found) >= ERRORS_MAX:
            return
        self.sources[source.name] = source
        end = max(span.end, span.start + 1)
        line, column = source.line_column(min(span.start, len(source.text)))
        end_line, end_column = source.line_column(min(end, len(source.text)))
        if (end_line, end_column) <= (line, column):
            end_line, end_column = line, column + 1
        self._found[key] = Diagnostic(severity, code, message, hint, source.name, line, column, end_line, end_column)
