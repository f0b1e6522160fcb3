"""What only the dialect of the white paper has: calls on values that say where, and a length that is waited for."""

from __future__ import annotations

from typing import Final

from fluvial_aqua.checking.context import BodyContext
from fluvial_aqua.checking.parts import ExpressionRules
from fluvial_aqua.checking.tree import (
    CheckedExpression,
    LengthOf,
    LiteralValue,
    Operation,
    RemoteCall,
    VariableRead,
    WellKnown,
)
from fluvial_aqua.checking.types import (
    STRING,
    UNKNOWN,
    AquaType,
    ArrowType,
    DataType,
    TopType,
    UnknownType,
)
from fluvial_aqua.syntax.tree import CallSyntax, MemberSyntax, NameSyntax

PEER_FIELDS: Final = ("peer", "peer_id", "peer_pk")
SERVICE_FIELDS: Final = ("service", "service_id")


def remote_call(
    expressions: ExpressionRules, syntax: CallSyntax, callee: MemberSyntax
) -> tuple[CheckedExpression, tuple[AquaType, ...]] | None:
    """``P.f(args)`` and ``P.srv.f(args)`` with P a value that says where; None if it is an ordinary call."""
    context = expressions.context
    target, service = callee.base, ""
    if isinstance(target, MemberSyntax) and isinstance(target.base, NameSyntax) and _is_place(context, target.base):
        service = target.name.text
        target = target.base
    elif not (isinstance(target, NameSyntax) and _is_place(context, target)):
        return None
    place = expressions.check(target)
    function = callee.name.text
    arguments = tuple(expressions.check(argument.value) for argument in syntax.arguments)
    results: tuple[AquaType, ...] = (UNKNOWN,)
    peer_field = service_field = None
    if isinstance(place.type, DataType):
        peer_field = next((one for one in PEER_FIELDS if place.type.field(one) is not None), None)
        service_field = next((one for one in SERVICE_FIELDS if place.type.field(one) is not None), None)
    arrow = None
    options = context.paper
    assert options is not None, "only the dialect asks for it"
    default = options.sender_service if _is_sender(place) else options.service
    if service:
        arrow = _arrow(expressions, service, function)
    else:
        service, arrow = _declared(expressions, function)
        if not service and service_field is None and not _open(place.type):
            service = default
    if arrow is not None:
        _check_arguments(expressions, syntax, arrow, arguments)
        results = arrow.results
    call = RemoteCall(
        type=results[0] if results else UNKNOWN,
        place=context.place(syntax.span),
        target=place,
        service=service or None,
        function=function,
        arguments=arguments,
        peer_field=peer_field,
        service_field=service_field if not service else None,
        open_type=_open(place.type),
        default_service=default,
        results=len(results),
    )
    return call, results


def waiting_length(condition: CheckedExpression, context: BodyContext) -> None:
    """``if acc.length == N`` waits if ``acc`` was gathered with ``[]`` in parallel branches."""
    if not (isinstance(condition, Operation) and condition.operator == "=="):
        return
    length, count = condition.left, condition.right
    if isinstance(count, LengthOf):
        length, count = count, length
    if not (isinstance(length, LengthOf) and isinstance(length.base, VariableRead) and isinstance(count, LiteralValue)):
        return
    if length.base.variable in context.gathered and isinstance(count.value, int) and count.value > 0:
        length.waits_for = count.value


def _is_place(context: BodyContext, name: NameSyntax) -> bool:
    """Whether a name stands for a value that may say where to call."""
    if name.name in ("sender", "INIT_PEER_ID", "HOST_PEER_ID"):
        return True
    variable = context.scope.find(name.name)
    return variable is not None and isinstance(variable.type, DataType | TopType | UnknownType | type(STRING))


def _open(kind: AquaType) -> bool:
    return isinstance(kind, UnknownType | TopType)


def _is_sender(place: CheckedExpression) -> bool:
    return isinstance(place, WellKnown) and place.name == "INIT_PEER_ID"


def _declared(expressions: ExpressionRules, function: str) -> tuple[str, ArrowType | None]:
    """The id of the one declared service that has a function, and its type."""
    context = expressions.context
    found = []
    for declared in context.module.names.values():
        if declared.kind == "service":
            service = context.declarations.service(declared)
            kind = service.type.field(function)
            if isinstance(kind, ArrowType) and service.id is not None and isinstance(service.id, LiteralValue):
                found.append((str(service.id.value), kind))
    return found[0] if len(found) == 1 else ("", None)


def _arrow(expressions: ExpressionRules, service: str, function: str) -> ArrowType | None:
    """The type of a function of the declared service with an id."""
    context = expressions.context
    for declared in context.module.names.values():
        if declared.kind == "service":
            unit = context.declarations.service(declared)
            if isinstance(unit.id, LiteralValue) and unit.id.value == service:
                kind = unit.type.field(function)
                return kind if isinstance(kind, ArrowType) else None
    return None


def _check_arguments(
    expressions: ExpressionRules, syntax: CallSyntax, arrow: ArrowType, arguments: tuple[CheckedExpression, ...]
) -> None:
    if len(arguments) != len(arrow.parameters):
        counts = f"{len(arrow.parameters)} are wanted, {len(arguments)} given"
        expressions.context.error(syntax.span, "Q416", f"the number of arguments differs: {counts}")
    for (name, kind), value, one in zip(arrow.parameters, arguments, syntax.arguments, strict=False):
        expressions.fits(value, kind, one.span, f"`{name}`" if name else "the argument")
