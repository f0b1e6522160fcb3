"""The language server: what editors ask, answered by an :class:`fluvial_aqua.editing.EditorView` of the text as it is now."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fluvial import __version__
from fluvial.errors import ConfigError
from lsprotocol import types as lsp
from pygls.exceptions import JsonRpcInvalidParams
from pygls.lsp.server import LanguageServer
from pygls.uris import from_fs_path, to_fs_path

from fluvial_aqua.checking.tree import TextPlace
from fluvial_aqua.compiler import Compilation, CompilerOptions, compile_text
from fluvial_aqua.diagnostics import AquaError, Diagnostic
from fluvial_aqua.editing import EditorView
from fluvial_aqua.files import read_file
from fluvial_aqua.formatting import format_text
from fluvial_aqua.text import AquaText, Span

_KINDS: Final = {
    "keyword": lsp.CompletionItemKind.Keyword,
    "function": lsp.CompletionItemKind.Function,
    "variable": lsp.CompletionItemKind.Variable,
    "field": lsp.CompletionItemKind.Field,
    "type": lsp.CompletionItemKind.Struct,
    "ability": lsp.CompletionItemKind.Interface,
    "service": lsp.CompletionItemKind.Module,
    "constant": lsp.CompletionItemKind.Constant,
}


class AquaServer:
    """One session with an editor.

    Args:
        options: how programs are checked.
    """

    def __init__(self, options: CompilerOptions) -> None:
        self._options = options
        self.server: Final = LanguageServer(
            "fluvial-aqua", __version__, text_document_sync_kind=lsp.TextDocumentSyncKind.Full
        )
        self._told: set[str] = set()
        for name in (lsp.TEXT_DOCUMENT_DID_OPEN, lsp.TEXT_DOCUMENT_DID_CHANGE, lsp.TEXT_DOCUMENT_DID_SAVE):
            self._answer(name, self._changed)
        self._answer(lsp.TEXT_DOCUMENT_HOVER, self._hover)
        self._answer(lsp.TEXT_DOCUMENT_DEFINITION, self._definition)
        self._answer(lsp.TEXT_DOCUMENT_REFERENCES, self._references)
        self._answer(lsp.TEXT_DOCUMENT_COMPLETION, self._complete, lsp.CompletionOptions(trigger_characters=["."]))
        self._answer(lsp.TEXT_DOCUMENT_RENAME, self._rename)
        self._answer(lsp.TEXT_DOCUMENT_FORMATTING, self._format)

    def _answer(self, name: str, method: Callable[[Any], Any], options: Any = None) -> None:
        """Register a method; pygls marks what it registers, and methods cannot be marked."""

        def answer(params: Any) -> Any:
            return method(params)

        self.server.feature(name, options)(answer)

    def _read(self, path: str) -> str | None:
        """A file as the editor has it, else as the disk has it."""
        documents = self.server.workspace.text_documents
        found = documents.get(from_fs_path(path) or "")
        try:
            return found.source if found is not None else read_file(path)
        except ConfigError:
            return None  # what cannot be read is not there, and the import is in error

    def _compilation(self, uri: str) -> tuple[Compilation, str]:
        path = to_fs_path(uri) or uri
        return compile_text(path, self._read(path) or "", self._read, self._options), path

    def _changed(self, params: lsp.DidOpenTextDocumentParams) -> None:
        """Tell what is wrong now, also in files where nothing is wrong any more."""
        compilation, path = self._compilation(params.text_document.uri)
        by_file: dict[str, list[lsp.Diagnostic]] = {one: [] for one in (*self._told, path)}
        for one in compilation.diagnostics:
            by_file.setdefault(one.file, []).append(_diagnostic(one, compilation.sources.get(one.file)))
        self._told = {file for file, found in by_file.items() if found}
        for file, found in by_file.items():
            told = lsp.PublishDiagnosticsParams(uri=from_fs_path(file) or file, diagnostics=found)
            self.server.text_document_publish_diagnostics(told)

    def _at(self, document: lsp.TextDocumentIdentifier, position: lsp.Position) -> tuple[EditorView, AquaText, int]:
        compilation, path = self._compilation(document.uri)
        source = compilation.sources[path]
        return EditorView(compilation), source, _offset(source, position)

    def _hover(self, params: lsp.HoverParams) -> lsp.Hover | None:
        view, source, offset = self._at(params.text_document, params.position)
        found = view.at(source.name, offset)
        if found is None:
            return None
        target, span = found
        shown = lsp.MarkupContent(lsp.MarkupKind.Markdown, f"```aqua\n{view.hover(target)}\n```")
        return lsp.Hover(shown, _range(source, span))

    def _definition(self, params: lsp.DefinitionParams) -> lsp.Location | None:
        view, source, offset = self._at(params.text_document, params.position)
        found = view.at(source.name, offset)
        return None if found is None else _location(view.definition(found[0]))

    def _references(self, params: lsp.ReferenceParams) -> list[lsp.Location]:
        view, source, offset = self._at(params.text_document, params.position)
        found = view.at(source.name, offset)
        return [] if found is None else [_location(place) for place in view.places(found[0])]

    def _complete(self, params: lsp.CompletionParams) -> list[lsp.CompletionItem]:
        view, source, offset = self._at(params.text_document, params.position)
        return [
            lsp.CompletionItem(label=one.text, kind=_KINDS[one.kind], detail=one.detail)
            for one in view.suggestions(source, offset)
        ]

    def _rename(self, params: lsp.RenameParams) -> lsp.WorkspaceEdit | None:
        view, source, offset = self._at(params.text_document, params.position)
        found = view.at(source.name, offset)
        if found is None:
            return None
        if problem := view.rename_problem(found[0], params.new_name):
            raise JsonRpcInvalidParams(problem)
        changes: dict[str, list[lsp.TextEdit]] = {}
        for place in view.places(found[0]):
            edit = lsp.TextEdit(_range(place.source, place.span), params.new_name)
            changes.setdefault(from_fs_path(place.source.name) or place.source.name, []).append(edit)
        return lsp.WorkspaceEdit(changes=changes)

    def _format(self, params: lsp.DocumentFormattingParams) -> list[lsp.TextEdit]:
        path = to_fs_path(params.text_document.uri) or params.text_document.uri
        source = AquaText(path, self._read(path) or "")
        try:
            text = format_text(path, source.text)
        except AquaError:
            return []  # the editor shows the errors already
        return [lsp.TextEdit(_range(source, Span(0, len(source.text))), text)]


def serve(options: CompilerOptions) -> None:
    """Serve an editor over stdin and stdout until it ends."""
    AquaServer(options).server.start_io()


def _position(source: AquaText, offset: int) -> lsp.Position:
    """Lines from 0, columns in UTF-16 units, as the protocol counts."""
    line, column = source.line_column(offset)
    before = source.text[offset - column + 1 : offset]
    return lsp.Position(line - 1, len(before.encode("utf-16-le")) // 2)


def _offset(source: AquaText, position: lsp.Position) -> int:
    start = source.offset(position.line + 1, 1)
    text = source.text[start : source.offset(position.line + 1, len(source.text) + 1)]
    return start + len(text.encode("utf-16-le")[: 2 * position.character].decode("utf-16-le", errors="ignore"))


def _range(source: AquaText, span: Span) -> lsp.Range:
    return lsp.Range(_position(source, span.start), _position(source, span.end))


def _location(place: TextPlace) -> lsp.Location:
    name = place.source.name
    return lsp.Location(from_fs_path(str(Path(name).absolute())) or name, _range(place.source, place.span))


def _diagnostic(one: Diagnostic, source: AquaText | None) -> lsp.Diagnostic:
    if source is None:
        around = lsp.Range(lsp.Position(0, 0), lsp.Position(0, 1))
    else:
        start, end = source.offset(one.line, one.column), source.offset(one.end_line, one.end_column)
        around = _range(source, Span(start, end))
    severity = lsp.DiagnosticSeverity.Error if one.severity == "error" else lsp.DiagnosticSeverity.Warning
    text = f"{one.message}\n{one.hint}" if one.hint else one.message
    return lsp.Diagnostic(around, text, severity=severity, code=one.code, source="aqua")
