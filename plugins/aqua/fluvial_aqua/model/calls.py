"""Calls: functions, closures and abilities are replaced by their bodies, calls of services remain."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fluvial_aqua.checking.paper import PEER_FIELDS, SERVICE_FIELDS
from fluvial_aqua.checking.tree import BodyStep, CallExpression, RemoteCall
from fluvial_aqua.checking.types import AquaType, ArrowType, StreamMapType, StreamType
from fluvial_aqua.model.emitter import DEPTH_MAX, Emitter, ProgramTooLarge, as_one
from fluvial_aqua.model.operands import Constant, Operand, Reference
from fluvial_aqua.model.parts import ValueMaker
from fluvial_aqua.model.tree import Assign, Attempt, Instruction, ServiceCall, Station, StationVisit
from fluvial_aqua.model.values import (
    AquaValue,
    CallbackValue,
    CallFrame,
    ClosureValue,
    ServiceArrow,
    StreamValue,
)


class CallInliner:
    """Makes instructions of calls.

    Args:
        emitter: gets them.
        expressions: makes operands of arguments.
        steps: makes instructions of a body.
    """

    def __init__(self, emitter: Emitter, expressions: ValueMaker, steps: Callable[[Sequence[BodyStep]], None]) -> None:
        self._emitter = emitter
        self._expressions = expressions
        self._steps = steps

    def call(
        self, call: CallExpression | RemoteCall, names: Sequence[str] = (), *, output: str | None = None
    ) -> list[AquaValue]:
        """Make a call; gives its results.

        Args:
            call: what is called.
            names: what results are called, for readable AIR.
            output: where the result of a service goes, if it is not to be a new scalar; empty to drop it.
        """
        if isinstance(call, RemoteCall):
            return self._remote(call, names, output)
        callee = self._expressions.value(call.callee)
        arguments = [
            self._argument(self._expressions.value(argument), kind)
            for argument, (_, kind) in zip(call.arguments, call.arrow.parameters, strict=True)
        ]
        return self.invoke(callee, arguments, call.arrow, names, output)

    def invoke(
        self,
        callee: AquaValue,
        arguments: Sequence[AquaValue],
        arrow: ArrowType,
        names: Sequence[str] = (),
        output: str | None = None,
    ) -> list[AquaValue]:
        """Call a value with arguments that are at hand."""
        match callee:
            case ClosureValue():
                return self._inline(callee, arguments)
            case ServiceArrow():
                return self._service(callee.service, callee.name, arguments, callee.arrow.results, names, output)
            case CallbackValue():
                emitter = self._emitter
                with emitter.at(emitter.home), emitter.collecting() as body:
                    results = self._service(
                        Constant("callbackSrv"), callee.name, arguments, callee.arrow.results, names, output
                    )
                emitter.emit(StationVisit(station=emitter.home, body=as_one(body)))
                return results
        raise AssertionError(f"cannot be called: {callee}")

    def _argument(self, value: AquaValue, wanted: AquaType) -> AquaValue:
        if isinstance(value, StreamValue) and not isinstance(wanted, StreamType | StreamMapType):
            return self._emitter.frozen(value)
        return value

    def _service(
        self,
        service: Operand,
        name: str,
        arguments: Sequence[AquaValue],
        results: Sequence[AquaType],
        names: Sequence[str],
        output: str | None,
    ) -> list[AquaValue]:
        emitter = self._emitter
        operands = []
        for value in arguments:
            if isinstance(value, StreamValue):
                value = emitter.frozen(value)
            assert isinstance(value, Constant | Reference), "services take data only"
            operands.append(value)
        target = ""
        if results:
            target = emitter.fresh(names[0] if names else name) if output is None else output
        emitter.emit(ServiceCall(service=service, name=Constant(name), arguments=tuple(operands), output=target))
        return [Reference(target)] if results and target else []

    def _inline(self, callee: ClosureValue, arguments: Sequence[AquaValue]) -> list[AquaValue]:
        """The body of a function in place of its call."""
        emitter = self._emitter
        if emitter.depth >= DEPTH_MAX:
            raise ProgramTooLarge(f"calls are nested more than {DEPTH_MAX} deep")
        unit = callee.unit
        frame = CallFrame(callee.frame)
        frame.values.update(zip(unit.parameters, arguments, strict=False))
        around = emitter.frame, emitter.function, emitter.place
        emitter.frame, emitter.function = frame, unit.name
        emitter.depth += 1
        station: Station | None = callee.station
        if station is None or station is emitter.station:
            self._steps(unit.body)
            results = self._results(callee)
        else:
            with emitter.at(station), emitter.collecting() as body:
                self._steps(unit.body)
                results = self._results(callee)
            if body:
                emitter.emit(StationVisit(station=station, body=as_one(body)))
        emitter.depth -= 1
        emitter.frame, emitter.function, emitter.place = around
        return results

    def _results(self, callee: ClosureValue) -> list[AquaValue]:
        unit = callee.unit
        results = []
        for result, kind in zip(unit.results, unit.arrow.results, strict=True):
            self._emitter.place = result.place
            value = self._expressions.value(result)
            if isinstance(value, StreamValue) and not isinstance(kind, StreamType | StreamMapType):
                value = self._emitter.frozen(value)
            results.append(value)
        return results

    # --- the paper dialect ------------------------------------------------------------------------------------------

    def _remote(self, call: RemoteCall, names: Sequence[str], output: str | None) -> list[AquaValue]:
        """A call on a value that says where."""
        emitter = self._emitter
        target = self._expressions.data(call.target)
        arguments = [self._expressions.data(one) for one in call.arguments]
        peer, service = self._where(call, target)
        here = peer == emitter.station.peer
        station = emitter.station if here else Station(peer, (), emitter.home, call.place)
        results: Sequence[AquaType] = (call.type,) if call.results else ()
        with emitter.at(station), emitter.collecting() as body:
            values = self._service(service, call.function, arguments, results, names, output)
        if here:
            for one in body:
                emitter.emit(one)
        else:
            emitter.emit(StationVisit(station=station, body=as_one(body)))
        return values

    def _where(self, call: RemoteCall, target: Operand) -> tuple[Operand, Operand]:
        """The peer and the service of a call on a value."""
        if not isinstance(target, Reference) or target.name.startswith("%init"):
            return target, Constant(call.service or "")
        if call.peer_field is not None:
            peer: Operand = target.part("." + call.peer_field)
            service = target.part("." + call.service_field) if call.service_field else Constant(call.service or "")
            return peer, service
        if call.open_type:
            return self._tried(call, target)
        return target, Constant(call.service or "")

    def _tried(self, call: RemoteCall, target: Reference) -> tuple[Operand, Operand]:
        """Of a value of unknown type: the peer and service in it, if it has any, else the value itself and a name."""
        emitter = self._emitter
        whole = Reference(emitter.named(target, "where"))
        peer = emitter.fresh("peer")
        choices: list[Instruction] = [Assign(value=whole.part("." + one), target=peer) for one in PEER_FIELDS]
        choices.append(Assign(value=whole, target=peer))
        emitter.emit(_first(choices))
        if call.service is not None:
            return Reference(peer), Constant(call.service)
        service = emitter.fresh("service")
        parts: list[Instruction] = [Assign(value=whole.part("." + one), target=service) for one in SERVICE_FIELDS]
        parts.append(Assign(value=Constant(call.default_service), target=service))
        emitter.emit(_first(parts))
        return Reference(peer), Reference(service)


def _first(choices: list[Instruction]) -> Instruction:
    """The first instruction that does not fail."""
    last = choices[-1]
    for one in reversed(choices[:-1]):
        last = Attempt(body=one, handler=last)
    return last
