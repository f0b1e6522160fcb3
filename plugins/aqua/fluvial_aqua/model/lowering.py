"""An exported function to its instruction tree: arguments in, body, results out."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from fluvial_aqua.checking.tree import FunctionUnit
from fluvial_aqua.checking.types import AquaType, ArrowType, StreamType
from fluvial_aqua.model.emitter import Emitter, as_one
from fluvial_aqua.model.operands import ERROR, INIT_PEER, Constant, Operand, Reference
from fluvial_aqua.model.steps import StepLowering
from fluvial_aqua.model.tree import Assign, Attempt, Instruction, Relay, Scoped, ServiceCall, Station, Walk
from fluvial_aqua.model.values import CallbackValue, ClosureValue, StreamValue

GET_DATA: Final = "getDataSrv"
CALLBACK: Final = "callbackSrv"
RESPONSE: Final = "response"
ERROR_HANDLER: Final = "errorHandlingSrv"
RELAY: Final = "-relay-"
PAPER_RELAY: Final = "relay"


class Surround(Struct, frozen=True):
    """What is put around a function's body.

    Attributes:
        relay: the function is for a client behind a relay, whose id it asks for as ``-relay-``.
        report_errors: an error that nobody catches is told to the host.
        empty_response: a function without results still answers.
    """

    relay: bool = True
    report_errors: bool = True
    empty_response: bool = False


class LoweredFunction(Struct, eq=False):
    """A function as one instruction, and where it begins."""

    body: Instruction
    home: Station


def lower(unit: FunctionUnit, surround: Surround, *, paper: bool = False) -> LoweredFunction:
    """The instruction tree of an exported function.

    Raises:
        ProgramTooLarge: it inlines to more than the compiler takes.
    """
    relay: Operand | None = Reference(RELAY) if surround.relay and not paper else None
    if paper and any(parameter.name == PAPER_RELAY for parameter in unit.parameters):
        relay = Reference(PAPER_RELAY)
    home = Station(INIT_PEER, (Relay(relay),) if relay is not None else (), None, unit.place)
    emitter = Emitter(home, relay)
    emitter.place, emitter.function = unit.place, unit.name
    steps = StepLowering(emitter)
    if relay is not None and not paper:
        emitter.emit(_asked(RELAY, RELAY))
    arguments = [_argument(emitter, parameter.name, parameter.type) for parameter in unit.parameters]
    results = steps.calls.invoke(ClosureValue(unit, None, None), arguments, unit.arrow)
    if results or surround.empty_response:
        operands = []
        for result in results:
            operand = emitter.frozen(result) if isinstance(result, StreamValue) else result
            assert isinstance(operand, Constant | Reference)
            operands.append(operand)
        emitter.emit(ServiceCall(service=Constant(CALLBACK), name=Constant(RESPONSE), arguments=tuple(operands)))
    body = as_one(emitter.out)
    if emitter.streams:
        body = Scoped(names=emitter.streams, body=body, place=unit.place, function=unit.name)
    if surround.report_errors:
        told = ServiceCall(
            service=Constant(ERROR_HANDLER),
            name=Constant("error"),
            arguments=(ERROR, Constant(0)),
            place=unit.place,
            function=unit.name,
        )
        body = Attempt(body=body, handler=told, place=unit.place, function=unit.name)
    return LoweredFunction(body, home)


def _asked(name: str, output: str) -> ServiceCall:
    """An argument, which the host gives."""
    return ServiceCall(service=Constant(GET_DATA), name=Constant(name), arguments=(), output=output)


def _argument(emitter: Emitter, name: str, kind: AquaType) -> CallbackValue | StreamValue | Reference:
    if isinstance(kind, ArrowType):
        return CallbackValue(name, kind)
    if isinstance(kind, StreamType):
        given = emitter.fresh(f"{name}-iter")
        emitter.emit(_asked(name, given))
        stream = emitter.stream(name)
        item = emitter.fresh(f"{name}-item")
        push = Assign(value=Reference(item), target=stream.name, place=emitter.place, function=emitter.function)
        emitter.emit(Walk(iterable=Reference(given), iterator=item, mode="", body=push))
        return stream
    output = emitter.fresh(name)
    emitter.emit(_asked(name, output))
    return Reference(output)
