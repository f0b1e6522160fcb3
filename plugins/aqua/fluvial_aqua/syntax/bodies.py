"""Bodies of functions: recursive descent over lines. A line that cannot be read is reported, and the next one is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from fluvial_aqua.diagnostics import DiagnosticCollector
from fluvial_aqua.syntax.cursor import Cursor, Mistake, stray_lines
from fluvial_aqua.syntax.expressions import read_expression
from fluvial_aqua.syntax.layout import Line
from fluvial_aqua.syntax.tokens import CLASS, END, INTEGER, NAME, SPECIAL, STRING
from fluvial_aqua.syntax.tree import (
    BindLine,
    BlockSyntax,
    BodyLine,
    BrokenLine,
    CallLine,
    CallSyntax,
    CatchSyntax,
    ClosureLine,
    CoLine,
    DeclareLine,
    Expression,
    ForBlock,
    Identifier,
    IfBlock,
    JoinLine,
    OnBlock,
    ParBlock,
    ParseqBlock,
    PushLine,
    ReturnLine,
    ServiceLine,
    TakeApartLine,
    TryBlock,
)
from fluvial_aqua.syntax.types import read_signature, read_type
from fluvial_aqua.text import AquaText, Span

_MODES: Final = ("par", "try", "rec")
_NOT_KEYWORD_BEFORE: Final = ("=", "<-", "<<-", ",", ".", "[", "(")
_PARALLEL: Final = ("on", "for", "join", "parseq")
"""Words that may follow ``par`` and ``co``."""


class BodyReader:
    """Reads the lines of bodies.

    Args:
        source: the file.
        reporter: gets what is wrong.
    """

    def __init__(self, source: AquaText, reporter: DiagnosticCollector) -> None:
        self._source = source
        self._reporter = reporter
        self._blocks: dict[str, Callable[[Cursor], BodyLine]] = {
            "on": self._on,
            "for": self._for,
            "parseq": self._parseq,
            "if": self._if,
            "try": self._try,
            "co": self._co,
            "join": self._join,
        }

    def block(self, opener: Line, *, lines: Sequence[Line] | None = None) -> BlockSyntax:
        """The block below a line."""
        children = opener.children if lines is None else lines
        if not children:
            hint = "put at least one line below it, indented deeper"
            self._report(Mistake(opener.span, "Q120", "the block has no body", hint))
        read: list[BodyLine] = []
        index = 0
        while index < len(children):
            line = children[index]
            index += 1
            if line.stray is not None:
                children = [*children[:index], *line.children, *children[index:]]
            try:
                if _is_bar(line):
                    raise Mistake(line.span, "Q121", "`|` without a `par:` block before it")
                if line.broken:
                    read.append(_broken(line))
                    continue
                cursor = Cursor(line)
                if _is_word(cursor, "par") and cursor.ahead().kind == ":" and cursor.ahead(2).kind == END:
                    bars = []
                    while index < len(children) and _is_bar(children[index]):
                        bars.append(children[index])
                        index += 1
                    read.append(self._par_block(line, bars))
                else:
                    self._line(cursor, read)
                if line.stray is not None:
                    raise stray_lines(line.stray)
            except Mistake as mistake:
                self._report(mistake)
                read.append(_broken(line))
        span = children[0].span.to(_end(children[-1])) if children else opener.span
        return BlockSyntax(lines=tuple(read), span=span)

    def _report(self, mistake: Mistake) -> None:
        self._reporter.error(self._source, mistake.span, mistake.code, mistake.message, mistake.hint)

    def _line(self, cursor: Cursor, read: list[BodyLine]) -> None:
        """Read one line; some belong to the one before."""
        if _is_word(cursor, "else"):
            self._else(cursor, read)
        elif _is_word(cursor, "catch") or _is_word(cursor, "otherwise"):
            self._handler(cursor, read)
        elif _is_word(cursor, "par"):
            start = cursor.next()
            branch = _as_block(self._parallel(cursor))
            if not read:
                raise Mistake(start.span, "Q122", "`par` has nothing before it to run beside")
            last = read[-1]
            if isinstance(last, ParBlock):
                last.branches = (*last.branches, branch)
                last.span = last.span.to(branch.span)
            else:
                read[-1] = ParBlock(branches=(_as_block(last), branch), span=last.span.to(branch.span))
        else:
            read.append(self._statement(cursor))

    def _statement(self, cursor: Cursor) -> BodyLine:
        line = cursor.line
        word = cursor.token.text
        if cursor.at(NAME) and word in self._blocks and _is_word(cursor, word):
            return self._blocks[word](cursor)
        if cursor.at("<-"):
            return self._return(cursor)
        if cursor.at("{"):
            return self._take_apart(cursor)
        if cursor.at(CLASS) and (service := _service_path(cursor)):
            value = read_expression(cursor)
            cursor.finish()
            return ServiceLine(service=service, value=value, span=line.span)
        if cursor.at(NAME, CLASS):
            following = cursor.ahead().kind
            if following in ("<-", ",", "<<-", "=", ":") or (following == "[" and cursor.ahead(2).kind == "]"):
                return self._named(cursor)
        return self._call(cursor, ())

    def _named(self, cursor: Cursor) -> BodyLine:
        """A line that begins with a name that it defines or fills."""
        start = cursor.token.span
        name = cursor.any_name("a name")
        if cursor.take(":"):
            kind = read_type(cursor)
            cursor.finish()
            return DeclareLine(name=name, type=kind, span=start.to(kind.span))
        if cursor.take("<<-"):
            values = cursor.separated(lambda: read_expression(cursor))
            cursor.finish()
            return PushLine(stream=name, values=values, span=cursor.line.span)
        if cursor.take("="):
            return self._binding(cursor, name)
        if cursor.take("["):
            cursor.expect("]")
            cursor.expect("<-")
            return self._call(cursor, (name,), gather=True)
        names = [name]
        while cursor.take(","):
            names.append(cursor.any_name("a name"))
        cursor.expect("<-")
        return self._call(cursor, tuple(names))

    def _call(self, cursor: Cursor, targets: tuple[Identifier, ...], *, gather: bool = False) -> CallLine:
        value = read_expression(cursor)
        cursor.finish()
        if not targets and not isinstance(value, CallSyntax):
            hint = "a line of a body calls something, binds a name, or begins a block"
            raise Mistake(value.span, "Q123", "a value alone does nothing", hint)
        return CallLine(targets=targets, value=value, gather=gather, span=cursor.line.span)

    def _binding(self, cursor: Cursor, name: Identifier) -> BodyLine:
        opens = cursor.line.tokens[-1].kind == ":"
        anywhere = cursor.at_word("func") and cursor.ahead().kind in ("(", "{")
        if opens and (anywhere or cursor.at("(", "{")):
            if anywhere:
                cursor.next()
            arrow = read_signature(cursor)
            cursor.opens_block()
            body = self.block(cursor.line)
            return ClosureLine(
                name=name, arrow=arrow, anywhere=anywhere, body=body, span=cursor.line.span.to(body.span)
            )
        value = read_expression(cursor)
        cursor.finish()
        return BindLine(name=name, value=value, span=cursor.line.span)

    def _take_apart(self, cursor: Cursor) -> TakeApartLine:
        cursor.expect("{")
        fields = cursor.listed(lambda: cursor.identifier("the name of a field"), "}")
        cursor.expect("<-")
        value = read_expression(cursor)
        cursor.finish()
        return TakeApartLine(fields=fields, value=value, span=cursor.line.span)

    def _return(self, cursor: Cursor) -> ReturnLine:
        cursor.expect("<-")
        values = cursor.separated(lambda: read_expression(cursor))
        cursor.finish()
        return ReturnLine(values=values, span=cursor.line.span)

    def _join(self, cursor: Cursor) -> JoinLine:
        start = cursor.next().span
        values = cursor.separated(lambda: read_expression(cursor))
        cursor.finish()
        return JoinLine(values=values, span=start.to(cursor.before.span))

    def _on(self, cursor: Cursor) -> OnBlock:
        start = cursor.next().span
        peer = read_expression(cursor)
        relays: list[Expression] = []
        while cursor.take_word("via"):
            relays.append(read_expression(cursor))
        cursor.opens_block()
        body = self.block(cursor.line)
        return OnBlock(peer=peer, relays=tuple(relays), body=body, span=start.to(body.span))

    def _for(self, cursor: Cursor) -> ForBlock:
        start = cursor.next().span
        mode = ""
        if cursor.at_word(*_MODES) and cursor.ahead().kind == NAME:
            mode = cursor.next().text
        names = [cursor.identifier("the name of the loop's variable")]
        if cursor.take(","):
            names.append(cursor.identifier("the name of the loop's second variable"))
        cursor.expect("<-")
        iterable = read_expression(cursor)
        if not mode and cursor.at_word(*_MODES):
            mode = cursor.next().text
        condition = read_expression(cursor) if cursor.take_word("if") else None
        cursor.opens_block()
        body = self.block(cursor.line)
        span = start.to(body.span)
        return ForBlock(names=tuple(names), iterable=iterable, mode=mode, condition=condition, body=body, span=span)

    def _parseq(self, cursor: Cursor) -> ParseqBlock:
        start = cursor.next().span
        name = cursor.identifier("the name of the loop's variable")
        cursor.expect("<-")
        iterable = read_expression(cursor)
        if not cursor.at_word("on"):
            raise cursor.wanted("`on` and the peer of each branch")
        on = self._on(cursor)
        return ParseqBlock(name=name, iterable=iterable, on=on, span=start.to(on.span))

    def _if(self, cursor: Cursor) -> IfBlock:
        start = cursor.next().span
        condition = read_expression(cursor)
        cursor.opens_block()
        body = self.block(cursor.line)
        return IfBlock(condition=condition, then=body, span=start.to(body.span))

    def _else(self, cursor: Cursor, read: list[BodyLine]) -> None:
        word = cursor.next().span
        body: BlockSyntax | None = None
        problem: Mistake | None = None
        try:
            cursor.opens_block()
        except Mistake as mistake:
            hint = "write `else:` and below it, indented, an `if` of its own" if _is_word(cursor, "if") else ""
            problem = Mistake(mistake.span, mistake.code, mistake.message, hint or mistake.hint)
        body = self.block(cursor.line)
        last = read[-1] if read else None
        if problem is not None:
            raise problem
        if not isinstance(last, IfBlock) or last.otherwise is not None:
            raise Mistake(word, "Q124", "`else` without an `if` before it")
        last.otherwise = body
        last.span = last.span.to(body.span)

    def _try(self, cursor: Cursor) -> TryBlock:
        start = cursor.next().span
        cursor.opens_block()
        body = self.block(cursor.line)
        return TryBlock(body=body, handlers=(), span=start.to(body.span))

    def _handler(self, cursor: Cursor, read: list[BodyLine]) -> None:
        word = cursor.next()
        name = cursor.identifier("the name of the error") if word.text == "catch" else None
        cursor.opens_block()
        body = self.block(cursor.line)
        handler = CatchSyntax(name=name, body=body, span=word.span.to(body.span))
        last = read[-1] if read else None
        if isinstance(last, TryBlock):
            last.handlers = (*last.handlers, handler)
            last.span = last.span.to(handler.span)
        elif word.text == "otherwise" and last is not None:
            read[-1] = TryBlock(body=_as_block(last), handlers=(handler,), span=last.span.to(handler.span))
        else:
            before = "a `try`" if word.text == "catch" else "anything"
            raise Mistake(word.span, "Q125", f"`{word.text}` without {before} before it")

    def _co(self, cursor: Cursor) -> CoLine:
        start = cursor.next().span
        body = _as_block(self._parallel(cursor))
        return CoLine(body=body, span=start.to(body.span))

    def _parallel(self, cursor: Cursor) -> BodyLine:
        """What stands behind ``par`` or ``co``."""
        if cursor.at(NAME) and cursor.token.text in ("if", "try") and _is_word(cursor, cursor.token.text):
            hint = "put it into a `par:` block"
            raise Mistake(cursor.token.span, "Q126", f"`{cursor.token.text}` cannot stand here", hint)
        inner = self._statement(cursor)
        if isinstance(inner, CallLine | OnBlock | ForBlock | JoinLine | ParseqBlock):
            return inner
        hint = f"{', '.join(_PARALLEL)} or a call can; put anything else into a `par:` block"
        raise Mistake(inner.span, "Q126", "this cannot run in parallel on one line", hint)

    def _par_block(self, opener: Line, bars: Sequence[Line]) -> ParBlock:
        branches = tuple(self.block(one) for one in (opener, *bars))
        return ParBlock(branches=branches, span=opener.span.to(branches[-1].span))


def _broken(line: Line) -> BrokenLine:
    """A line that cannot be read, with the names in front of its ``<-``, ``=`` or ``:``."""
    names = []
    for token, following in zip(line.tokens, line.tokens[1:], strict=False):
        if token.kind in (NAME, CLASS) and following.kind in (",", "<-", "=", ":"):
            names.append(Identifier(text=token.text, span=token.span))
        elif token.kind != ",":
            break
    last = {token.kind for token in line.tokens} & {"<-", "=", ":"}
    return BrokenLine(names=tuple(names) if last else (), span=line.span)


def _is_bar(line: Line) -> bool:
    return len(line.tokens) == 1 and line.tokens[0].kind == "|"


def _is_word(cursor: Cursor, word: str) -> bool:
    """Whether a word is a keyword here and no name."""
    return cursor.at_word(word) and (cursor.ahead().kind not in _NOT_KEYWORD_BEFORE or _spaced(cursor))


def _spaced(cursor: Cursor) -> bool:
    """Whether a bracket stands apart from the word before it, as in ``if (a && b):``."""
    following = cursor.ahead()
    return following.kind in ("(", "[") and following.start > cursor.token.end


def _as_block(line: BodyLine) -> BlockSyntax:
    return BlockSyntax(lines=(line,), span=line.span)


def _end(line: Line) -> Span:
    """Where a line and all below it end."""
    while line.children:
        line = line.children[-1]
    return line.span


def _service_path(cursor: Cursor) -> tuple[str, ...]:
    """Read ``Lib.Store`` if a value for its id follows, apart from it."""
    index = cursor.index
    path = [cursor.next().text]
    while cursor.at(".") and cursor.ahead().kind == CLASS:
        cursor.next()
        path.append(cursor.next().text)
    apart = cursor.token.start > cursor.before.end
    if cursor.at(STRING, NAME, CLASS, SPECIAL, INTEGER) or (cursor.at("(") and apart):
        return tuple(path)
    cursor.index = index
    return ()
