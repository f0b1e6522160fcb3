"""The instruction tree: what is done where, before the way from peer to peer is put in.

Each instruction knows whether anything in it needs a certain peer, and how far the names that it reads and writes reach: positions count
instructions in the order in which they were made, which is the order of the text.
"""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from fluvial_aqua.checking.tree import TextPlace
from fluvial_aqua.model.operands import Operand, Reference


class Relay(Struct, frozen=True, gc=False):
    """A peer on the way, or several if the value is a collection."""

    peer: Operand
    many: bool = False


class Station(Struct, eq=False):
    """Where code runs: the peer of an ``on``, the relays on the way to it, and the station around it. Equal only to itself."""

    peer: Operand
    relays: tuple[Relay, ...]
    parent: Station | None
    place: TextPlace | None = None

    @property
    def chain(self) -> tuple[Station, ...]:
        """From the outermost station to this one."""
        chain = [self]
        while (parent := chain[-1].parent) is not None:
            chain.append(parent)
        return tuple(reversed(chain))


class ModelOp(Struct, eq=False, kw_only=True, gc=False):
    """What all instructions have.

    Attributes:
        place: the Aqua text that it comes from.
        function: the Aqua function that text is in.
    """

    place: TextPlace | None = None
    function: str = ""


class Sequence(ModelOp, gc=False):
    """One after the other."""

    steps: list[Instruction]


class Parallel(ModelOp, gc=False):
    """All at once; ``detached`` if what follows waits for none of them."""

    branches: list[Instruction]
    detached: bool = False


class Attempt(ModelOp, gc=False):
    """``handler`` runs if ``body`` fails."""

    body: Instruction
    handler: Instruction


class Alternative(ModelOp, gc=False):
    """``then`` if the operands are equal (or unequal), else ``otherwise``; what fails in either fails as it is."""

    left: Operand
    right: Operand
    equal: bool
    then: Instruction
    otherwise: Instruction | None = None


class StationVisit(ModelOp, gc=False):
    """A body at a station."""

    station: Station
    body: Instruction


class ServiceCall(ModelOp, gc=False):
    """A call at the present station."""

    service: Operand
    name: Operand
    arguments: tuple[Operand, ...]
    output: str = ""


class Assign(ModelOp, gc=False):
    """A value goes to a scalar, or into a stream."""

    value: Operand
    target: str


class PutPair(ModelOp, gc=False):
    """A pair goes into a stream map."""

    key: Operand
    value: Operand
    target: str


class Freeze(ModelOp, gc=False):
    """A stream or map is fixed at the present station, under a new name."""

    stream: str
    target: str


class Decide(ModelOp, gc=False):
    """A scalar becomes one value if two operands are equal, else another one."""

    left: Operand
    right: Operand
    target: str
    equal: Operand
    unequal: Operand


class Shortcut(ModelOp, gc=False):
    """``&&`` and ``||``: the target is ``left`` if that equals ``stop``, else ``body`` sets it."""

    left: Operand
    stop: Operand
    target: str
    body: Instruction


class Walk(ModelOp, gc=False):
    """A loop; ``mode`` is ``""``, ``par``, ``try``, ``rec`` or ``parseq``."""

    iterable: Operand
    iterator: str
    mode: str
    body: Instruction


class StreamGate(ModelOp, gc=False):
    """Until a stream has an element of this index here, or so many elements if ``counts``; ``target`` is its content then."""

    stream: str
    index: Operand
    counts: bool
    target: str
    names: tuple[str, ...]


class Wherever(ModelOp, gc=False):
    """The elements of an optional list that can be had: the first of them, or nothing, goes into a stream."""

    choices: list[Instruction]


class Scoped(ModelOp, gc=False):
    """Fresh meanings of names."""

    names: list[str]
    body: Instruction


class Nothing(ModelOp, gc=False):
    """No instruction."""


Instruction: TypeAlias = (
    Sequence
    | Parallel
    | Attempt
    | Alternative
    | StationVisit
    | ServiceCall
    | Assign
    | PutPair
    | Freeze
    | Decide
    | Shortcut
    | Walk
    | StreamGate
    | Wherever
    | Scoped
    | Nothing
)


def names_read(op: ModelOp) -> list[str]:
    """The names that an instruction itself reads, not those inside of it."""
    match op:
        case ServiceCall():
            operands: tuple[Operand, ...] = (op.service, op.name, *op.arguments)
        case Assign():
            operands = (op.value,)
        case PutPair():
            operands = (op.key, op.value)
        case Alternative() | Decide():
            operands = (op.left, op.right)
        case Shortcut():
            operands = (op.left,)
        case Walk():
            operands = (op.iterable,)
        case StationVisit(station=station):
            operands = (station.peer, *(relay.peer for relay in station.relays))
        case Freeze():
            return [op.stream]
        case StreamGate():
            return [op.stream, *_names((op.index,))]
        case _:
            return []
    return _names(operands)


def names_written(op: ModelOp) -> list[str]:
    """The names that an instruction itself sets or appends to."""
    match op:
        case ServiceCall():
            return [op.output] if op.output else []
        case Assign() | PutPair() | Freeze() | Decide() | Shortcut() | StreamGate():
            return [op.target]
        case _:
            return []


def _names(operands: tuple[Operand, ...]) -> list[str]:
    names = []
    for operand in operands:
        if isinstance(operand, Reference):
            names.append(operand.name)
            names += [part[2:-1] for part in operand.path if part.startswith(".[") and not part[2:-1].isdigit()]
    return names


def inner(op: ModelOp) -> list[Instruction]:
    """The instructions directly inside of one, in the order of the text."""
    match op:
        case Sequence():
            return op.steps
        case Parallel():
            return op.branches
        case Attempt():
            return [op.body, op.handler]
        case Alternative():
            return [op.then] if op.otherwise is None else [op.then, op.otherwise]
        case StationVisit() | Walk() | Scoped() | Shortcut():
            return [op.body]
        case Wherever():
            return op.choices
        case _:
            return []


def station_needed(op: ModelOp) -> bool:
    """Whether an instruction itself is done at a certain peer."""
    return isinstance(op, ServiceCall | Freeze | StreamGate)
