"""Joins that can never be filled: more elements are waited for than anything could push."""

from __future__ import annotations

from collections.abc import Iterator
from math import inf

from fluvial_aqua.checking.context import BodyContext
from fluvial_aqua.checking.tree import (
    BodyStep,
    CallStep,
    Checked,
    ClosureStep,
    CoStep,
    DeclareStep,
    ElementOf,
    ForStep,
    FunctionUnit,
    IfStep,
    JoinStep,
    LiteralValue,
    OnStep,
    ParStep,
    PushStep,
    TryStep,
    Variable,
    VariableRead,
)


def never_filled(unit: FunctionUnit, context: BodyContext) -> None:
    """Warn of joins of a function's own streams that wait for more elements than there will be."""
    pushed: dict[Variable, float] = {}
    joins: list[tuple[Variable, int, ElementOf]] = []
    for step, loops in _walk(unit.body, 0):
        if isinstance(step, DeclareStep):
            pushed[step.variable] = 0
        elif isinstance(step, PushStep) and step.stream in pushed:
            pushed[step.stream] += inf if loops else 1
        elif isinstance(step, JoinStep):
            for value in step.values:
                if (
                    isinstance(value, ElementOf)
                    and isinstance(value.base, VariableRead)
                    and isinstance(value.index, LiteralValue)
                    and isinstance(value.index.value, int)
                ):
                    joins.append((value.base.variable, value.index.value, value))
        if isinstance(step, CallStep):
            for target, push in zip(step.targets, step.pushes, strict=True):
                if push and target in pushed:
                    pushed[target] += inf if loops else 1
        for variable in _handed_on(step):
            if variable in pushed:
                pushed[variable] = inf
    for variable, index, value in joins:
        if pushed.get(variable, inf) <= index:
            count = int(pushed[variable])
            problem = f"`{variable.name}` gets {count} elements at most, this waits for {index + 1}"
            context.warning(value.place.span, "Q905", problem, "the join is never passed")


def _walk(steps: tuple[BodyStep, ...], loops: int) -> Iterator[tuple[BodyStep, int]]:
    """All steps with the number of loops and closures around each."""
    for step in steps:
        yield step, loops
        match step:
            case OnStep() | CoStep():
                yield from _walk(step.body, loops)
            case ForStep():
                yield from _walk(step.body, loops + 1)
            case ClosureStep():
                yield from _walk(step.function.body, loops + 1)
            case IfStep():
                yield from _walk(step.then, loops)
                yield from _walk(step.otherwise, loops)
            case TryStep():
                yield from _walk(step.body, loops)
                for _, body in step.handlers:
                    yield from _walk(body, loops)
            case ParStep():
                for branch in step.branches:
                    yield from _walk(branch, loops)


def _handed_on(step: BodyStep) -> Iterator[Variable]:
    """Streams that a step hands to something else, which may push to them, or gives a second name."""
    waiting: list[object] = []
    if isinstance(step, CallStep):
        waiting.append(step.call)
    elif not isinstance(step, PushStep | JoinStep | OnStep | ForStep | IfStep | TryStep | ParStep | CoStep):
        waiting.append(getattr(step, "value", None))
    while waiting:
        one = waiting.pop()
        if isinstance(one, VariableRead):
            yield one.variable
        elif isinstance(one, tuple):
            waiting += one
        elif isinstance(one, Checked) and not isinstance(one, ElementOf):
            waiting += [getattr(one, name) for name in one.__struct_fields__ if name not in ("type", "place", "arrow")]
