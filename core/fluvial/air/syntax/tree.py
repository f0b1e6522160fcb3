"""The typed tree of an AIR script.

Instructions carry their *number*: the position in a pre-order walk of the tree, the outermost instruction being 0. With the
iteration in which an instruction is met it names the instruction's run-time instance (``fluvial.air.data.facts``), so numbering
is part of the data format. Nested ``seq`` of either direction is one n-ary node; the nested ones are not numbered.

Names keep their sigil, so ``$s``, ``%m``, ``#c``, ``#$c`` and ``#%m`` are different names from ``s``.
Source: AIR grammar as of AquaVM 0.62 (docs/air.md has the grammar and the white paper's older forms).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from types import MappingProxyType
from typing import Any, TypeAlias, final

from msgspec import Struct

JsonScalar: TypeAlias = str | int | float | bool | None


# Scripts have many nodes. They form no cycles, so the garbage collector need not know them.


class Position(Struct, frozen=True, gc=False):
    """A place in a script; lines and columns count from 1, columns in characters."""

    line: int
    column: int

    def __str__(self) -> str:
        """``line:column``."""
        return f"{self.line}:{self.column}"


NOWHERE = Position(0, 0)


# --- lambdas: what hangs on a value --------------------------------------------------------------------------------


@final
class Field(Struct, frozen=True, gc=False):
    """``.name``: a field of an object, a string key of a canonicalised map."""

    name: str


@final
class Index(Struct, frozen=True, gc=False):
    """``.[3]``: an element of an array, an integer key of a canonicalised map; 0 <= index < 2**32."""

    index: int


@final
class ByName(Struct, frozen=True, gc=False):
    """``.[x]``: the field or index that the scalar or iterator ``x`` holds at run time."""

    name: str


Accessor: TypeAlias = Field | Index | ByName


class Path(Struct, frozen=True, gc=False):
    """``.$`` followed by at least one accessor."""

    accessors: tuple[Accessor, ...]


@final
class Length(Struct, frozen=True, gc=False):
    """``.length``: the whole lambda, the number of elements."""


Lambda: TypeAlias = Path | Length


# --- operands -------------------------------------------------------------------------------------------------------


class Literal(Struct, frozen=True, gc=False, eq=False):
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


class InitPeerId(Struct, frozen=True, gc=False):
    """``%init_peer_id%``: the peer that began the particle."""


class Timestamp(Struct, frozen=True, gc=False):
    """``%timestamp%``: when the particle began, in milliseconds since 1970."""


class Ttl(Struct, frozen=True, gc=False):
    """``%ttl%``: how long the particle lives, in milliseconds."""


class Error(Struct, frozen=True, gc=False):
    """``:error:``: what the handler around it has caught."""

    path: Lambda | None = None


class LastError(Struct, frozen=True, gc=False):
    """``%last_error%``: the last error that was no failed test."""

    path: Lambda | None = None


@final
class Scalar(Struct, frozen=True, gc=False):
    """A scalar or an iterator, or a part of it."""

    name: str
    path: Lambda | None = None


class CanonStream(Struct, frozen=True, gc=False):
    """``#c``: a canonicalised stream, or a part of it."""

    name: str
    path: Lambda | None = None


class CanonMap(Struct, frozen=True, gc=False):
    """``#%m``: a canonicalised stream map, or a part of it."""

    name: str
    path: Lambda | None = None


class Stream(Struct, frozen=True, gc=False):
    """``$s``: a stream; only as the target of call and ap, the source of canon and fold, the argument of new."""

    name: str


class StreamMap(Struct, frozen=True, gc=False):
    """``%m``: a stream map; in the same places as a stream."""

    name: str


STREAMS: frozenset[type] = frozenset((Stream, StreamMap))
"""The kinds of what elements are appended to."""


class PairPeer(Struct, frozen=True, gc=False):
    """White paper form: the peer of a value that names a peer and a service on it, or the value itself if it is a string.

    The value is an object with the peer under ``peer``, ``peer_id`` or ``peer_pk``, or an array ``[peer, service]``.
    """

    value: Scalar | CanonStream | CanonMap


class PairService(Struct, frozen=True, gc=False):
    """White paper form: the service of such a value, under ``service`` or ``service_id``, or the second of the array."""

    value: Scalar | CanonStream | CanonMap


Value: TypeAlias = Literal | InitPeerId | Timestamp | Ttl | Error | LastError | Scalar | CanonStream | CanonMap
Triplet: TypeAlias = Literal | InitPeerId | Scalar | CanonStream | CanonMap | PairPeer | PairService
Key: TypeAlias = Literal | Scalar | CanonStream
Iterable: TypeAlias = Literal | Scalar | CanonStream | CanonMap | Stream | StreamMap
Operand: TypeAlias = Value | Triplet | Stream | StreamMap


# --- instructions ---------------------------------------------------------------------------------------------------


class Instruction(Struct, frozen=True, gc=False, kw_only=True, eq=False):
    """What all instructions have; two trees are equal when they differ in positions only."""

    number: int
    at: Position = NOWHERE

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__struct_fields__ if name != "at")

    def __hash__(self) -> int:
        return hash((type(self), self.number))


class CallInstruction(Instruction, frozen=True, kw_only=True):
    """``(call peer (service function) [arguments] output)``."""

    peer: Triplet
    service: Triplet
    function: Triplet
    arguments: tuple[Value, ...] = ()
    output: Scalar | Stream | None = None


class Ap(Instruction, frozen=True, kw_only=True):
    """``(ap argument target)``: bind a value to a scalar or append it to a stream."""

    argument: Value
    target: Scalar | Stream


class ApMap(Instruction, frozen=True, kw_only=True):
    """``(ap (key value) %map)``: append a pair to a stream map."""

    key: Key
    argument: Value
    target: StreamMap


class Canon(Instruction, frozen=True, kw_only=True):
    """``(canon peer $stream #canon)``, ``(canon peer %map #%canon)`` or ``(canon peer %map scalar)``."""

    peer: Triplet
    source: Stream | StreamMap
    target: CanonStream | CanonMap | Scalar


class Seq(Instruction, frozen=True, kw_only=True):
    """``(seq a b)``, flattened: at least two children, none of them a Seq."""

    children: tuple[Instruction, ...]


class Par(Instruction, frozen=True, kw_only=True):
    """``(par left right)``."""

    left: Instruction
    right: Instruction


class Xor(Instruction, frozen=True, kw_only=True):
    """``(xor left right)``: right runs when left fails catchably."""

    left: Instruction
    right: Instruction


class Match(Instruction, frozen=True, kw_only=True):
    """``(match left right body)``."""

    left: Value
    right: Value
    body: Instruction


class Mismatch(Instruction, frozen=True, kw_only=True):
    """``(mismatch left right body)``."""

    left: Value
    right: Value
    body: Instruction


class Fold(Instruction, frozen=True, kw_only=True):
    """``(fold iterable iterator body last?)``."""

    iterable: Iterable
    iterator: str
    body: Instruction
    last: Instruction | None = None


class Next(Instruction, frozen=True, kw_only=True):
    """``(next iterator)``."""

    iterator: str


class New(Instruction, frozen=True, kw_only=True):
    """``(new name body)``: a fresh meaning of ``name`` inside ``body``."""

    target: Scalar | Stream | StreamMap | CanonStream | CanonMap
    body: Instruction


class FailLiteral(Instruction, frozen=True, kw_only=True):
    """``(fail code "text")``; code is not 0."""

    error_code: int
    message: str


class FailValue(Instruction, frozen=True, kw_only=True):
    """``(fail value)`` with an error object in a scalar, a part of one, ``%last_error%`` or ``:error:``."""

    value: Scalar | CanonStream | LastError | Error


class Null(Instruction, frozen=True, kw_only=True):
    """``(null)``: nothing, complete."""


class Never(Instruction, frozen=True, kw_only=True):
    """``(never)``: nothing, never complete."""


# by kind: asking a tree's node for its kind is quicker than asking kind after kind whether the node is one
_CHILDREN: Mapping[type[Instruction], Callable[[Any], tuple[Instruction, ...]]] = MappingProxyType(
    {
        Seq: attrgetter("children"),
        Par: attrgetter("left", "right"),
        Xor: attrgetter("left", "right"),
        Match: lambda one: (one.body,),
        Mismatch: lambda one: (one.body,),
        Fold: lambda one: (one.body,) if one.last is None else (one.body, one.last),
        New: lambda one: (one.body,),
    }
)
_OPERANDS: Mapping[type[Instruction], Callable[[Any], tuple[Operand, ...]]] = MappingProxyType(
    {
        CallInstruction: lambda one: (one.peer, one.service, one.function, *one.arguments),
        Ap: lambda one: (one.argument,),
        ApMap: attrgetter("key", "argument"),
        Canon: attrgetter("peer", "source"),
        Match: attrgetter("left", "right"),
        Mismatch: attrgetter("left", "right"),
        Fold: lambda one: (one.iterable,),
        FailValue: lambda one: (one.value,),
    }
)


def children(instruction: Instruction) -> tuple[Instruction, ...]:
    """The instructions directly inside one, in text order."""
    parts = _CHILDREN.get(type(instruction))
    return parts(instruction) if parts is not None else ()


def operands(instruction: Instruction) -> tuple[Operand, ...]:
    """What an instruction reads, in text order; not what it writes, and not what instructions inside of it read."""
    parts = _OPERANDS.get(type(instruction))
    return parts(instruction) if parts is not None else ()


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


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Script:
    """A checked script, ready to run.

    Attributes:
        root: the outermost instruction, number 0.
        size: how many instructions there are; numbers are below it.
        paper: whether an older form of the white paper was met, so that calls accept pairs as peers.
        analyses: results of what was worked out of it.
    """

    root: Instruction
    size: int
    paper: bool = False
    analyses: dict[object, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    def __hash__(self) -> int:
        """By identity: trees are deep, and what is worked out once per script is kept by the object."""
        return id(self)
