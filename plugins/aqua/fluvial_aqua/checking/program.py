"""A whole program: a file, its imports, every function checked, what it exports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fluvial.suggestions import did_you_mean
from msgspec import Struct

from fluvial_aqua.checking.bodies import BodyChecker
from fluvial_aqua.checking.context import BodyContext, PaperOptions
from fluvial_aqua.checking.declarations import Declarations
from fluvial_aqua.checking.modules import Declared, ImportTable, Module, ModuleLoader, ReadFile
from fluvial_aqua.checking.scopes import NameScope
from fluvial_aqua.checking.tree import FunctionUnit, Variable
from fluvial_aqua.checking.types import AbilityType, ArrowType, StreamType, is_data, type_text
from fluvial_aqua.diagnostics import DiagnosticCollector
from fluvial_aqua.syntax.tree import AbilitySyntax, AliasSyntax, DataSyntax, FunctionSyntax, NameAs
from fluvial_aqua.text import Span


class Program(Struct, eq=False):
    """A checked program.

    Attributes:
        module: the main file.
        exports: its functions by the names under which they are exported.
        modules: all files, by path.
        declarations: what definitions mean.
        variables: every variable of the main file's bodies.
    """

    module: Module
    exports: dict[str, FunctionUnit]
    modules: dict[str, Module]
    declarations: Declarations
    variables: list[Variable]


class ProgramChecker:
    """Checks programs.

    Args:
        read: gives files by path.
        table: where imports are looked for.
        constants: values for constants from outside.
        paper: options of the paper dialect.
    """

    def __init__(
        self,
        read: ReadFile,
        *,
        table: ImportTable | None = None,
        constants: Mapping[str, bool | int | float | str] | None = None,
        paper: PaperOptions | None = None,
    ) -> None:
        self.reporter: Final = DiagnosticCollector()
        self._loader = ModuleLoader(read, table or ImportTable(), self.reporter)
        self._declarations = Declarations(self.reporter, constants or {})
        self._paper = paper or PaperOptions()

    def check(self, path: str, text: str) -> Program:
        """The checked program of a file; what is wrong is in the reporter."""
        module = self._loader.load(path, text)
        variables: list[Variable] = []
        for one in self._loader.modules.values():
            variables += self._bodies(one) if one is module else self._bodies(one)[:0]
        self._find_recursion()
        exports = self._all_exports(module)
        self._unused(module, variables)
        return Program(module, exports, self._loader.modules, self._declarations, variables)

    def _bodies(self, module: Module) -> list[Variable]:
        """Check all definitions of a module."""
        variables: list[Variable] = []
        for declared in module.own.values():
            syntax = declared.syntax
            self._declarations.mention(module, syntax.name.span, declared)
            if isinstance(syntax, FunctionSyntax):
                unit = self._declarations.function(declared)
                context = BodyContext(
                    module=module,
                    declarations=self._declarations,
                    unit=unit,
                    scope=NameScope(),
                    declared=[],
                    paper=self._paper if syntax.paper else None,
                    position=syntax.span.start,
                )
                BodyChecker(context).function(syntax.body, syntax.span)
                variables += context.declared
            elif isinstance(syntax, AliasSyntax | DataSyntax | AbilitySyntax):
                self._declarations.declared_type(declared, module, syntax.name.span)
            elif declared.kind == "service":
                self._declarations.service(declared)
            else:
                self._declarations.constant(declared)
        return variables

    def _find_recursion(self) -> None:
        """Functions cannot call themselves, since calls are replaced by bodies; find circles, and say each once."""
        done: set[FunctionUnit] = set()
        for module in self._loader.modules.values():
            for declared in module.own.values():
                if isinstance(declared.resolved, FunctionUnit):
                    self._visit(declared.resolved, done)

    def _visit(self, root: FunctionUnit, done: set[FunctionUnit]) -> None:
        stack = [(root, iter(root.calls))]
        path = {root: None}
        while stack:
            unit, calls = stack[-1]
            following = next(calls, None)
            if following is None:
                done.add(unit)
                path.pop(unit)
                stack.pop()
            elif following in path:
                names = [one.name for one in path]
                circle = [*names[list(path).index(following) :], following.name]
                problem = f"`{following.name}` calls itself"
                hint = f"{' → '.join(circle)}; a call is replaced by the body of the function, which would never end"
                place = following.place
                self.reporter.error(place.source, place.span, "Q311", problem, hint)
                for one in path:
                    one.valid = False
                done.add(following)
            elif following not in done:
                path[following] = None
                stack.append((following, iter(following.calls)))

    # --- exports ----------------------------------------------------------------------------------------------------

    def _all_exports(self, main: Module) -> dict[str, FunctionUnit]:
        """What the main file exports, and what the files that it imports do, as far as their names are free."""
        exports = self._exports(main)
        seen = {main.path}
        waiting = list(main.imports)
        while waiting:
            module = waiting.pop(0)
            if module.path not in seen:
                seen.add(module.path)
                waiting += module.imports
                exports = self._exports(module) | exports
        return exports

    def _exports(self, module: Module) -> dict[str, FunctionUnit]:
        exports: dict[str, FunctionUnit] = {}
        if module.file.paper:
            return {one.name: one.resolved for one in module.own.values() if isinstance(one.resolved, FunctionUnit)}
        for syntax in module.file.exports:
            for one in syntax.names:
                declared = self._exported(module, one)
                if declared is None:
                    continue
                name = Span(one.span.start, one.span.start + len(one.path[0]))
                self._declarations.mention(module, name, declared)
                unit = self._declarations.function(declared)
                if self._exportable(module, unit, one.span):
                    exports[one.alias.text if one.alias is not None else one.path[-1]] = unit
        return exports

    def _exported(self, module: Module, syntax: NameAs) -> Declared | None:
        name = ".".join(syntax.path)
        declared = module.find(name)
        if len(syntax.path) > 1:
            declared = module.spaces.get(".".join(syntax.path[:-1]), {}).get(syntax.path[-1])
        if declared is not None and declared.kind in ("service", "constant"):
            return None  # such exports mean something to other tools only
        if declared is None or declared.kind != "function":
            if name in module.file.broken:
                return None
            functions = [one for one, what in module.names.items() if what.kind == "function"]
            problem = f"`{name}` is exported, and there is no such function"
            if declared is not None:
                problem = f"`{name}` is exported; it is a {declared.kind}, only functions are"
            self.reporter.error(module.source, syntax.span, "Q206", problem, did_you_mean(name, functions))
            return None
        return declared

    def _exportable(self, module: Module, unit: FunctionUnit, at: Span) -> bool:
        for name, kind in unit.arrow.parameters:
            if isinstance(kind, AbilityType) or (isinstance(kind, ArrowType) and not _plain(kind)):
                problem = f"`{unit.name}` cannot be exported: `{name}` is `{type_text(kind)}`"
                self.reporter.error(module.source, at, "Q207", problem, "a host can give data and callbacks of data")
                return False
        for kind in unit.arrow.results:
            if isinstance(kind, AbilityType | ArrowType):
                problem = f"`{unit.name}` cannot be exported: it returns `{type_text(kind)}`"
                self.reporter.error(module.source, at, "Q207", problem, "a host can be given data only")
                return False
        return True

    # --- what is not used -------------------------------------------------------------------------------------------

    def _unused(self, module: Module, variables: list[Variable]) -> None:
        for one in variables:
            if one.used or one.place.source is not module.source:
                continue
            what = {"parameter": "parameter", "stream": "stream", "closure": "function"}.get(one.role, "name")
            self.reporter.warning(one.place.source, one.place.span, "Q906", f"the {what} `{one.name}` is not used")
        if module.file.declares != ():
            return  # what it imports it gives on
        for syntax in module.file.imports:
            names = [name for name, span in module.imported.items() if span == syntax.span]
            if names and not any(name in module.used for name in names):
                problem = "nothing of this import is used"
                self.reporter.warning(module.source, syntax.span, "Q907", problem)


def _plain(arrow: ArrowType) -> bool:
    """Whether a callback has data only as parameters and results, and one result at most."""
    given = all(is_data(kind) or isinstance(kind, StreamType) for _, kind in arrow.parameters)
    return given and all(is_data(kind) for kind in arrow.results) and len(arrow.results) <= 1
