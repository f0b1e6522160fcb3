"""Lines of bodies that have blocks: where, how often and whether something is done."""

from __future__ import annotations

from fluvial_aqua.checking.paper import waiting_length
from fluvial_aqua.checking.parts import BodyRules
from fluvial_aqua.checking.tree import (
    BodyStep,
    CheckedExpression,
    CoStep,
    ForStep,
    IfStep,
    OnStep,
    ParStep,
    TextPlace,
    TryStep,
    Variable,
)
from fluvial_aqua.checking.types import (
    BOOL,
    ERROR_RECORD,
    STRING,
    UNKNOWN,
    AquaType,
    ArrowType,
    DataType,
    StreamMapType,
    StreamType,
    UnknownType,
    accepts,
    element_of,
    type_text,
)
from fluvial_aqua.syntax.tree import (
    BodyLine,
    CoLine,
    Expression,
    ForBlock,
    IfBlock,
    OnBlock,
    ParBlock,
    ParseqBlock,
    TryBlock,
)


class BlockChecker:
    """Checks blocks for the checker of a body."""

    def __init__(self, body: BodyRules) -> None:
        self._body = body

    def step(self, line: BodyLine, place: TextPlace) -> BodyStep:
        """The step of a line that has a block."""
        match line:
            case OnBlock():
                return self._on(line)
            case ForBlock():
                return self._for(line, place)
            case ParseqBlock():
                return self._parseq(line, place)
            case IfBlock():
                return self._if(line, place)
            case TryBlock():
                return self._try(line, place)
            case ParBlock():
                with self._body.parallel():
                    branches = tuple(self._body.steps(one.lines) for one in line.branches)
                return ParStep(place=place, branches=branches)
            case CoLine():
                with self._body.parallel():
                    return CoStep(place=place, body=self._body.steps(line.body.lines))
        raise AssertionError(f"no such line: {line}")

    def _on(self, line: OnBlock) -> OnStep:
        peer = self._body.expressions.wanted(line.peer, STRING, "the peer of an `on`")
        relays = []
        for one in line.relays:
            relay = self._body.expressions.check(one)
            inner = element_of(relay.type)
            if not accepts(STRING, relay.type) and not (inner is not None and accepts(STRING, inner)):
                problem = f"a relay is a string or a collection of them, this is `{type_text(relay.type)}`"
                self._body.context.error(one.span, "Q401", problem)
            relays.append(relay)
        with self._body.scope(names=False):
            body = self._body.steps(line.body.lines)
        return OnStep(place=self._body.context.place(line.span), peer=peer, relays=tuple(relays), body=body)

    def _for(self, line: ForBlock, place: TextPlace) -> ForStep:
        iterable, element = self._iterable(line.iterable)
        with self._body.scope(), self._body.parallel():
            variables = self._loop_variables(line, iterable.type, element)
            if line.condition is not None:
                condition = self._condition(line.condition)
                with self._body.scope():
                    then = self._body.steps(line.body.lines)
                inner = IfStep(
                    place=self._body.context.place(line.condition.span), condition=condition, then=then, otherwise=()
                )
                body: tuple[BodyStep, ...] = (inner,)
            else:
                body = self._body.steps(line.body.lines)
        if line.mode == "rec" and not isinstance(iterable.type, StreamType | UnknownType):
            self._body.context.error(line.iterable.span, "Q407", "`for … rec` walks a stream, this is none")
        return ForStep(place=place, variables=variables, iterable=iterable, mode=line.mode, body=body)

    def _loop_variables(self, line: ForBlock, kind: AquaType, element: AquaType) -> tuple[Variable, ...]:
        names = line.names
        if len(names) == 1:
            return (self._body.add(self._body.variable(names[0], element, "loop"), names[0].span),)
        if not isinstance(kind, StreamMapType | UnknownType) or not isinstance(element, DataType):
            self._body.context.error(names[1].span, "Q407", "two variables are for maps, this is none")
            kinds: tuple[AquaType, ...] = (UNKNOWN, UNKNOWN)
        else:
            kinds = (STRING, kind.element if isinstance(kind, StreamMapType) else UNKNOWN)
        return tuple(
            self._body.add(self._body.variable(name, one, "loop"), name.span)
            for name, one in zip(names, kinds, strict=True)
        )

    def _iterable(self, syntax: Expression) -> tuple[CheckedExpression, AquaType]:
        iterable = self._body.expressions.check(syntax)
        element = element_of(iterable.type)
        if element is None and self._body.context.paper is not None and not isinstance(iterable.type, ArrowType):
            element = UNKNOWN
        if element is None:
            problem = f"`for` walks a collection, this is `{type_text(iterable.type)}`"
            self._body.context.error(syntax.span, "Q407", problem)
            element = UNKNOWN
        return iterable, element

    def _parseq(self, line: ParseqBlock, place: TextPlace) -> ForStep:
        iterable, element = self._iterable(line.iterable)
        with self._body.scope(), self._body.parallel():
            variable = self._body.add(self._body.variable(line.name, element, "loop"), line.name.span)
            body = (self._on(line.on),)
        return ForStep(place=place, variables=(variable,), iterable=iterable, mode="parseq", body=body)

    def _condition(self, syntax: Expression) -> CheckedExpression:
        value = self._body.expressions.wanted(syntax, BOOL, "a condition")
        if self._body.context.paper is not None:
            waiting_length(value, self._body.context)
        return value

    def _if(self, line: IfBlock, place: TextPlace) -> IfStep:
        condition = self._condition(line.condition)
        with self._body.scope():
            then = self._body.steps(line.then.lines)
        otherwise: tuple[BodyStep, ...] = ()
        if line.otherwise is not None:
            with self._body.scope():
                otherwise = self._body.steps(line.otherwise.lines)
        return IfStep(place=place, condition=condition, then=then, otherwise=otherwise)

    def _try(self, line: TryBlock, place: TextPlace) -> TryStep:
        with self._body.scope():
            body = self._body.steps(line.body.lines)
        handlers = []
        for handler in line.handlers:
            with self._body.scope():
                variable = None
                if handler.name is not None:
                    variable = self._body.add(
                        self._body.variable(handler.name, ERROR_RECORD, "error"), handler.name.span
                    )
                handlers.append((variable, self._body.steps(handler.body.lines)))
        return TryStep(place=place, body=body, handlers=tuple(handlers))
