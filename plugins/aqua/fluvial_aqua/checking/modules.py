"""Files and what they give each other: imports, uses, what a module declares and exports."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from fluvial.suggestions import did_you_mean
from msgspec import Struct, field

from fluvial_aqua.diagnostics import DiagnosticCollector
from fluvial_aqua.syntax import parse
from fluvial_aqua.syntax.tree import (
    AbilitySyntax,
    AliasSyntax,
    AquaFile,
    ConstantSyntax,
    DataSyntax,
    Definition,
    FunctionSyntax,
    ImportSyntax,
    NameAs,
    ServiceSyntax,
)
from fluvial_aqua.text import AquaText, Span

FILES_MAX: Final = 1000
"""Files of one program."""

ReadFile = Callable[[str], str | None]
"""Gives the text of a file by its path, or None if there is none."""


class ImportTable(Struct, frozen=True):
    """Where imports are looked for that are not beside the importing file.

    Attributes:
        folders: searched one after the other for any import.
        mapping: by prefix of the importing file's path, then by prefix of the import: folders to put in place of that prefix.
    """

    folders: tuple[str, ...] = ()
    mapping: Mapping[str, Mapping[str, Sequence[str]]] = {}

    def candidates(self, importing: str, wanted: str) -> Iterator[str]:
        """Paths that an import may mean, in the order in which they are tried."""
        yield posixpath.normpath(posixpath.join(posixpath.dirname(importing), wanted))
        for prefix in sorted((one for one in self.mapping if importing.startswith(one)), key=len, reverse=True)[:1]:
            inner = self.mapping[prefix]
            for start in sorted((one for one in inner if wanted.startswith(one)), key=len, reverse=True):
                rest = wanted[len(start) :].lstrip("/")
                yield from (posixpath.normpath(posixpath.join(folder, rest)) for folder in inner[start])
        yield from (posixpath.normpath(posixpath.join(folder, wanted)) for folder in self.folders)


class Declared(Struct, eq=False):
    """A definition in its module; ``resolved`` holds what the checker made of it."""

    name: str
    syntax: Definition
    module: Module
    resolved: Any = None
    resolving: bool = False

    @property
    def kind(self) -> str:
        """What it is, for messages."""
        return _KINDS[type(self.syntax)]


_KINDS: Final[dict[type, str]] = {
    ConstantSyntax: "constant",
    AliasSyntax: "type",
    DataSyntax: "type",
    AbilitySyntax: "ability",
    ServiceSyntax: "service",
    FunctionSyntax: "function",
}


class Module(Struct, eq=False):
    """A file with all names that are known in it.

    Attributes:
        own: what it defines.
        names: what it defines and imports.
        spaces: modules that it uses, by the name it gives them.
        imported: names that came from elsewhere, and where the import stands.
        imports: the modules that it imports (not those that it uses).
        used: names that were asked for.
    """

    path: str
    source: AquaText
    file: AquaFile
    own: dict[str, Declared] = field(default_factory=dict)
    names: dict[str, Declared] = field(default_factory=dict)
    spaces: dict[str, dict[str, Declared]] = field(default_factory=dict)
    imported: dict[str, Span] = field(default_factory=dict)
    imports: list[Module] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def find(self, name: str) -> Declared | None:
        """What a name stands for in this file, which then counts as used."""
        self.used.add(name)
        return self.names.get(name)

    def given(self) -> dict[str, Declared]:
        """What other files get from it."""
        if self.file.declares is None:
            dotted = {f"{space}.{name}": what for space, inner in self.spaces.items() for name, what in inner.items()}
            return dotted | self.names
        given = {one.text: self.names[one.text] for one in self.file.declares if one.text in self.names}
        for one in self.file.declares:
            for space, inner in self.spaces_of(one.text).items():
                given |= {f"{space}.{name}": what for name, what in inner.items()}
        return given

    def spaces_of(self, name: str) -> dict[str, dict[str, Declared]]:
        """Used modules of a name, and those whose names begin with it and a dot."""
        return {space: inner for space, inner in self.spaces.items() if space == name or space.startswith(name + ".")}

    def add_to_space(self, space: str, given: Mapping[str, Declared]) -> None:
        """Make names known below the name of a used module; they may have dots themselves."""
        for name, declared in given.items():
            inner, _, last = name.rpartition(".")
            key = ".".join(part for part in (space, inner) if part)
            self.spaces.setdefault(key, {})[last] = declared


class ModuleLoader:
    """Reads a file and all that it imports.

    Args:
        read: gives texts by path.
        table: where imports are looked for.
        reporter: gets what is wrong.
    """

    def __init__(self, read: ReadFile, table: ImportTable, reporter: DiagnosticCollector) -> None:
        self._read = read
        self._table = table
        self._reporter = reporter
        self._loading: list[str] = []
        self.modules: Final[dict[str, Module]] = {}

    def load(self, path: str, text: str) -> Module:
        """The module of a file whose text is at hand, its imports loaded."""
        source = AquaText(path, text)
        self._reporter.sources[path] = source
        module = Module(path, source, parse(source, self._reporter))
        self.modules[path] = module
        self._loading.append(path)
        self._define(module)
        for one in module.file.imports:
            self._import(module, one)
        module.names |= module.own
        self._check_declares(module)
        self._loading.pop()
        return module

    def _define(self, module: Module) -> None:
        for definition in module.file.definitions:
            name = definition.name
            if name.text in module.own:
                first = module.own[name.text]
                line = module.source.line_column(first.syntax.name.span.start)[0]
                hint = f"the other one, a {first.kind}, is on line {line}"
                self._reporter.error(module.source, name.span, "Q301", f"`{name.text}` is defined twice", hint)
                continue
            module.own[name.text] = Declared(name.text, definition, module)

    def _import(self, module: Module, syntax: ImportSyntax) -> None:
        imported = self._found(module, syntax)
        if imported is None:
            return
        given = imported.given()
        if syntax.names is not None:
            given = self._picked(module, syntax.names, given, imported)
        elif not given and imported.file.declares == () and imported.file.definitions:
            hint = f"begin it with `aqua {imported.file.module or 'Name'} declares *`"
            problem = f"`{syntax.file}` declares nothing, so nothing is imported from it"
            self._reporter.warning(module.source, syntax.file_span, "Q909", problem, hint)
        if syntax.use:
            space = syntax.module.text if syntax.module is not None else imported.file.module
            module.add_to_space(space or "", given)
            return
        module.imports.append(imported)
        for name, declared in given.items():
            if "." in name:
                module.add_to_space("", {name: declared})
                continue
            other = module.own.get(name)
            if other is not None and other is not declared and not _same(other, declared):
                problem = f"`{name}` is also imported from `{syntax.file}`; the one defined here is used"
                self._reporter.warning(module.source, other.syntax.name.span, "Q908", problem)
            module.names.setdefault(name, declared)
            module.imported.setdefault(name, syntax.span)

    def _picked(
        self, module: Module, names: Sequence[NameAs], given: dict[str, Declared], imported: Module
    ) -> dict[str, Declared]:
        picked = {}
        for one in names:
            name = ".".join(one.path)
            target = one.alias.text if one.alias is not None else one.path[-1]
            if name in given:
                picked[target] = given[name]
                continue
            inner = {key[len(name) + 1 :]: what for key, what in given.items() if key.startswith(name + ".")}
            if inner:
                picked |= {f"{target}.{key}": what for key, what in inner.items()}
                continue
            hint = did_you_mean(name, given) or (
                "it is defined there, but `declares` does not name it" if name in imported.own else ""
            )
            problem = f"`{imported.path}` declares no `{name}`"
            self._reporter.error(module.source, one.span, "Q203", problem, hint)
        return picked

    def _found(self, module: Module, syntax: ImportSyntax) -> Module | None:
        wanted = syntax.file if syntax.file.endswith(".aqua") else f"{syntax.file}.aqua"
        tried = []
        for path in self._table.candidates(module.path, wanted):
            if path in self._loading:
                cycle = " → ".join((*self._loading[self._loading.index(path) :], path))
                problem = "files import each other in a circle"
                self._reporter.error(module.source, syntax.file_span, "Q202", problem, cycle)
                return None
            if path in self.modules:
                return self.modules[path]
            tried.append(path)
            if (text := self._read(path)) is not None:
                if len(self.modules) >= FILES_MAX:
                    problem = f"the program has more than {FILES_MAX} files"
                    self._reporter.error(module.source, syntax.file_span, "Q204", problem)
                    return None
                return self.load(path, text)
        hint = f"looked for {', '.join(tried)}" if tried else ""
        problem = f"there is no file `{syntax.file}`"
        self._reporter.error(module.source, syntax.file_span, "Q201", problem, hint)
        return None

    def _check_declares(self, module: Module) -> None:
        for one in module.file.declares or ():
            if one.text not in module.names and not module.spaces_of(one.text):
                hint = did_you_mean(one.text, module.names)
                problem = f"the module declares `{one.text}`, which is not there"
                self._reporter.error(module.source, one.span, "Q205", problem, hint)


def _same(one: Declared, other: Declared) -> bool:
    """Whether two definitions are word for word the same, which is no conflict."""

    def words(declared: Declared) -> list[str]:
        span = declared.syntax.span
        return declared.module.source.text[span.start : span.end].split()

    return type(one.syntax) is type(other.syntax) and words(one) == words(other)
