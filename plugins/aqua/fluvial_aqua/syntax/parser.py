"""Whole files: headers and definitions."""

from __future__ import annotations

from typing import Final

from fluvial_aqua.diagnostics import DiagnosticCollector
from fluvial_aqua.syntax.bodies import BodyReader
from fluvial_aqua.syntax.cursor import Cursor, Mistake, stray_lines
from fluvial_aqua.syntax.expressions import read_expression
from fluvial_aqua.syntax.layout import Line, read_lines
from fluvial_aqua.syntax.tokens import CLASS, END, NAME, STRING
from fluvial_aqua.syntax.tree import (
    AbilitySyntax,
    AliasSyntax,
    AquaFile,
    ArrowSyntax,
    BlockSyntax,
    ConstantSyntax,
    DataSyntax,
    Definition,
    ExportSyntax,
    FieldSyntax,
    FunctionSyntax,
    Identifier,
    ImportSyntax,
    NameAs,
    ParameterSyntax,
    ServiceSyntax,
    TypeSyntax,
)
from fluvial_aqua.syntax.types import read_signature, read_type
from fluvial_aqua.text import AquaText, Span

_HEADERS: Final = ("import", "use", "export")
_DEFINITIONS: Final = ("const", "alias", "data", "ability", "service", "func")
PAPER_FUNCTION: Final = "main"
"""What the one function of a script in the paper dialect is called."""


def parse(source: AquaText, reporter: DiagnosticCollector) -> AquaFile:
    """The syntax tree of a file; what could not be read is reported and left out."""
    return _FileReader(source, reporter).read()


class _FileReader:
    def __init__(self, source: AquaText, reporter: DiagnosticCollector) -> None:
        self._source = source
        self._reporter = reporter
        self._bodies = BodyReader(source, reporter)
        self._imports: list[ImportSyntax] = []
        self._exports: list[ExportSyntax] = []
        self._definitions: list[Definition] = []
        self._broken: set[str] = set()

    def read(self) -> AquaFile:
        lines = read_lines(self._source, self._reporter)
        whole = Span(0, len(self._source.text))
        if lines and _starts(lines[0], "def"):
            self._paper(lines)
            return self._file(None, None, whole, paper=True)
        module: str | None = None
        declares: tuple[Identifier, ...] | None = ()
        if lines and (_starts(lines[0], "aqua") or _starts(lines[0], "module")):
            try:
                module, declares = self._header(Cursor(lines[0]))
            except Mistake as mistake:
                self._report(mistake)
            lines = lines[1:]
        else:
            hint = "begin the file with `aqua Name declares *`"
            at = lines[0].tokens[0].span if lines else Span(0, 0)
            self._report(Mistake(at, "Q130", "the file has no `aqua` header", hint))
        for line in lines:
            self._top(line)
        return self._file(module, declares, whole)

    def _file(
        self, module: str | None, declares: tuple[Identifier, ...] | None, span: Span, *, paper: bool = False
    ) -> AquaFile:
        return AquaFile(
            module=module,
            declares=declares,
            imports=tuple(self._imports),
            exports=tuple(self._exports),
            definitions=tuple(self._definitions),
            paper=paper,
            broken=frozenset(self._broken),
            span=span,
        )

    def _report(self, mistake: Mistake) -> None:
        self._reporter.error(self._source, mistake.span, mistake.code, mistake.message, mistake.hint)

    def _header(self, cursor: Cursor) -> tuple[str, tuple[Identifier, ...] | None]:
        word = cursor.next()
        if word.text == "module":
            hint = "the word is `aqua` now: `aqua Name declares *`"
            raise Mistake(word.span, "Q131", "`module` begins no file any more", hint)
        name = cursor.any_name("the module's name").text
        while cursor.take("."):
            name += "." + cursor.any_name("the rest of the module's name").text
        declares: tuple[Identifier, ...] | None = ()
        if cursor.take_word("declares"):
            if cursor.take("*"):
                declares = None
            else:
                declares = cursor.separated(lambda: cursor.any_name("a name that the module declares"))
        cursor.finish()
        return name, declares

    def _top(self, line: Line) -> None:
        cursor = Cursor(line)
        word = cursor.token.text
        if line.broken:
            self._broken.add(cursor.ahead().text)
            return
        try:
            if cursor.at(NAME) and word in _HEADERS:
                self._read_header(cursor)
            elif cursor.at(NAME) and word in _DEFINITIONS:
                self._definitions.append(self._definition(cursor))
            else:
                hint = f"a file has {', '.join((*_HEADERS, *_DEFINITIONS))}; other lines stand in bodies, indented"
                raise Mistake(line.tokens[0].span, "Q132", f"`{word}` begins no definition", hint)
            if line.stray is not None:
                raise stray_lines(line.stray)
        except Mistake as mistake:
            self._report(mistake)
            if word in _DEFINITIONS and len(line.tokens) > 1:
                self._broken.add(line.tokens[1].text)

    def _read_header(self, cursor: Cursor) -> None:
        word = cursor.token.text
        if self._definitions:
            hint = "move it above the first definition"
            self._report(Mistake(cursor.token.span, "Q133", f"`{word}` stands at the top of a file", hint))
        if word == "export":
            start = cursor.next().span
            names = cursor.separated(lambda: _name_as(cursor))
            cursor.finish()
            self._exports.append(ExportSyntax(names=names, span=start.to(cursor.before.span)))
        else:
            self._imports.append(_import(cursor))

    def _definition(self, cursor: Cursor) -> Definition:
        word = cursor.next().text
        if word == "const":
            return _constant(cursor)
        if word == "alias":
            name = cursor.identifier("the name of a type", CLASS)
            cursor.expect(":")
            kind = read_type(cursor)
            cursor.finish()
            return AliasSyntax(name=name, type=kind, span=cursor.line.span)
        if word == "func":
            return self._function(cursor)
        name = cursor.identifier(f"the name of the {word}", CLASS)
        if word == "service":
            default = None
            if cursor.take("("):
                default = read_expression(cursor)
                cursor.expect(")")
            cursor.opens_block()
            return ServiceSyntax(name=name, id=default, arrows=self._fields(cursor.line), span=cursor.line.span)
        cursor.opens_block()
        kind_of = DataSyntax if word == "data" else AbilitySyntax
        return kind_of(name=name, fields=self._fields(cursor.line), span=cursor.line.span)

    def _fields(self, opener: Line) -> tuple[FieldSyntax, ...]:
        """The lines below ``data``, ``ability`` or ``service``."""
        if not opener.children:
            self._report(Mistake(opener.span, "Q120", "the block has no body", "put at least one line below it"))
        fields = []
        for line in opener.children:
            if line.broken:
                continue
            cursor = Cursor(line)
            try:
                name = cursor.any_name("the name of a field or function")
                kind = read_signature(cursor) if cursor.at("(", "{") else _field_type(cursor)
                cursor.finish()
                if line.stray is not None:
                    raise stray_lines(line.stray)
            except Mistake as mistake:
                self._report(mistake)
            else:
                fields.append(FieldSyntax(name=name, type=kind, span=line.span))
        return tuple(fields)

    def _function(self, cursor: Cursor) -> FunctionSyntax:
        name = cursor.any_name("the function's name")
        arrow: ArrowSyntax
        try:
            arrow = read_signature(cursor)
            cursor.opens_block()
        except Mistake:
            # The body's own mistakes can be told all the same.
            self._bodies.block(cursor.line, lines=cursor.line.children)
            raise
        body = self._bodies.block(cursor.line)
        return FunctionSyntax(name=name, arrow=arrow, body=body, span=cursor.line.span.to(body.span))

    def _paper(self, lines: list[Line]) -> None:
        """A script in the dialect of the white paper: one function, and perhaps services and types beside it."""
        cursor = Cursor(lines[0])
        start = cursor.next().span
        parameters: tuple[ParameterSyntax, ...] = ()
        try:
            if not cursor.at(END):
                parameters = cursor.separated(lambda: _paper_parameter(cursor))
            cursor.finish()
        except Mistake as mistake:
            self._report(mistake)
        script = []
        for line in lines[1:]:
            first = line.tokens[0]
            if first.kind == NAME and first.text in (*_DEFINITIONS, *_HEADERS) and not _assigns(line):
                self._top(line)
            else:
                script.append(line)
        body = BlockSyntax(lines=(), span=lines[0].span)
        if script:
            body = self._bodies.block(lines[0], lines=script)
        arrow = ArrowSyntax(parameters=parameters, span=lines[0].span)
        name = Identifier(text=PAPER_FUNCTION, span=start)
        self._definitions.append(
            FunctionSyntax(name=name, arrow=arrow, body=body, paper=True, span=start.to(body.span))
        )


def _field_type(cursor: Cursor) -> TypeSyntax:
    cursor.expect(":", "`:` and a type, or `(` and parameters,")
    return read_type(cursor)


def _starts(line: Line, word: str) -> bool:
    first = line.tokens[0]
    return first.kind == NAME and first.text == word


def _assigns(line: Line) -> bool:
    return len(line.tokens) > 1 and line.tokens[1].kind in ("=", "<-", "<<-")


def _paper_parameter(cursor: Cursor) -> ParameterSyntax:
    name = cursor.identifier("the name of an argument")
    kind = read_type(cursor) if cursor.take(":") else None
    return ParameterSyntax(name=name, type=kind, span=name.span.to(cursor.before.span))


def _constant(cursor: Cursor) -> ConstantSyntax:
    name = cursor.identifier("the name of the constant", CLASS)
    if not name.text.isupper():
        hint = "capital letters, digits and `_`"
        raise Mistake(name.span, "Q134", f"`{name.text}` is no name for a constant", hint)
    weak = cursor.at("?=")
    if not weak:
        cursor.expect("=", "`=` or `?=`")
    else:
        cursor.next()
    value = read_expression(cursor)
    cursor.finish()
    return ConstantSyntax(name=name, value=value, weak=weak, span=cursor.line.span)


def _name_as(cursor: Cursor) -> NameAs:
    first = cursor.any_name("a name")
    path = [first.text]
    while cursor.take("."):
        path.append(cursor.any_name("a name").text)
    alias = cursor.any_name("the new name") if cursor.take_word("as") else None
    return NameAs(path=tuple(path), alias=alias, span=first.span.to(cursor.before.span))


def _import(cursor: Cursor) -> ImportSyntax:
    word = cursor.next()
    use = word.text == "use"
    names: tuple[NameAs, ...] | None = None
    if not cursor.at(STRING):
        names = cursor.separated(lambda: _name_as(cursor))
        if not cursor.take_word("from"):
            raise cursor.wanted("`from` and a file")
    file = cursor.expect(STRING, "a file's name in quotes")
    module = None
    if use and cursor.take_word("as"):
        module = cursor.any_name("the name to use it under")
    cursor.finish()
    return ImportSyntax(
        file=file.text[1:-1],
        file_span=file.span,
        names=names,
        use=use,
        module=module,
        span=word.span.to(cursor.before.span),
    )
