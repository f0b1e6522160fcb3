"""The compiler as a whole: Aqua text to checked programs, and functions of these to AIR."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import msgspec
from msgspec import Struct

from fluvial_aqua.air import AirNode, SourceLine, print_air
from fluvial_aqua.checking.context import PaperOptions
from fluvial_aqua.checking.modules import ImportTable, ReadFile
from fluvial_aqua.checking.program import Program, ProgramChecker
from fluvial_aqua.checking.tree import FunctionUnit
from fluvial_aqua.checking.types import ArrowType, arrow_text
from fluvial_aqua.diagnostics import AquaError, Diagnostic, DiagnosticCollector
from fluvial_aqua.model.emitter import ProgramTooLarge
from fluvial_aqua.model.lowering import LoweredFunction, Surround, lower
from fluvial_aqua.text import AquaText
from fluvial_aqua.topology.placement import place

RECURSION_MAX: Final = 30_000
"""Frames for trees as deep as the limits of blocks, expressions and calls allow."""


class CompilerOptions(Struct, frozen=True):
    """How programs are compiled.

    Attributes:
        surround: what is put around a function's body.
        imports: where imports are looked for.
        constants: values for ``?=`` constants.
        paper: services that scripts of the paper dialect leave open.
    """

    surround: Surround = Surround()
    imports: ImportTable = ImportTable()
    constants: Mapping[str, bool | int | float | str] = {}
    paper: PaperOptions = PaperOptions()


class CompiledFunction(Struct, frozen=True):
    """An exported function.

    Attributes:
        name: under which it is exported.
        arrow: its type.
        air: the script.
        source_map: the Aqua text behind lines of the script.
    """

    name: str
    arrow: ArrowType
    air: str
    source_map: tuple[SourceLine, ...]

    @property
    def signature(self) -> str:
        """Its type as text, records spelt out."""
        return signature_text(self.name, self.arrow)

    def source_of(self, air_line: int) -> SourceLine | None:
        """Where a line of the script comes from: its own place, or that of the nearest line above it."""
        found = None
        for one in self.source_map:
            if one.air_line > air_line:
                break
            found = one
        return found


class Compilation:
    """A program that was checked; its functions can be compiled.

    Args:
        program: the program.
        reporter: what was found in it.
        options: how to compile.
    """

    def __init__(self, program: Program, reporter: DiagnosticCollector, options: CompilerOptions) -> None:
        self.program: Final = program
        self._reporter = reporter
        self._options = options

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self._reporter.failed

    @property
    def diagnostics(self) -> list[Diagnostic]:
        """Errors and warnings, by file and place."""
        return self._reporter.all()

    @property
    def sources(self) -> dict[str, AquaText]:
        """The texts of all files, by name."""
        return self._reporter.sources

    def with_surround(self, surround: Surround) -> Compilation:
        """The same program, its functions compiled with something else around them."""
        options = msgspec.structs.replace(self._options, surround=surround)
        return Compilation(self.program, self._reporter, options)

    def require(self) -> None:
        """Refuse to go on if there is an error.

        Raises:
            AquaError: with all diagnostics.
        """
        if not self.ok:
            raise AquaError(self.diagnostics, self.sources)

    def lowered(self, name: str) -> LoweredFunction:
        """The instruction tree of an exported function.

        Raises:
            AquaError: it inlines to more than the compiler takes.
        """
        unit = self._exported(name)
        with deep_recursion():
            try:
                return lower(unit, self._options.surround, paper=self.program.module.file.paper)
            except ProgramTooLarge as error:
                where = unit.place
                hint = "calls are replaced by bodies: a function that calls another twice has it twice in it"
                self._reporter.error(where.source, where.span, "Q501", f"`{unit.name}`: {error}", hint)
                raise AquaError(self.diagnostics, self.sources) from error

    def function(self, name: str) -> CompiledFunction:
        """Compile an exported function.

        Raises:
            AquaError: the program has errors, or exports no such function.
        """
        text, lines = print_air(self.placed(name))
        return CompiledFunction(name, self._exported(name).arrow, text, tuple(lines))

    def placed(self, name: str) -> AirNode:
        """The AIR of an exported function as a tree.

        Raises:
            AquaError: the program has errors, or exports no such function.
        """
        self.require()
        lowered = self.lowered(name)
        with deep_recursion():
            return place(lowered.body, lowered.home)

    def functions(self) -> list[CompiledFunction]:
        """Compile all exported functions.

        Raises:
            AquaError: the program has errors.
        """
        self.require()
        return [self.function(name) for name in self.program.exports]

    def _exported(self, name: str) -> FunctionUnit:
        if name not in self.program.exports:
            there = ", ".join(f"`{one}`" for one in self.program.exports) or "nothing"
            module = self.program.module
            span = module.file.exports[0].span if module.file.exports else module.file.span
            self._reporter.error(
                module.source, span, "Q206", f"no function `{name}` is exported", f"it exports {there}"
            )
            raise AquaError(self.diagnostics, self.sources)
        return self.program.exports[name]


def compile_text(path: str, text: str, read: ReadFile, options: CompilerOptions | None = None) -> Compilation:
    """Check a program.

    Args:
        path: of its main file.
        text: of its main file.
        read: gives the texts of imported files.
        options: how to compile.
    """
    options = options or CompilerOptions()
    checker = ProgramChecker(read, table=options.imports, constants=options.constants, paper=options.paper)
    with deep_recursion():
        program = checker.check(path, text)
    return Compilation(program, checker.reporter, options)


def signature_text(name: str, arrow: ArrowType) -> str:
    """``func name(a: A) -> R``; a stream is an array to a host."""
    return f"func {name}{arrow_text(arrow, fields=True, names=True)}"


@contextmanager
def deep_recursion() -> Iterator[None]:
    """Let recursive descent go as deep as the compiler's own limits allow; the former limit is put back."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, RECURSION_MAX))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
