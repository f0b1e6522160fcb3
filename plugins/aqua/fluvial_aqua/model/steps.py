"""Steps of bodies to instructions."""

from __future__ import annotations

from collections.abc import Sequence

from fluvial_aqua.checking.tree import (
    BindStep,
    BodyStep,
    CallExpression,
    CallStep,
    CheckedExpression,
    ClosureStep,
    CoStep,
    DeclareStep,
    ElementOf,
    ForStep,
    IfStep,
    JoinStep,
    LiteralValue,
    OnStep,
    Operation,
    ParStep,
    PushStep,
    RemoteCall,
    ServiceStep,
    TryStep,
)
from fluvial_aqua.checking.types import ArrayType, OptionType, StreamMapType, StreamType
from fluvial_aqua.model.calls import CallInliner
from fluvial_aqua.model.emitter import Emitter, as_one
from fluvial_aqua.model.expressions import ExpressionLowering
from fluvial_aqua.model.operands import ERROR, TRUE, Constant, Operand, Reference
from fluvial_aqua.model.tree import (
    Alternative,
    Assign,
    Attempt,
    Instruction,
    Nothing,
    Parallel,
    PutPair,
    Relay,
    Station,
    StationVisit,
    Walk,
)
from fluvial_aqua.model.values import AquaValue, CallFrame, ClosureValue, StreamValue


class StepLowering:
    """Makes instructions of steps.

    Args:
        emitter: gets them.
    """

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self.expressions = ExpressionLowering(emitter)
        self.calls = CallInliner(emitter, self.expressions, self.steps)
        self.expressions.calls = self.calls

    def steps(self, steps: Sequence[BodyStep]) -> None:
        """Instructions for steps, in order."""
        for step in steps:
            self._emitter.place = step.place
            self._step(step)

    def _step(self, step: BodyStep) -> None:
        emitter = self._emitter
        match step:
            case CallStep():
                self._call(step)
            case BindStep():
                emitter.frame.values[step.variable] = self._bound(step)
            case DeclareStep():
                sigil = "%" if isinstance(step.variable.type, StreamMapType) else "$"
                emitter.frame.values[step.variable] = emitter.stream(step.variable.name, sigil)
            case PushStep():
                self._push(step)
            case ClosureStep():
                self._closure(step)
            case ServiceStep():
                emitter.frame.services[step.service] = emitter.scalar(self.expressions.data(step.value), "service")
            case JoinStep():
                for value in step.values:
                    self._join(value)
            case OnStep():
                self._on(step)
            case ForStep():
                self._for(step)
            case IfStep():
                self._if(step)
            case TryStep():
                self._try(step)
            case ParStep():
                branches = [self._block(branch) for branch in step.branches]
                emitter.emit(Parallel(branches=branches, place=step.place, function=emitter.function))
            case CoStep():
                body = self._block(step.body)
                emitter.emit(Parallel(branches=[body], detached=True, place=step.place, function=emitter.function))

    def _block(self, steps: Sequence[BodyStep]) -> Instruction:
        """Steps as one instruction."""
        with self._emitter.collecting() as body:
            self.steps(steps)
        return as_one(body)

    def _scoped(self, steps: Sequence[BodyStep]) -> Instruction:
        """As :meth:`_block`, with ids of services of its own."""
        with self._emitter.services_scope():
            return self._block(steps)

    # --- values -----------------------------------------------------------------------------------------------------

    def _call(self, step: CallStep) -> None:
        emitter = self._emitter
        names = [target.name for target in step.targets]
        if not isinstance(step.call, CallExpression | RemoteCall):
            values: list[AquaValue] = [self.expressions.value(step.call)]
        else:
            output = None
            if not step.targets:
                output = ""
            elif step.pushes == (True,):
                output = self._stream_to_fill(step)
            values = self.calls.call(step.call, names, output=output)
            if output and values == [Reference(output)]:
                return
        if len(step.targets) == 1 and isinstance(step.targets[0].type, StreamMapType) and step.pushes[0]:
            self._put(self._stream(step.targets[0].name, emitter.frame.value(step.targets[0])), values)
            return
        for target, push, value in zip(step.targets, step.pushes, values, strict=False):
            if not push:
                emitter.frame.values[target] = self._result(value, target.name)
                continue
            stream = emitter.frame.value(target)
            emitter.emit(Assign(value=self._pushed(value), target=self._stream(target.name, stream)))

    def _stream_to_fill(self, step: CallStep) -> str | None:
        """The stream that a service's result can go into directly."""
        target = step.targets[0]
        if isinstance(target.type, StreamMapType):
            return None
        return self._stream(target.name, self._emitter.frame.value(target))

    def _stream(self, name: str, value: AquaValue) -> str:
        assert isinstance(value, StreamValue), f"`{name}` is no stream"
        return value.name

    def _result(self, value: AquaValue, name: str) -> AquaValue:
        """A result that is given a name: a part of something is taken now, so that it fails here if it does."""
        if isinstance(value, Constant | Reference):
            return self._emitter.scalar(value, name)
        return value

    def _pushed(self, value: AquaValue) -> Operand:
        if isinstance(value, StreamValue):
            return self._emitter.frozen(value)
        assert isinstance(value, Constant | Reference)
        return value

    def _bound(self, step: BindStep) -> AquaValue:
        value = self.expressions.value(step.value)
        if isinstance(value, Constant | Reference):
            return self._emitter.scalar(value, step.variable.name)
        return value

    def _push(self, step: PushStep) -> None:
        emitter = self._emitter
        stream = self._stream(step.stream.name, emitter.frame.value(step.stream))
        if step.key is not None:
            key = self.expressions.data(step.key)
            self._put(stream, [key, self._pushed(self.expressions.value(step.value))])
            return
        if isinstance(step.value, CallExpression | RemoteCall):
            values = self.calls.call(step.value, output=stream)
            if values == [Reference(stream)]:
                return
            value = values[0]
        else:
            value = self.expressions.value(step.value)
        emitter.emit(Assign(value=self._pushed(value), target=stream))

    def _put(self, stream: str, values: Sequence[AquaValue]) -> None:
        key, value = values[0], self._pushed(values[1])
        assert isinstance(key, Constant | Reference)
        self._emitter.emit(PutPair(key=key, value=value, target=stream))

    def _closure(self, step: ClosureStep) -> None:
        emitter = self._emitter
        frame = emitter.frame
        captured = CallFrame(frame, {}, frame.all_services(), captured=True)
        station = None if step.anywhere else emitter.station
        frame.values[step.variable] = ClosureValue(step.function, captured, station)

    def _join(self, expression: CheckedExpression) -> None:
        emitter = self._emitter
        if isinstance(expression, ElementOf):
            base = self.expressions.value(expression.base)
            if isinstance(base, StreamValue):
                count = _count_of(expression.index)
                index = self.expressions.data(count or expression.index)
                self.expressions.waited(base, index, counts=count is not None)
                return
        value = self.expressions.value(expression)
        if isinstance(value, Reference):
            emitter.emit(Assign(value=value, target=emitter.fresh("joined")))

    # --- blocks -----------------------------------------------------------------------------------------------------

    def _on(self, step: OnStep) -> None:
        emitter = self._emitter
        peer = emitter.scalar(self.expressions.data(step.peer), "peer")
        relays = []
        for relay in step.relays:
            many = isinstance(relay.type, ArrayType | OptionType | StreamType)
            operand = emitter.scalar(self.expressions.data(relay), "relays" if many else "relay")
            if not (many and operand == Constant(())):
                relays.append(Relay(operand, many))
        station = Station(peer, tuple(relays), emitter.station, step.place)
        with emitter.at(station):
            body = self._scoped(step.body)
        emitter.emit(StationVisit(station=station, body=body, place=step.place, function=emitter.function))

    def _for(self, step: ForStep) -> None:
        emitter = self._emitter
        value = self.expressions.value(step.iterable)
        if isinstance(value, StreamValue):
            iterable: Operand = Reference(value.name) if step.mode == "rec" else emitter.frozen(value)
        else:
            assert isinstance(value, Constant | Reference)
            iterable = value
            if isinstance(value, Reference) and value.path and value.name[0] == "#":
                iterable = emitter.scalar(value, "items")
        iterator = emitter.fresh(step.variables[0].name)
        frame = emitter.frame
        with emitter.services_scope(), emitter.loop_scope() as body:
            if len(step.variables) == 2:
                for variable, part in zip(step.variables, (".key", ".value"), strict=True):
                    frame.values[variable] = Reference(iterator, (part,))
            else:
                frame.values[step.variables[0]] = Reference(iterator)
            self.steps(step.body)
        emitter.emit(
            Walk(
                iterable=iterable,
                iterator=iterator,
                mode=step.mode,
                body=as_one(body),
                place=step.place,
                function=emitter.function,
            )
        )

    def _if(self, step: IfStep) -> None:
        emitter = self._emitter
        left, right, equal = self._condition(step.condition)
        if isinstance(left, Constant) and isinstance(right, Constant):
            taken = step.then if (left == right) == equal else step.otherwise
            self.steps(taken)
            return
        then = self._scoped(step.then)
        otherwise = self._scoped(step.otherwise) if step.otherwise else None
        emitter.emit(
            Alternative(
                left=left,
                right=right,
                equal=equal,
                then=then,
                otherwise=otherwise,
                place=step.place,
                function=emitter.function,
            )
        )

    def _condition(self, condition: CheckedExpression) -> tuple[Operand, Operand, bool]:
        """A condition as two operands that must be equal or unequal; what can fail of them is done before."""
        emitter = self._emitter
        if isinstance(condition, Operation) and condition.operator in ("==", "!="):
            left = emitter.scalar(self.expressions.data(condition.left), "left")
            right = emitter.scalar(self.expressions.data(condition.right), "right")
            return left, right, condition.operator == "=="
        value = emitter.scalar(self.expressions.data(condition), "condition")
        return value, TRUE, True

    def _try(self, step: TryStep) -> None:
        emitter = self._emitter
        result = self._scoped(step.body)
        around = emitter.last_error
        for variable, steps in step.handlers:
            caught = emitter.fresh(variable.name if variable is not None else "caught")
            with emitter.collecting() as handler:
                emitter.emit(Assign(value=ERROR, target=caught))
                emitter.last_error = Reference(caught)
                if variable is not None:
                    emitter.frame.values[variable] = Reference(caught)
                with emitter.services_scope():
                    self.steps(steps)
            emitter.last_error = around
            result = Attempt(body=result, handler=as_one(handler), place=step.place, function=emitter.function)
        if not step.handlers:
            result = Attempt(body=result, handler=Nothing(), place=step.place, function=emitter.function)
        emitter.emit(result)


def _count_of(index: CheckedExpression) -> CheckedExpression | None:
    """``n`` of an index ``n - 1``: a stream has it once it has n elements, which needs no arithmetic."""
    if isinstance(index, Operation) and index.operator == "-" and isinstance(index.right, LiteralValue):
        return index.left if index.right.value == 1 else None
    return None
