"""Infix operators and ``!``."""

from __future__ import annotations

from typing import Final

from fluvial_aqua.checking.parts import ExpressionRules
from fluvial_aqua.checking.tree import CheckedExpression, LiteralValue, Negation, Operation
from fluvial_aqua.checking.types import (
    BOOL,
    I64,
    AquaType,
    LiteralType,
    UnknownType,
    accepts,
    comparable,
    is_float,
    is_integer,
    literal_type,
    number_union,
    type_text,
)
from fluvial_aqua.folding import DoesNotFit, fold
from fluvial_aqua.syntax.tree import BinarySyntax, UnarySyntax
from fluvial_aqua.text import Span

_LOGIC: Final = ("&&", "||")
_ORDER: Final = ("<", "<=", ">", ">=")


class OperatorChecker:
    """Checks operators for an expression checker."""

    def __init__(self, expressions: ExpressionRules) -> None:
        self._expressions = expressions

    def negation(self, syntax: UnarySyntax) -> CheckedExpression:
        """``!value``."""
        value = self._expressions.wanted(syntax.value, BOOL, "what `!` turns round")
        return Negation(type=BOOL, place=self._expressions.context.place(syntax.span), value=value)

    def operation(self, syntax: BinarySyntax) -> CheckedExpression:
        """``left operator right``."""
        left = self._expressions.check(syntax.left)
        right = self._expressions.check(syntax.right)
        operator = syntax.operator
        if operator in _LOGIC:
            kind: AquaType = BOOL
            for value, side in ((left, syntax.left), (right, syntax.right)):
                if not accepts(BOOL, value.type):
                    self._refuse(side.span, f"`{operator}` works on `bool`, this is `{type_text(value.type)}`")
        elif operator in ("==", "!="):
            kind = BOOL
            if not comparable(left.type, right.type):
                shown = f"`{type_text(left.type)}` and `{type_text(right.type)}`"
                self._refuse(syntax.span, f"{shown} cannot be compared")
        else:
            kind = self._numbers(syntax, left, right)
        known = self._known(syntax, left, right)
        if known is not None:
            return known
        place = self._expressions.context.place(syntax.span)
        return Operation(type=kind, place=place, operator=operator, left=left, right=right)

    def _numbers(self, syntax: BinarySyntax, left: CheckedExpression, right: CheckedExpression) -> AquaType:
        operator = syntax.operator
        floats = operator == "*" and (is_float(left.type) or is_float(right.type))
        good = True
        for value, side in ((left, syntax.left), (right, syntax.right)):
            if not (is_integer(value.type) or (floats and is_float(value.type))):
                wanted = "numbers" if operator == "*" else "integers"
                self._refuse(side.span, f"`{operator}` works on {wanted}, this is `{type_text(value.type)}`")
                good = False
                break
        if operator in _ORDER:
            return BOOL
        if floats or not good:
            return I64
        if operator == "**" and not self._unsigned(right.type):
            self._refuse(syntax.right.span, "an exponent is an unsigned integer")
        union = number_union(left.type, right.type)
        if union is None:
            shown = f"`{type_text(left.type)}` and `{type_text(right.type)}`"
            self._expressions.context.warning(
                syntax.span, "Q902", f"no integer type has room for both {shown}; the result is `i64`"
            )
            return I64
        return union

    def _unsigned(self, kind: AquaType) -> bool:
        if isinstance(kind, UnknownType):
            return True
        name = getattr(kind, "name", "")
        return name == "unsigned" or name.startswith("u")

    def _known(
        self, syntax: BinarySyntax, left: CheckedExpression, right: CheckedExpression
    ) -> CheckedExpression | None:
        """The result, if it can be known now; also says if it does not fit."""
        if not (isinstance(left, LiteralValue) and isinstance(right, LiteralValue)):
            return None
        if isinstance(left.type, UnknownType) or isinstance(right.type, UnknownType) or syntax.operator in _LOGIC:
            return None
        context = self._expressions.context
        try:
            value = fold(syntax.operator, left.value, right.value)
        except DoesNotFit:
            context.error(syntax.span, "Q116", "the result does not fit 64 bits")
            return self._expressions.unknown(syntax.span)
        if value is None:
            return None
        kind = literal_type(value)
        union = number_union(left.type, right.type) if isinstance(kind, LiteralType) else None
        if isinstance(union, LiteralType) and isinstance(kind, LiteralType):
            kind = LiteralType(union.name, union.members, kind.value)
        return LiteralValue(type=kind, place=context.place(syntax.span), value=value)

    def _refuse(self, span: Span, problem: str) -> None:
        self._expressions.context.error(span, "Q405", problem)
