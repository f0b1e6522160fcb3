"""How the parts of inlining see each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from fluvial_aqua.checking.tree import CallExpression, CheckedExpression, RemoteCall
from fluvial_aqua.model.operands import Operand
from fluvial_aqua.model.values import AquaValue


class ValueMaker(Protocol):
    """Makes values of expressions; see :class:`fluvial_aqua.model.expressions.ExpressionLowering`."""

    def data(self, expression: CheckedExpression, name: str = "value") -> Operand:
        """An expression's value as data."""
        ...

    def value(self, expression: CheckedExpression) -> AquaValue:
        """An expression's value, whatever it is."""
        ...


class CallMaker(Protocol):
    """Makes calls; see :class:`fluvial_aqua.model.calls.CallInliner`."""

    def call(
        self, call: CallExpression | RemoteCall, names: Sequence[str] = (), *, output: str | None = None
    ) -> list[AquaValue]:
        """Make a call; gives its results."""
        ...
