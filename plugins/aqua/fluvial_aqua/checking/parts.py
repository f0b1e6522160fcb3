"""How the checkers of one body see each other: each knows of the others what stands here, and none imports another one that needs it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from fluvial_aqua.checking.context import BodyContext
from fluvial_aqua.checking.tree import BodyStep, CheckedExpression, Variable
from fluvial_aqua.checking.types import AquaType
from fluvial_aqua.syntax.tree import BodyLine, Expression, Identifier
from fluvial_aqua.text import Span


class ExpressionRules(Protocol):
    """Checks expressions; see :class:`fluvial_aqua.checking.expressions.ExpressionChecker`."""

    @property
    def context(self) -> BodyContext:
        """The body that is being checked."""
        ...

    def check(self, syntax: Expression) -> CheckedExpression:
        """The checked form of an expression that must be one value."""
        ...

    def call(self, syntax: Expression) -> tuple[CheckedExpression, tuple[AquaType, ...]]:
        """A call on a line of its own, with the types of all its results."""
        ...

    def wanted(self, syntax: Expression, kind: AquaType, what: str) -> CheckedExpression:
        """An expression whose value must be of a type."""
        ...

    def fits(self, value: CheckedExpression, kind: AquaType, at: Span, what: str) -> bool:
        """Whether a value may stand where a type is wanted; says so if not."""
        ...

    def unknown(self, span: Span) -> CheckedExpression:
        """Stands for a value that was in error."""
        ...

    def lookup(self, name: str, span: Span) -> CheckedExpression | None:
        """The value of a name; None if there is none."""
        ...


class BodyRules(Protocol):
    """Checks bodies; see :class:`fluvial_aqua.checking.bodies.BodyChecker`."""

    @property
    def context(self) -> BodyContext:
        """The body that is being checked."""
        ...

    @property
    def expressions(self) -> ExpressionRules:
        """Checks its expressions."""
        ...

    def steps(self, lines: tuple[BodyLine, ...]) -> tuple[BodyStep, ...]:
        """The steps of lines."""
        ...

    def scope(self, *, names: bool = True) -> AbstractContextManager[None]:
        """A block: its names are known inside of it, or not even those are its own."""
        ...

    def parallel(self) -> AbstractContextManager[None]:
        """What is inside runs beside other things."""
        ...

    def variable(self, name: Identifier, kind: AquaType, role: str = "value") -> Variable:
        """A variable that a name in the text makes."""
        ...

    def add(self, variable: Variable, at: Span, *, outside: bool = False) -> Variable:
        """Make a variable known; another one of its name may not be visible."""
        ...
