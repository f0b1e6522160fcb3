"""What functions return."""

from __future__ import annotations

from fluvial_aqua.checking.context import BodyContext
from fluvial_aqua.checking.expressions import ExpressionChecker
from fluvial_aqua.checking.tree import BodyStep, CallStep, CheckedExpression, Variable, VariableRead
from fluvial_aqua.syntax.tree import CallSyntax, ReturnLine
from fluvial_aqua.text import Span


class ReturnChecker:
    """Checks the last line of a function against its signature."""

    def __init__(self, context: BodyContext, expressions: ExpressionChecker) -> None:
        self._context = context
        self._expressions = expressions

    def results(
        self, line: ReturnLine | None, at: Span
    ) -> tuple[tuple[BodyStep, ...], tuple[CheckedExpression, ...]] | None:
        """The values that are returned, and the steps that make them; None if nothing is."""
        wanted = self._context.unit.arrow.results
        if line is None:
            if wanted:
                hint = "end it with `<- value`"
                self._context.error(
                    at, "Q431", f"`{self._context.unit.name}` returns nothing, a result is declared", hint
                )
            return None
        if len(line.values) == 1 and len(wanted) > 1 and isinstance(line.values[0], CallSyntax):
            return self._all_of_call(line, line.values[0])
        values = tuple(self._expressions.check(one) for one in line.values)
        if not wanted:
            hint = "declare what is returned: `-> T` behind the parameters"
            self._context.error(line.span, "Q432", "something is returned, no result is declared", hint)
            return None
        if len(values) != len(wanted):
            at = line.values[len(wanted)].span if len(values) > len(wanted) else line.span
            counts = f"{len(wanted)} declared, {len(values)} returned"
            self._context.error(at, "Q433", f"the number of results differs: {counts}")
        for value, kind, one in zip(values, wanted, line.values, strict=False):
            self._expressions.fits(value, kind, one.span, "the result")
        return (), values[: len(wanted)]

    def _all_of_call(
        self, line: ReturnLine, syntax: CallSyntax
    ) -> tuple[tuple[BodyStep, ...], tuple[CheckedExpression, ...]]:
        """``<- f()`` in a function with several results: all of those of ``f``."""
        wanted = self._context.unit.arrow.results
        call, kinds = self._expressions.call(syntax)
        place = self._context.place(line.span)
        if len(kinds) != len(wanted):
            counts = f"{len(wanted)} declared, {len(kinds)} returned"
            self._context.error(syntax.span, "Q433", f"the number of results differs: {counts}")
        variables = tuple(
            Variable(f"result_{index}", kind, place, used=True) for index, kind in enumerate(kinds[: len(wanted)])
        )
        step = CallStep(place=place, call=call, targets=variables, pushes=(False,) * len(variables))
        values: tuple[CheckedExpression, ...] = tuple(
            VariableRead(type=one.type, place=place, variable=one) for one in variables
        )
        for value, kind in zip(values, wanted, strict=False):
            self._expressions.fits(value, kind, syntax.span, "the result")
        return (step,), values
