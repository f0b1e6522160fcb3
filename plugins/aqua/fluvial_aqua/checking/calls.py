"""Calls: of functions, closures, arrows of services and abilities, of used modules; and what looks like a call but builds something."""

from __future__ import annotations

from collections.abc import Sequence

from fluvial.suggestions import did_you_mean

from fluvial_aqua.checking.modules import Declared
from fluvial_aqua.checking.paper import remote_call
from fluvial_aqua.checking.parts import ExpressionRules
from fluvial_aqua.checking.tree import (
    CallExpression,
    CheckedExpression,
    FunctionValue,
    LiteralValue,
    MakeRecord,
    MapMethod,
    ServiceValue,
)
from fluvial_aqua.checking.types import (
    BOOL,
    STRING,
    UNKNOWN,
    AbilityType,
    AquaType,
    ArrayType,
    ArrowType,
    DataType,
    StreamMapType,
    StreamType,
    UnknownType,
    type_text,
)
from fluvial_aqua.syntax.tree import ArgumentSyntax, CallSyntax, Expression, MemberSyntax, NameSyntax
from fluvial_aqua.text import Span


class CallChecker:
    """Checks calls for an expression checker."""

    def __init__(self, expressions: ExpressionRules) -> None:
        self._expressions = expressions
        self._context = expressions.context

    def value(self, syntax: CallSyntax) -> CheckedExpression:
        """A call as a value: exactly one result."""
        call, results = self.results(syntax)
        if len(results) == 1:
            call.type = results[0]
            return call
        if results:
            problem = f"the call has {len(results)} results, one is wanted here"
            hint = "give them names first: `a, b <- …`"
        else:
            problem, hint = "the call returns nothing, a value is wanted here", ""
        self._context.error(syntax.span, "Q411", problem, hint)
        return self._expressions.unknown(syntax.span)

    def results(self, syntax: CallSyntax) -> tuple[CheckedExpression, tuple[AquaType, ...]]:
        """A call with the types of its results."""
        made = self._made(syntax)
        if made is not None:
            return made, (made.type,)
        if isinstance(syntax.callee, MemberSyntax) and self.in_space(syntax.callee, quiet=True) is None:
            special = self._on_value(syntax, syntax.callee)
            if special is not None:
                return special
        callee = self._callee(syntax)
        if isinstance(callee.type, ArrowType):
            arguments = self._arguments(syntax, callee.type)
            call = CallExpression(
                type=UNKNOWN,
                place=self._context.place(syntax.span),
                callee=callee,
                arrow=callee.type,
                arguments=arguments,
            )
            return call, callee.type.results
        if not isinstance(callee.type, UnknownType):
            self._context.error(syntax.callee.span, "Q410", f"`{type_text(callee.type)}` cannot be called")
        for argument in syntax.arguments:
            self._expressions.check(argument.value)
        return self._expressions.unknown(syntax.span), (UNKNOWN,)

    def in_space(self, syntax: MemberSyntax, *, quiet: bool = False) -> CheckedExpression | None:
        """``Lib.name`` if ``Lib`` is a used module: a constant, function or service of it."""
        declared = self._declared_in_space(syntax)
        if declared is None:
            return None
        self._context.mention(syntax.name.span, declared)
        place = self._context.place(syntax.span)
        declarations = self._context.declarations
        if declared.kind == "constant":
            constant = declarations.constant(declared)
            return LiteralValue(type=constant.type, place=place, value=constant.value)
        if declared.kind == "function":
            unit = declarations.function(declared)
            self._context.unit.calls.append(unit)
            return FunctionValue(type=unit.arrow, place=place, function=unit)
        if declared.kind == "service":
            service = declarations.service(declared)
            if service.id is None and not self._context.scope.has_id(service) and not quiet:
                problem = f"the service `{declared.name}` has no id here"
                self._context.error(syntax.span, "Q306", problem, f'set one: `{declared.name} "id"`')
            return ServiceValue(type=service.type, place=place, service=service)
        return None

    def _declared_in_space(self, syntax: MemberSyntax) -> Declared | None:
        path: list[str] = []
        base: Expression = syntax.base
        while isinstance(base, MemberSyntax):
            path.insert(0, base.name.text)
            base = base.base
        if not isinstance(base, NameSyntax) or self._context.scope.find(base.name) is not None:
            return None
        space = ".".join((base.name, *path))
        return self._context.module.spaces.get(space, {}).get(syntax.name.text)

    # --- building records and abilities -----------------------------------------------------------------------------

    def _made(self, syntax: CallSyntax) -> CheckedExpression | None:
        """A record or ability, if the callee is a type."""
        callee = syntax.callee
        if isinstance(callee, NameSyntax):
            if self._context.scope.find(callee.name) is not None:
                return None
            declared = self._context.module.find(callee.name)
        else:
            declared = self._declared_in_space(callee)
        if declared is None or declared.kind not in ("type", "ability"):
            return None
        at = callee.span if isinstance(callee, NameSyntax) else callee.name.span
        self._context.mention(at, declared)
        kind = self._context.declarations.declared_type(declared, self._context.module, callee.span)
        place = self._context.place(syntax.span)
        if not isinstance(kind, DataType | AbilityType):
            for argument in syntax.arguments:
                self._expressions.check(argument.value)
            if not isinstance(kind, UnknownType):
                problem = f"`{declared.name}` is `{type_text(kind)}`, which has no fields to build it from"
                self._context.error(callee.span, "Q412", problem)
            return self._expressions.unknown(syntax.span)
        fields: dict[str, CheckedExpression] = {}
        for argument in syntax.arguments:
            name, value = self.named(argument)
            wanted = kind.field(name) if name else None
            if name in fields:
                self._context.error(argument.span, "Q301", f"`{name}` stands here twice")
            elif wanted is not None:
                self._expressions.fits(value, wanted, argument.value.span, f"`{name}`")
                fields[name] = value
            elif name:
                hint = did_you_mean(name, [field for field, _ in kind.fields])
                self._context.warning(argument.span, "Q903", f"`{kind.name}` has no field `{name}`", hint)
                fields[name] = value
        missing = [field for field, _ in kind.fields if field not in fields]
        if missing:
            shown = ", ".join(f"`{one}`" for one in missing)
            self._context.error(syntax.span, "Q413", f"{shown} of `{kind.name}` is missing")
        return MakeRecord(type=kind, place=place, fields=tuple(fields.items()))

    def named(self, argument: ArgumentSyntax) -> tuple[str, CheckedExpression]:
        """The field and value of an argument: a bare name stands for itself."""
        value = self._expressions.check(argument.value)
        if argument.name is not None:
            return argument.name.text, value
        if isinstance(argument.value, NameSyntax):
            return argument.value.name, value
        self._context.error(argument.span, "Q414", "the field's name is missing", "write `field = value`")
        return "", value

    # --- callees ----------------------------------------------------------------------------------------------------

    def _callee(self, syntax: CallSyntax) -> CheckedExpression:
        callee = syntax.callee
        expressions = self._expressions
        if isinstance(callee, NameSyntax):
            found = expressions.lookup(callee.name, callee.span)
            if found is not None:
                return found
            if callee.name in self._context.module.file.broken:
                return expressions.unknown(callee.span)
            names = [*self._context.scope.names(), *self._context.module.names]
            hint = did_you_mean(callee.name, names)
            if callee.name == self._context.unit.name:
                hint = "a function cannot call itself"
            self._context.error(callee.span, "Q308", f"there is no function `{callee.name}` here", hint)
            return expressions.unknown(callee.span)
        return expressions.check(callee)

    def _on_value(
        self, syntax: CallSyntax, callee: MemberSyntax
    ) -> tuple[CheckedExpression, tuple[AquaType, ...]] | None:
        """Calls on values that are neither services nor abilities: methods of maps, and the paper's calls on places."""
        if self._context.paper is not None:
            remote = remote_call(self._expressions, syntax, callee)
            if remote is not None:
                return remote
        if callee.name.text not in ("get", "getStream", "keys", "keysStream", "contains"):
            return None
        if isinstance(callee.base, NameSyntax) and self._context.scope.find(callee.base.name) is None:
            return None
        base = self._expressions.check(callee.base)
        if not isinstance(base.type, StreamMapType):
            return None
        return self._map_method(syntax, callee, base, base.type.element)

    def _map_method(
        self, syntax: CallSyntax, callee: MemberSyntax, base: CheckedExpression, element: AquaType
    ) -> tuple[CheckedExpression, tuple[AquaType, ...]]:
        method = callee.name.text
        kinds: dict[str, AquaType] = {
            "get": ArrayType(element),
            "getStream": StreamType(element),
            "keys": ArrayType(STRING),
            "keysStream": StreamType(STRING),
            "contains": BOOL,
        }
        takes_key = not method.startswith("keys")
        arrow = ArrowType((("key", STRING),) if takes_key else (), (kinds[method],))
        arguments = self._arguments(syntax, arrow)
        place = self._context.place(syntax.span)
        call = MapMethod(type=kinds[method], place=place, base=base, method=method, arguments=arguments)
        return call, (kinds[method],)

    # --- arguments --------------------------------------------------------------------------------------------------

    def _arguments(self, syntax: CallSyntax, arrow: ArrowType) -> tuple[CheckedExpression, ...]:
        given = [*syntax.abilities, *(argument.value for argument in syntax.arguments)]
        for argument in syntax.arguments:
            if argument.name is not None:
                hint = "arguments of functions are told apart by their order"
                self._context.error(argument.name.span, "Q415", "an argument has no name in a call", hint)
        values = tuple(self._expressions.check(one) for one in given)
        wanted = arrow.parameters
        self._check_count(syntax, given, len(wanted), arrow.abilities)
        for (name, kind), value, one in zip(wanted, values, given, strict=False):
            self._expressions.fits(value, kind, one.span, f"`{name}`" if name else "the argument")
        if len(values) < len(wanted):
            unknown = self._expressions.unknown(syntax.span)
            values = (*values, *(unknown for _ in range(len(wanted) - len(values))))
        return values[: len(wanted)]

    def _check_count(self, syntax: CallSyntax, given: Sequence[Expression], wanted: int, abilities: int) -> None:
        if len(given) == wanted:
            return
        at: Span = syntax.span if len(given) < wanted else given[wanted].span
        hint = f"the first {abilities} stand in braces" if abilities and not syntax.abilities else ""
        are = "is" if wanted == 1 else "are"
        self._context.error(at, "Q416", f"{wanted} arguments {are} wanted, {len(given)} {_are(len(given))} given", hint)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
