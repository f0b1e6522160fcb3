"""The typed tree of an AIR script.

Instructions carry their *number*: the position in a pre-order walk of the tree, the outermost instruction being 0. With the
iteration in which an instruction is met it names the instruction's run-time instance (``fluvial.air.data.facts``), so numbering
is part of the data format. Nested ``seq`` of either direction is one n-ary node; the nested ones are not numbered.

Names keep their sigil, so ``$s``, ``%m``, ``#c``, ``#$c`` and ``#%m`` are different names from ``s``.
Source: AIR grammar as of AquaVM 0.62 (docs/air.md has the grammar and the white paper's older forms).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

JsonScalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a script; lines and columns count from 1, columns in characters."""

    line: int
    column: int

    def __str__(self) -> str:
        """``line:column``."""
        return f"{self.line}:{self.column}"


NOWHERE = Position(0, 0)


# --- lambdas: what hangs on a value --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """``.name``: a field of an object, a string key of a canonicalised map."""

    name: str


@dataclass(frozen=True, slots=True)
class Index:
    """``.[3]``: an element of an array, an integer key of a canonicalised map; 0 <= index < 2**32."""

    index: int


@dataclass(frozen=True, slots=True)
class ByName:
    """``.[x]``: the field or index that the scalar or iterator ``x`` holds at run time."""

    name: str


Accessor: TypeAlias = Field | Index | ByName


@dataclass(frozen=True, slots=True)
class Path:
    """``.$`` followed by at least one accessor."""

    accessors: tuple[Accessor, ...]


@dataclass(frozen=True, slots=True)
class Length:
    """``.length``: the whole lambda, the number of elements."""


Lambda: TypeAlias = Path | Length


# --- operands -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Literal:
    """A string, number, boolean or the empty array written in the script.

    Literals are equal when they are the same JSON text: ``1``, ``1.0`` and ``true`` are three, as are ``0.0`` and ``-0.0``.
    """

    value: JsonScalar | tuple[()]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Literal):
            return NotImplemented
        return repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        return hash(repr(self.value))


@dataclass(frozen=True, slots=True)
class InitPeerId:
    """``%init_peer_id%``: the peer that began the particle."""


@dataclass(frozen=True, slots=True)
class Timestamp:
    """``%timestamp%``: when the particle began, in milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Ttl:
    """``%ttl%``: how long the particle lives, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Error:
    """``:error:``: what the handler around it has caught."""

    path: Lambda | None = None


@dataclass(frozen=True, slots=True)
class LastError:
    """``%last_error%``: the last error that was no failed test."""

    path: Lambda | None = None


@dataclass(frozen=True, slots=True)
class Scalar:
    """A scalar or an iterator, or a part of it."""

    name: str
    path: Lambda | None = None


@dataclass(frozen=True, slots=True)
class CanonStream:
    """``#c``: a canonicalised stream, or a part of it."""

    name: str
    path: Lambda | None = None


@dataclass(frozen=True, slots=True)
class CanonMap:
    """``#%m``: a canonicalised stream map, or a part of it."""

    name: str
    path: Lambda | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """``$s``: a stream; only as the target of call and ap, the source of canon and fold, the argument of new."""

    name: str


@dataclass(frozen=True, slots=True)
class StreamMap:
    """``%m``: a stream map; in the same places as a stream."""

    name: str


@dataclass(frozen=True, slots=True)
class PairPeer:
    """White paper form: the peer of a value that names a peer and a service on it, or the value itself if it is a string.

    The value is an object with the peer under ``peer``, ``peer_id`` or ``peer_pk``, or an array ``[peer, service]``.
    """

    value: Scalar | CanonStream | CanonMap


@dataclass(frozen=True, slots=True)
class PairService:
    """White paper form: the service of such a value, under ``service`` or ``service_id``, or the second of the array."""

    value: Scalar | CanonStream | CanonMap


Value: TypeAlias = Literal | InitPeerId | Timestamp | Ttl | Error | LastError | Scalar | CanonStream | CanonMap
Triplet: TypeAlias = Literal | InitPeerId | Scalar | CanonStream | CanonMap | PairPeer | PairService
Key: TypeAlias = Literal | Scalar | CanonStream
Iterable: TypeAlias = Literal | Scalar | CanonStream | CanonMap | Stream | StreamMap
Operand: TypeAlias = Value | Triplet | Stream | StreamMap


# --- instructions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """What all instructions have; two trees are equal when they differ in positions only."""

    number: int
    at: Position = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Instruction):
    """``(call peer (service function) [arguments] output)``."""

    peer: Triplet
    service: Triplet
    function: Triplet
    arguments: tuple[Value, ...] = ()
    output: Scalar | Stream | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ap(Instruction):
    """``(ap argument target)``: bind a value to a scalar or append it to a stream."""

    argument: Value
    target: Scalar | Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class ApMap(Instruction):
    """``(ap (key value) %map)``: append a pair to a stream map."""

    key: Key
    argument: Value
    target: StreamMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Canon(Instruction):
    """``(canon peer $stream #canon)``, ``(canon peer %map #%canon)`` or ``(canon peer %map scalar)``."""

    peer: Triplet
    source: Stream | StreamMap
    target: CanonStream | CanonMap | Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Seq(Instruction):
    """``(seq a b)``, flattened: at least two children, none of them a Seq."""

    children: tuple[Instruction, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Par(Instruction):
    """``(par left right)``."""

    left: Instruction
    right: Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Xor(Instruction):
    """``(xor left right)``: right runs when left fails catchably."""

    left: Instruction
    right: Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Match(Instruction):
    """``(match left right body)``."""

    left: Value
    right: Value
    body: Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch(Instruction):
    """``(mismatch left right body)``."""

    left: Value
    right: Value
    body: Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold(Instruction):
    """``(fold iterable iterator body last?)``."""

    iterable: Iterable
    iterator: str
    body: Instruction
    last: Instruction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Next(Instruction):
    """``(next iterator)``."""

    iterator: str


@dataclass(frozen=True, slots=True, kw_only=True)
class New(Instruction):
    """``(new name body)``: a fresh meaning of ``name`` inside ``body``."""

    target: Scalar | Stream | StreamMap | CanonStream | CanonMap
    body: Instruction


@dataclass(frozen=True, slots=True, kw_only=True)
class FailLiteral(Instruction):
    """``(fail code "text")``; code is not 0."""

    error_code: int
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailValue(Instruction):
    """``(fail value)`` with an error object in a scalar, a part of one, ``%last_error%`` or ``:error:``."""

    value: Scalar | CanonStream | LastError | Error


@dataclass(frozen=True, slots=True, kw_only=True)
class Null(Instruction):
    """``(null)``: nothing, complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Never(Instruction):
    """``(never)``: nothing, never complete."""


def children(instruction: Instruction) -> tuple[Instruction, ...]:
    """The instructions directly inside one, in text order."""
    match instruction:
        case Seq():
            return instruction.children
        case Par() | Xor():
            return (instruction.left, instruction.right)
        case Fold(last=None) | Match() | Mismatch() | New():
            return (instruction.body,)
        case Fold(last=Instruction() as last):
            return (instruction.body, last)
        case _:
            return ()


def operands(instruction: Instruction) -> tuple[Operand, ...]:
    """What an instruction reads, in text order; not what it writes, and not what instructions inside of it read."""
    match instruction:
        case Call():
            return (instruction.peer, instruction.service, instruction.function, *instruction.arguments)
        case Ap():
            return (instruction.argument,)
        case ApMap():
            return (instruction.key, instruction.argument)
        case Canon():
            return (instruction.peer, instruction.source)
        case Match() | Mismatch():
            return (instruction.left, instruction.right)
        case Fold():
            return (instruction.iterable,)
        case FailValue():
            return (instruction.value,)
        case _:
            return ()


def names_in(operand: Operand) -> Iterator[str]:
    """The names that an operand reads: its own, and those in its lambda."""
    match operand:
        case PairPeer(value) | PairService(value):
            yield from names_in(value)
            return
        case Scalar(name) | CanonStream(name) | CanonMap(name) | Stream(name) | StreamMap(name):
            yield name
    path = getattr(operand, "path", None)
    if isinstance(path, Path):
        yield from (accessor.name for accessor in path.accessors if isinstance(accessor, ByName))


def walk(root: Instruction) -> Iterator[Instruction]:
    """Every instruction in pre-order, the root first; ``number`` counts in this order."""
    stack = [root]
    while stack:
        instruction = stack.pop()
        yield instruction
        stack.extend(reversed(children(instruction)))


@dataclass(frozen=True, slots=True)
class Script:
    """A checked script, ready to run.

    Attributes:
        root: the outermost instruction, number 0.
        size: how many instructions there are; numbers are below it.
        paper: whether an older form of the white paper was met, so that calls accept pairs as peers.
    """

    root: Instruction
    size: int
    paper: bool = False

    def __hash__(self) -> int:
        """By identity: trees are deep, and what is worked out once per script is kept by the object."""
        return id(self)
