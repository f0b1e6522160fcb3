"""Expressions: each gets its type, and what does not fit is reported once."""

from __future__ import annotations

from typing import Final

from fluvial.suggestions import did_you_mean

from fluvial_aqua.checking.calls import CallChecker
from fluvial_aqua.checking.context import BodyContext
from fluvial_aqua.checking.operators import OperatorChecker
from fluvial_aqua.checking.tree import (
    CheckedExpression,
    CopyRecord,
    ElementOf,
    FieldOf,
    FunctionValue,
    LengthOf,
    LiteralValue,
    MakeCollection,
    ServiceValue,
    VariableRead,
    WellKnown,
)
from fluvial_aqua.checking.types import (
    BOTTOM,
    ERROR_RECORD,
    STRING,
    U32,
    U64,
    UNKNOWN,
    AbilityType,
    AquaType,
    ArrayType,
    DataType,
    OptionType,
    StreamMapType,
    StreamType,
    TopType,
    UnknownType,
    accepts,
    common_element,
    element_of,
    frozen_value,
    is_data,
    is_integer,
    literal_type,
    out_of_range,
    type_text,
)
from fluvial_aqua.folding import INTEGER_MAX, INTEGER_MIN
from fluvial_aqua.syntax.tree import (
    BinarySyntax,
    BrokenSyntax,
    CallSyntax,
    CollectionSyntax,
    CopySyntax,
    Expression,
    IndexSyntax,
    LiteralSyntax,
    MemberSyntax,
    NameSyntax,
    UnarySyntax,
)
from fluvial_aqua.text import Span

WELL_KNOWN: Final[dict[str, AquaType]] = {
    "INIT_PEER_ID": STRING,
    "HOST_PEER_ID": STRING,
    "PARTICLE_TTL": U32,
    "PARTICLE_TIMESTAMP": U64,
    "LAST_ERROR": ERROR_RECORD,
    "nil": OptionType(BOTTOM),
}
"""Names that are always there."""


class ExpressionChecker:
    """Checks the expressions of one body."""

    def __init__(self, context: BodyContext) -> None:
        self.context: Final = context
        self._calls = CallChecker(self)
        self._operators = OperatorChecker(self)

    def check(self, syntax: Expression) -> CheckedExpression:
        """The checked form of an expression that must be one value."""
        match syntax:
            case LiteralSyntax():
                return self._literal(syntax)
            case NameSyntax():
                return self._name(syntax)
            case CallSyntax():
                return self._calls.value(syntax)
            case MemberSyntax():
                return self._member(syntax)
            case CollectionSyntax():
                return self._collection(syntax)
            case CopySyntax():
                return self._copy(syntax)
            case IndexSyntax():
                return self._index(syntax)
            case UnarySyntax():
                return self._operators.negation(syntax)
            case BinarySyntax():
                return self._operators.operation(syntax)
            case BrokenSyntax():
                return self.unknown(syntax.span)
        raise AssertionError(f"no such expression: {syntax}")

    def call(self, syntax: Expression) -> tuple[CheckedExpression, tuple[AquaType, ...]]:
        """A call on a line of its own, with the types of all its results; other expressions have one."""
        if isinstance(syntax, CallSyntax):
            return self._calls.results(syntax)
        value = self.check(syntax)
        return value, (value.type,)

    def wanted(self, syntax: Expression, kind: AquaType, what: str) -> CheckedExpression:
        """An expression whose value must be of a type."""
        value = self.check(syntax)
        self.fits(value, kind, syntax.span, what)
        return value

    def fits(self, value: CheckedExpression, kind: AquaType, at: Span, what: str) -> bool:
        """Whether a value may stand where a type is wanted; says so if not."""
        if accepts(kind, value.type):
            if out_of_range(kind, value.type):
                shown = value.value if isinstance(value, LiteralValue) else "the number"
                self.context.warning(at, "Q901", f"{shown} is out of the range of `{type_text(kind)}`")
            return True
        hint = ""
        if isinstance(kind, OptionType) and accepts(kind.element, value.type):
            hint = "make an option of it: `?[value]`"
        elif isinstance(value.type, OptionType) and accepts(kind, value.type.element):
            hint = "take the value out of the option: `value!`"
        problem = f"{what} is `{type_text(kind)}`, this is `{type_text(value.type)}`"
        if type_text(kind) == type_text(value.type):
            problem = f"{what} is another `{type_text(kind)}`, with other fields"
        self.context.error(at, "Q401", problem, hint)
        return False

    def unknown(self, span: Span) -> CheckedExpression:
        """Stands for a value that was in error."""
        return LiteralValue(type=UNKNOWN, place=self.context.place(span), value=0)

    # --- names and literals -----------------------------------------------------------------------------------------

    def _literal(self, syntax: LiteralSyntax) -> CheckedExpression:
        value = syntax.value
        if type(value) is int and not INTEGER_MIN <= value <= INTEGER_MAX:
            hint = f"integers lie between {INTEGER_MIN} and {INTEGER_MAX}"
            self.context.error(syntax.span, "Q116", "the number does not fit 64 bits", hint)
            return self.unknown(syntax.span)
        return LiteralValue(type=literal_type(value), place=self.context.place(syntax.span), value=value)

    def _name(self, syntax: NameSyntax) -> CheckedExpression:
        found = self.lookup(syntax.name, syntax.span)
        if found is not None:
            return found
        context = self.context
        declared = context.module.find(syntax.name)
        if syntax.name in context.module.file.broken:
            return self.unknown(syntax.span)
        if declared is not None:
            problem = f"`{syntax.name}` is {_article(declared.kind)}, no value"
            context.error(syntax.span, "Q305", problem)
        else:
            names = [*context.scope.names(), *context.module.names, *WELL_KNOWN]
            hint = did_you_mean(syntax.name, names)
            context.error(syntax.span, "Q305", f"there is no `{syntax.name}` here", hint)
        return self.unknown(syntax.span)

    def lookup(self, name: str, span: Span) -> CheckedExpression | None:
        """The value of a name: constant, variable, function or service; None if there is no such value."""
        context, place = self.context, self.context.place(span)
        variable = context.scope.find(name)
        if variable is not None:
            variable.used = True
            context.mention(span, variable)
            return VariableRead(type=variable.type, place=place, variable=variable)
        declared = context.module.find(name)
        if declared is not None:
            context.mention(span, declared)
            if declared.kind == "constant":
                value = context.declarations.constant(declared)
                return LiteralValue(type=value.type, place=place, value=value.value)
            if declared.kind == "function":
                unit = context.declarations.function(declared)
                context.unit.calls.append(unit)
                return FunctionValue(type=unit.arrow, place=place, function=unit)
            if declared.kind == "service":
                service = context.declarations.service(declared)
                if service.id is None and not context.scope.has_id(service):
                    hint = f'set one: `{name} "id"`, or give it a default: `service {name}("id")`'
                    context.error(span, "Q306", f"the service `{name}` has no id here", hint)
                return ServiceValue(type=service.type, place=place, service=service)
        if name in WELL_KNOWN:
            return WellKnown(type=WELL_KNOWN[name], place=place, name=name)
        if name == "sender" and context.paper is not None:
            return WellKnown(type=STRING, place=place, name="INIT_PEER_ID")
        return None

    # --- parts ------------------------------------------------------------------------------------------------------

    def _member(self, syntax: MemberSyntax) -> CheckedExpression:
        in_space = self._calls.in_space(syntax)
        if in_space is not None:
            return in_space
        base = self.check(syntax.base)
        return self.field(base, syntax.name.text, syntax.name.span, syntax.span)

    def field(self, base: CheckedExpression, name: str, at: Span, span: Span) -> CheckedExpression:
        """``base.name``."""
        place = self.context.place(span)
        kind = base.type
        if name == "length" and element_of(kind) is not None and not isinstance(kind, UnknownType):
            return LengthOf(type=U32, place=place, base=base)
        if isinstance(kind, DataType | AbilityType):
            found = kind.field(name)
            if found is not None:
                return FieldOf(type=found, place=place, base=base, name=name)
            names = [field for field, _ in kind.fields]
            hint = did_you_mean(name, names) or f"it has {', '.join(f'`{one}`' for one in names) or 'no fields'}"
            self.context.error(at, "Q307", f"`{kind.name}` has no `{name}`", hint)
        elif isinstance(kind, UnknownType) or (self.context.paper is not None and isinstance(kind, TopType)):
            return FieldOf(type=UNKNOWN, place=place, base=base, name=name)
        else:
            hint = ""
            inner = element_of(kind)
            if isinstance(inner, DataType) and inner.field(name) is not None:
                hint = f"its elements have: write `[0].{name}`, or `!.{name}` for an option"
            self.context.error(at, "Q307", f"`{type_text(kind)}` has no field `{name}`", hint)
        return self.unknown(span)

    def _index(self, syntax: IndexSyntax) -> CheckedExpression:
        base = self.check(syntax.base)
        index = self.check(syntax.index)
        if not is_integer(index.type):
            problem = f"an index is an integer, this is `{type_text(index.type)}`"
            self.context.error(syntax.index.span, "Q402", problem)
        element = element_of(base.type)
        if element is None or isinstance(base.type, StreamMapType):
            problem = f"`{type_text(base.type)}` is no collection, it has no elements"
            self.context.error(syntax.base.span, "Q403", problem)
            return self.unknown(syntax.span)
        if isinstance(base.type, OptionType) and not syntax.bang:
            self.context.error(syntax.span, "Q403", "an option has no index", "take its value with `!`")
        return ElementOf(type=element, place=self.context.place(syntax.span), base=base, index=index)

    def _collection(self, syntax: CollectionSyntax) -> CheckedExpression:
        items = tuple(self.check(one) for one in syntax.items)
        for item, one in zip(items, syntax.items, strict=True):
            if not is_data(frozen_value(item.type)):
                problem = f"a collection cannot hold `{type_text(item.type)}`"
                self.context.error(one.span, "Q420", problem)
        element = common_element(item.type for item in items)
        kind: AquaType = {"[]": ArrayType, "?": OptionType, "*": StreamType}[syntax.sigil](element)
        return MakeCollection(type=kind, place=self.context.place(syntax.span), items=items)

    def _copy(self, syntax: CopySyntax) -> CheckedExpression:
        base = self.check(syntax.base)
        if not isinstance(base.type, DataType | AbilityType):
            if not isinstance(base.type, UnknownType):
                problem = f"`copy` is for records, this is `{type_text(base.type)}`"
                self.context.error(syntax.base.span, "Q404", problem)
            return self.unknown(syntax.span)
        fields = []
        for argument in syntax.arguments:
            name, value = self._calls.named(argument)
            wanted = base.type.field(name) if name else None
            if wanted is None:
                names = [field for field, _ in base.type.fields]
                hint = did_you_mean(name, names)
                self.context.error(argument.span, "Q307", f"`{base.type.name}` has no `{name}`", hint)
                continue
            self.fits(value, wanted, argument.value.span, f"`{name}`")
            fields.append((name, value))
        return CopyRecord(type=base.type, place=self.context.place(syntax.span), base=base, fields=tuple(fields))


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
