"""The syntax tree: what stands in the text, each node with its exact range, nothing looked up yet."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from fluvial_aqua.text import Span


class Syntax(Struct, eq=False, kw_only=True):
    """What all nodes have."""

    span: Span


class Identifier(Syntax):
    """A name with its place."""

    text: str


# --- types ----------------------------------------------------------------------------------------------------------


class NamedType(Syntax):
    """A scalar, or the name of a declared type; ``path`` has more than one part for types of used modules."""

    path: tuple[str, ...]


class CollectionType(Syntax):
    """``[]T``, ``?T``, ``*T`` or ``%T``."""

    sigil: str
    element: TypeSyntax


class ArrowSyntax(Syntax):
    """The type of a function: ``{Ability}(a: A, b: B) -> R, S``; parameters may have no names."""

    abilities: tuple[NamedType, ...] = ()
    parameters: tuple[ParameterSyntax, ...] = ()
    results: tuple[TypeSyntax, ...] = ()


class ParameterSyntax(Syntax):
    """A parameter; without a type, in the paper dialect only, it may be anything."""

    name: Identifier | None
    type: TypeSyntax | None


TypeSyntax: TypeAlias = NamedType | CollectionType | ArrowSyntax


# --- expressions ----------------------------------------------------------------------------------------------------


class LiteralSyntax(Syntax):
    """``true``, ``-5``, ``1.5``, ``"text"``; ``kind`` is ``bool``, ``integer``, ``decimal`` or ``string``."""

    kind: str
    value: bool | int | float | str


class NameSyntax(Syntax):
    """A name that stands for a value, function, service or type."""

    name: str


class CollectionSyntax(Syntax):
    """``[a, b]``, ``?[a]`` or ``*[a]``."""

    sigil: str
    items: tuple[Expression, ...]


class ArgumentSyntax(Syntax):
    """A value in brackets behind a name, in constructors and copies with the name of its field."""

    name: Identifier | None
    value: Expression


class CallSyntax(Syntax):
    """``callee{abilities}(arguments)``; the callee is a name or a member. May turn out to build a record or ability."""

    callee: NameSyntax | MemberSyntax
    abilities: tuple[Expression, ...] = ()
    arguments: tuple[ArgumentSyntax, ...] = ()


class MemberSyntax(Syntax):
    """``value.name``."""

    base: Expression
    name: Identifier


class CopySyntax(Syntax):
    """``value.copy(field = v)``."""

    base: Expression
    arguments: tuple[ArgumentSyntax, ...]


class IndexSyntax(Syntax):
    """``value[index]``, ``value!`` or ``value!3``; ``bang`` for the latter two."""

    base: Expression
    index: Expression
    bang: bool


class UnarySyntax(Syntax):
    """``!value``, also written ``not value``."""

    value: Expression


class BinarySyntax(Syntax):
    """``left operator right``."""

    operator: str
    left: Expression
    right: Expression


class BrokenSyntax(Syntax):
    """Where an expression should be and none could be read; has been reported."""


Expression: TypeAlias = (
    LiteralSyntax
    | NameSyntax
    | CollectionSyntax
    | CallSyntax
    | MemberSyntax
    | CopySyntax
    | IndexSyntax
    | UnarySyntax
    | BinarySyntax
    | BrokenSyntax
)


# --- body lines -----------------------------------------------------------------------------------------------------


class CallLine(Syntax):
    """``a, b <- call`` or a call alone; ``gather`` for ``acc[] <- call``."""

    targets: tuple[Identifier, ...]
    value: Expression
    gather: bool = False


class TakeApartLine(Syntax):
    """``{a, b} <- call``: fields of the result by name."""

    fields: tuple[Identifier, ...]
    value: Expression


class BindLine(Syntax):
    """``name = value``."""

    name: Identifier
    value: Expression


class ClosureLine(Syntax):
    """``name = (a: T) -> R:`` with a body; ``anywhere`` if ``func`` stands before the signature."""

    name: Identifier
    arrow: ArrowSyntax
    anywhere: bool
    body: BlockSyntax


class DeclareLine(Syntax):
    """``name : *T``."""

    name: Identifier
    type: TypeSyntax


class PushLine(Syntax):
    """``stream <<- value`` or ``map <<- key, value``."""

    stream: Identifier
    values: tuple[Expression, ...]


class ServiceLine(Syntax):
    """``Service "id"``: sets the service's id from here on."""

    service: tuple[str, ...]
    value: Expression


class ReturnLine(Syntax):
    """``<- a, b``."""

    values: tuple[Expression, ...]


class JoinLine(Syntax):
    """``join a, b``."""

    values: tuple[Expression, ...]


class OnBlock(Syntax):
    """``on peer via relay: …``."""

    peer: Expression
    relays: tuple[Expression, ...]
    body: BlockSyntax


class ForBlock(Syntax):
    """``for x <- xs par: …``; ``names`` are two for maps; ``mode`` is ``""``, ``par``, ``try`` or ``rec``."""

    names: tuple[Identifier, ...]
    iterable: Expression
    mode: str
    condition: Expression | None
    body: BlockSyntax


class ParseqBlock(Syntax):
    """``parseq x <- xs on x via r: …``; its body is one ``on``."""

    name: Identifier
    iterable: Expression
    on: OnBlock


class IfBlock(Syntax):
    """``if condition: …`` with ``else: …``; ``guard`` if, in the paper dialect, what follows belongs to the else."""

    condition: Expression
    then: BlockSyntax
    otherwise: BlockSyntax | None = None


class CatchSyntax(Syntax):
    """``catch e: …``, or ``otherwise: …`` without a name."""

    name: Identifier | None
    body: BlockSyntax


class TryBlock(Syntax):
    """``try: …`` or any instruction, and what follows if it fails."""

    body: BlockSyntax
    handlers: tuple[CatchSyntax, ...]


class ParBlock(Syntax):
    """Branches that run at the same time."""

    branches: tuple[BlockSyntax, ...]


class CoLine(Syntax):
    """``co X``: begins X and does not wait for it."""

    body: BlockSyntax


class BrokenLine(Syntax):
    """A line that could not be read; what it would have given a name has one all the same."""

    names: tuple[Identifier, ...]


BodyLine: TypeAlias = (
    BrokenLine
    | CallLine
    | TakeApartLine
    | BindLine
    | ClosureLine
    | DeclareLine
    | PushLine
    | ServiceLine
    | ReturnLine
    | JoinLine
    | OnBlock
    | ForBlock
    | ParseqBlock
    | IfBlock
    | TryBlock
    | ParBlock
    | CoLine
)


class BlockSyntax(Syntax):
    """Lines of equal indentation."""

    lines: tuple[BodyLine, ...]


# --- definitions ----------------------------------------------------------------------------------------------------


class ConstantSyntax(Syntax):
    """``const NAME = value``; ``weak`` for ``?=``."""

    name: Identifier
    value: Expression
    weak: bool


class AliasSyntax(Syntax):
    """``alias Name: type``."""

    name: Identifier
    type: TypeSyntax


class FieldSyntax(Syntax):
    """A field of a record or ability, or an arrow of a service or ability."""

    name: Identifier
    type: TypeSyntax


class DataSyntax(Syntax):
    """``data Name:`` with fields."""

    name: Identifier
    fields: tuple[FieldSyntax, ...]


class AbilitySyntax(Syntax):
    """``ability Name:`` with fields and arrows."""

    name: Identifier
    fields: tuple[FieldSyntax, ...]


class ServiceSyntax(Syntax):
    """``service Name("default id"):`` with arrows."""

    name: Identifier
    id: Expression | None
    arrows: tuple[FieldSyntax, ...]


class FunctionSyntax(Syntax):
    """``func name(…) -> …:`` with its body."""

    name: Identifier
    arrow: ArrowSyntax
    body: BlockSyntax
    paper: bool = False


Definition: TypeAlias = ConstantSyntax | AliasSyntax | DataSyntax | AbilitySyntax | ServiceSyntax | FunctionSyntax


# --- headers --------------------------------------------------------------------------------------------------------


class NameAs(Syntax):
    """``name as other`` in a header; names of used modules have dots."""

    path: tuple[str, ...]
    alias: Identifier | None


class ImportSyntax(Syntax):
    """``import "file"``, ``import a as b from "file"``, ``use "file" as M``, ``use a from "file" as M``."""

    file: str
    file_span: Span
    names: tuple[NameAs, ...] | None
    use: bool
    module: Identifier | None


class ExportSyntax(Syntax):
    """``export a, b as c``."""

    names: tuple[NameAs, ...]


class AquaFile(Syntax):
    """A whole file.

    Attributes:
        module: its name; None if it has no header, or is in the paper dialect.
        declares: what other files may import; None for everything.
        paper: whether the file is in the dialect of the white paper.
        broken: names of definitions that could not be read; what uses them is no mistake of its own.
    """

    module: str | None
    declares: tuple[Identifier, ...] | None
    imports: tuple[ImportSyntax, ...]
    exports: tuple[ExportSyntax, ...]
    definitions: tuple[Definition, ...]
    paper: bool = False
    broken: frozenset[str] = frozenset()
