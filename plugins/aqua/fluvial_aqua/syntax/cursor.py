"""A position in the tokens of one line; what is not there is a :class:`Mistake` at that place."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fluvial_aqua.syntax.layout import Line
from fluvial_aqua.syntax.tokens import CLASS, END, NAME, Token
from fluvial_aqua.syntax.tree import Identifier
from fluvial_aqua.text import Span

ItemT = TypeVar("ItemT")


class Mistake(Exception):
    """A line cannot be read on; caught by the reader of the block, which reports it and goes on with the next line."""

    def __init__(self, span: Span, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.span = span
        self.code = code
        self.message = message
        self.hint = hint


def stray_lines(at: Span) -> Mistake:
    """Lines are indented below one that has no block."""
    return Mistake(at, "Q105", "unexpected indentation", "only a line that ends in `:` has deeper lines below it")


class Cursor:
    """Reads one line from left to right."""

    def __init__(self, line: Line) -> None:
        self.line = line
        last = line.tokens[-1]
        self._tokens = [*line.tokens, Token(END, "", last.end, last.end)]
        self.index = 0
        self.depth = 0

    @property
    def token(self) -> Token:
        """The token to read next; of kind ``end`` behind the last one."""
        return self._tokens[self.index]

    @property
    def before(self) -> Token:
        """The token that was read last."""
        return self._tokens[max(self.index - 1, 0)]

    def ahead(self, count: int = 1) -> Token:
        """A token further on."""
        return self._tokens[min(self.index + count, len(self._tokens) - 1)]

    def at(self, *kinds: str) -> bool:
        """Whether the next token is of one of these kinds."""
        return self._tokens[self.index].kind in kinds

    def at_word(self, *words: str) -> bool:
        """Whether the next token is one of these lower-case words."""
        token = self._tokens[self.index]
        return token.kind == NAME and token.text in words

    def next(self) -> Token:
        """Read a token."""
        token = self._tokens[self.index]
        if token.kind != END:
            self.index += 1
        return token

    def take(self, kind: str) -> Token | None:
        """Read a token of this kind if it is there."""
        return self.next() if self.at(kind) else None

    def take_word(self, word: str) -> Token | None:
        """Read a word if it is there."""
        return self.next() if self.at_word(word) else None

    def expect(self, kind: str, what: str = "") -> Token:
        """Read a token that must be there."""
        if not self.at(kind):
            raise self.wanted(what or f"`{kind}`")
        return self.next()

    def identifier(self, what: str, *kinds: str) -> Identifier:
        """Read a name: by default one that begins with a small letter."""
        if not self.at(*(kinds or (NAME,))):
            raise self.wanted(what)
        token = self.next()
        return Identifier(text=token.text, span=token.span)

    def any_name(self, what: str) -> Identifier:
        """Read a name of either kind."""
        return self.identifier(what, NAME, CLASS)

    def wanted(self, what: str) -> Mistake:
        """Something else stands where ``what`` is wanted."""
        found = "the line ends" if self.at(END) else f"`{self.token.text}` stands here"
        return Mistake(self.token.span, "Q110", f"{what} is expected, {found}")

    def listed(self, read: Callable[[], ItemT], closing: str) -> tuple[ItemT, ...]:
        """Items with commas between them up to a closing bracket, which is read; a comma may end the list."""
        items = []
        while not self.at(closing):
            items.append(read())
            if not self.take(","):
                break
        self.expect(closing)
        return tuple(items)

    def separated(self, read: Callable[[], ItemT]) -> tuple[ItemT, ...]:
        """One or more items with commas between them."""
        items = [read()]
        while self.take(","):
            if self.at(END):
                break
            items.append(read())
        return tuple(items)

    def finish(self) -> None:
        """The line must end here."""
        if not self.at(END):
            raise Mistake(self.token.span, "Q111", f"`{self.token.text}` is not expected here")

    def opens_block(self) -> None:
        """The line must end with a colon here."""
        if not self.at(":"):
            raise self.wanted("`:`")
        colon = self.next()
        if not self.at(END):
            hint = "what belongs below stands on lines of its own, indented deeper"
            raise Mistake(Span(colon.end, self.line.span.end), "Q112", "nothing may follow the `:` on its line", hint)
