"""Definitions to types, constants, services and signatures. Each is resolved when it is first asked for, so their order is free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from fluvial.suggestions import did_you_mean
from msgspec import Struct

from fluvial_aqua.checking.modules import Declared, Module
from fluvial_aqua.checking.tree import FunctionUnit, LiteralValue, ServiceUnit, TextPlace, Variable
from fluvial_aqua.checking.types import (
    BOTTOM,
    SCALARS,
    TOP,
    UNKNOWN,
    AbilityType,
    AquaType,
    ArrayType,
    ArrowType,
    DataType,
    OptionType,
    ScalarType,
    StreamMapType,
    StreamType,
    accepts,
    is_data,
    literal_type,
    type_text,
)
from fluvial_aqua.diagnostics import DiagnosticCollector
from fluvial_aqua.syntax.tree import (
    AbilitySyntax,
    AliasSyntax,
    ArrowSyntax,
    CollectionType,
    ConstantSyntax,
    DataSyntax,
    Expression,
    FieldSyntax,
    FunctionSyntax,
    LiteralSyntax,
    NamedType,
    NameSyntax,
    ServiceSyntax,
    TypeSyntax,
)
from fluvial_aqua.text import Span

COLLECTIONS: Final = {"[]": ArrayType, "?": OptionType, "*": StreamType, "%": StreamMapType}
OTHER_NAMES: Final = {
    "number": "a type as u32 or i64",
    "int": "i32 or i64",
    "float": "f64",
    "str": "string",
    "boolean": "bool",
    "String": "string",
}


class Mention(Struct, frozen=True):
    """A name in a text, and the variable or definition that it stands for; also where that is defined."""

    place: TextPlace
    target: Variable | Declared


class Declarations:
    """What definitions mean.

    Args:
        reporter: gets what is wrong.
        constants: values for constants from outside, by name.
    """

    def __init__(self, reporter: DiagnosticCollector, constants: Mapping[str, bool | int | float | str]) -> None:
        self.reporter: Final = reporter
        self.mentions: Final[list[Mention]] = []
        self._constants = constants

    def mention(self, module: Module, span: Span, target: Variable | Declared) -> None:
        """Remember that a name at a place stands for something."""
        self.mentions.append(Mention(TextPlace(module.source, span), target))

    # --- types ------------------------------------------------------------------------------------------------------

    def type_of(self, syntax: TypeSyntax, module: Module) -> AquaType:
        """The type that a piece of text names."""
        match syntax:
            case NamedType():
                return self._named(syntax, module)
            case ArrowSyntax():
                return self.arrow_of(syntax, module)
            case CollectionType():
                element = self.type_of(syntax.element, module)
                if isinstance(element, StreamType):
                    element = ArrayType(element.element)
                if not is_data(element):
                    problem = f"a collection cannot hold `{type_text(element)}`"
                    hint = "elements are scalars, records, arrays and options"
                    self.reporter.error(module.source, syntax.element.span, "Q420", problem, hint)
                    element = UNKNOWN
                kind: AquaType = COLLECTIONS[syntax.sigil](element)
                return kind
        raise AssertionError(f"no such type: {syntax}")

    def _named(self, syntax: NamedType, module: Module) -> AquaType:
        name = syntax.path[-1]
        if len(syntax.path) == 1:
            if name in SCALARS:
                return ScalarType(name)
            if name in ("⊤", "⊥"):
                return TOP if name == "⊤" else BOTTOM
            declared = module.find(name)
        else:
            space = ".".join(syntax.path[:-1])
            declared = module.spaces.get(space, {}).get(name)
        if declared is None or declared.kind not in ("type", "ability", "service"):
            shown = ".".join(syntax.path)
            if shown in module.file.broken:
                return UNKNOWN
            if declared is not None:
                problem, hint = f"`{shown}` is a {declared.kind}, no type", ""
            else:
                problem = f"there is no type `{shown}`"
                types = [one for one, what in module.names.items() if what.kind in ("type", "ability", "service")]
                hint = did_you_mean(shown, [*types, *SCALARS])
                if shown in OTHER_NAMES:
                    hint = f"Aqua calls it {OTHER_NAMES[shown]}"
            self.reporter.error(module.source, syntax.span, "Q302", problem, hint)
            return UNKNOWN
        self.mention(module, Span(syntax.span.end - len(name), syntax.span.end), declared)
        return self.declared_type(declared, module, syntax.span)

    def declared_type(self, declared: Declared, module: Module, at: Span) -> AquaType:
        """The type that a definition of a type, ability or service makes."""
        if declared.resolved is not None:
            resolved: AquaType = (
                declared.resolved.type if isinstance(declared.resolved, ServiceUnit) else declared.resolved
            )
            return resolved
        if declared.resolving:
            hint = "a type cannot contain itself"
            self.reporter.error(module.source, at, "Q303", f"`{declared.name}` is defined by itself", hint)
            return UNKNOWN
        declared.resolving = True
        syntax, own = declared.syntax, declared.module
        kind: AquaType
        if isinstance(syntax, AliasSyntax):
            kind = declared.resolved = self.type_of(syntax.type, own)
        elif isinstance(syntax, DataSyntax):
            kind = declared.resolved = DataType(declared.name, self._fields(syntax.fields, own, data=True))
        elif isinstance(syntax, AbilitySyntax):
            kind = declared.resolved = AbilityType(declared.name, self._fields(syntax.fields, own))
        else:
            kind = self.service(declared).type
        declared.resolving = False
        return kind

    def _fields(
        self, syntaxes: Sequence[FieldSyntax], module: Module, *, data: bool = False
    ) -> tuple[tuple[str, AquaType], ...]:
        fields: dict[str, AquaType] = {}
        for one in syntaxes:
            kind = self.type_of(one.type, module)
            if data and not is_data(kind):
                hint = "use `ability` for what has functions or streams in it"
                problem = f"a `data` cannot have a field of type `{type_text(kind)}`"
                self.reporter.error(module.source, one.type.span, "Q421", problem, hint)
                kind = UNKNOWN
            if one.name.text in fields:
                self.reporter.error(module.source, one.name.span, "Q301", f"`{one.name.text}` stands here twice")
                continue
            fields[one.name.text] = kind
        return tuple(fields.items())

    def arrow_of(self, syntax: ArrowSyntax, module: Module) -> ArrowType:
        """The type of a signature."""
        parameters: list[tuple[str, AquaType]] = []
        for ability in syntax.abilities:
            parameters.append((ability.path[-1], self._named(ability, module)))
        for one in syntax.parameters:
            name = one.name.text if one.name is not None else ""
            if name and any(name == other for other, _ in parameters):
                self.reporter.error(module.source, one.span, "Q301", f"there are two parameters `{name}`")
            parameters.append((name, self.type_of(one.type, module) if one.type is not None else TOP))
        results = tuple(self.type_of(one, module) for one in syntax.results)
        return ArrowType(tuple(parameters), results, len(syntax.abilities))

    # --- services, constants, functions -----------------------------------------------------------------------------

    def service(self, declared: Declared) -> ServiceUnit:
        """The service of a definition."""
        if isinstance(declared.resolved, ServiceUnit):
            return declared.resolved
        syntax, module = declared.syntax, declared.module
        assert isinstance(syntax, ServiceSyntax)
        arrows = self._fields(syntax.arrows, module)
        for one, (_, kind) in zip(syntax.arrows, arrows, strict=False):
            if not isinstance(kind, ArrowType):
                hint = "write `name(a: A) -> R`"
                self.reporter.error(module.source, one.span, "Q422", "a service has functions only", hint)
            elif len(kind.results) > 1:
                hint = "return a `data` with several fields"
                problem = "a service's function has one result at most"
                self.reporter.error(module.source, one.type.span, "Q423", problem, hint)
        kept = tuple((name, kind) for name, kind in arrows if isinstance(kind, ArrowType))
        place = TextPlace(module.source, syntax.name.span)
        unit = ServiceUnit(
            name=declared.name, type=AbilityType(declared.name, kept, service=True), place=place, id=None
        )
        declared.resolved = unit
        if syntax.id is not None:
            unit.id = self._constant_value(syntax.id, module, "the default id of a service")
            if not accepts(ScalarType("string"), unit.id.type):
                self.reporter.error(module.source, syntax.id.span, "Q401", "the id of a service is a string")
        return unit

    def constant(self, declared: Declared) -> LiteralValue:
        """The value of a constant."""
        if isinstance(declared.resolved, LiteralValue):
            return declared.resolved
        syntax, module = declared.syntax, declared.module
        assert isinstance(syntax, ConstantSyntax)
        place = TextPlace(module.source, syntax.value.span)
        if declared.resolving:
            problem = f"`{declared.name}` is defined by itself"
            self.reporter.error(module.source, syntax.span, "Q303", problem)
            return LiteralValue(type=UNKNOWN, place=place, value=0)
        declared.resolving = True
        value = self._constant_value(syntax.value, module, "a constant")
        if syntax.weak and declared.name in self._constants:
            given = self._constants[declared.name]
            kind = literal_type(given)
            if isinstance(given, bool | str) != isinstance(value.value, bool | str) or (
                isinstance(given, bool | str) and type(given) is not type(value.value)
            ):
                problem = f"`{declared.name}` was given from outside as {given!r}, its default is another type"
                self.reporter.error(module.source, syntax.span, "Q424", problem)
            value = LiteralValue(type=kind, place=place, value=given)
        declared.resolved = value
        declared.resolving = False
        return value

    def _constant_value(self, syntax: Expression, module: Module, what: str) -> LiteralValue:
        place = TextPlace(module.source, syntax.span)
        if isinstance(syntax, LiteralSyntax):
            return LiteralValue(type=literal_type(syntax.value), place=place, value=syntax.value)
        if isinstance(syntax, NameSyntax):
            other = module.find(syntax.name)
            if other is not None and other.kind == "constant":
                self.mention(module, syntax.span, other)
                return self.constant(other)
            names = [name for name, one in module.names.items() if one.kind == "constant"]
            problem = f"there is no constant `{syntax.name}`"
            self.reporter.error(module.source, syntax.span, "Q304", problem, did_you_mean(syntax.name, names))
        else:
            problem = f"{what} is a literal or another constant"
            self.reporter.error(module.source, syntax.span, "Q425", problem)
        return LiteralValue(type=UNKNOWN, place=place, value=0)

    def function(self, declared: Declared) -> FunctionUnit:
        """The function of a definition: its signature, its body being checked elsewhere."""
        if isinstance(declared.resolved, FunctionUnit):
            return declared.resolved
        syntax, module = declared.syntax, declared.module
        assert isinstance(syntax, FunctionSyntax)
        unit = self.unit(declared.name, syntax.arrow, module, syntax.name.span)
        declared.resolved = unit
        return unit

    def unit(self, name: str, syntax: ArrowSyntax, module: Module, at: Span) -> FunctionUnit:
        """A function or closure with its parameters."""
        arrow = self.arrow_of(syntax, module)
        spans = [one.span for one in syntax.abilities]
        spans += [one.name.span if one.name is not None else one.span for one in syntax.parameters]
        open_types = {one.name.text for one in syntax.parameters if one.type is None and one.name is not None}
        parameters = tuple(
            Variable(
                parameter, UNKNOWN if parameter in open_types else kind, TextPlace(module.source, span), "parameter"
            )
            for (parameter, kind), span in zip(arrow.parameters, spans, strict=True)
        )
        return FunctionUnit(name=name, arrow=arrow, place=TextPlace(module.source, at), parameters=parameters)
