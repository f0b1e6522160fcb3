"""Which operands may stand where: the grammar's small print, with what errors say about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeGuard, TypeVar

from fluvial.air.syntax.tree import (
    STREAMS,
    CanonMap,
    CanonStream,
    Error,
    InitPeerId,
    Iterable,
    Key,
    LastError,
    Literal,
    Scalar,
    Stream,
    StreamMap,
    Triplet,
    Value,
)
from fluvial.air.syntax.words import Operand

T = TypeVar("T")

# tuples, not unions: a union is made anew each time
_CANONS = (CanonStream, CanonMap)

NewTarget: TypeAlias = Scalar | Stream | StreamMap | CanonStream | CanonMap
FailSource: TypeAlias = Scalar | CanonStream | LastError | Error


@dataclass(frozen=True, slots=True)
class OperandSlot(Generic[T]):
    """A place for an operand.

    Attributes:
        name: as errors call it.
        takes: whether an operand may stand here.
        hint: what may.
    """

    name: str
    takes: Callable[[Operand], TypeGuard[T]]
    hint: str


def _is_value(operand: Operand) -> TypeGuard[Value]:
    return type(operand) not in STREAMS


def _is_ap_value(operand: Operand) -> TypeGuard[Value]:
    return _is_value(operand) and not (isinstance(operand, CanonMap) and operand.path is None)


def _is_function(operand: Operand) -> TypeGuard[Literal | Scalar | CanonStream | CanonMap]:
    if isinstance(operand, Literal):
        return isinstance(operand.value, str)
    return isinstance(operand, Scalar) or (isinstance(operand, _CANONS) and operand.path is not None)


def _is_peer(operand: Operand) -> TypeGuard[Triplet]:
    return type(operand) is InitPeerId or _is_function(operand)


def _is_key(operand: Operand) -> TypeGuard[Key]:
    match operand:
        case Literal(value):
            return isinstance(value, str | int) and not isinstance(value, bool)
        case CanonStream(path=path):
            return path is not None
        case _:
            return isinstance(operand, Scalar)


def _is_iterable(operand: Operand) -> TypeGuard[Iterable]:
    match operand:
        case Literal(value):
            return value == ()
        case CanonStream(path=path):
            return path is None
        case _:
            return isinstance(operand, (Scalar, CanonMap, Stream, StreamMap))


def _is_output(operand: Operand) -> TypeGuard[Scalar | Stream]:
    return _is_plain_scalar(operand) or isinstance(operand, Stream)


def _is_plain_scalar(operand: Operand) -> TypeGuard[Scalar]:
    return isinstance(operand, Scalar) and operand.path is None


def _is_canon_source(operand: Operand) -> TypeGuard[Stream | StreamMap]:
    return type(operand) in STREAMS


def _is_canon_of_stream(operand: Operand) -> TypeGuard[CanonStream]:
    return isinstance(operand, CanonStream) and operand.path is None


def _is_canon_of_map(operand: Operand) -> TypeGuard[CanonMap | Scalar]:
    return isinstance(operand, (CanonMap, Scalar)) and operand.path is None


def _is_map(operand: Operand) -> TypeGuard[StreamMap]:
    return isinstance(operand, StreamMap)


def _is_new_target(operand: Operand) -> TypeGuard[NewTarget]:
    if isinstance(operand, (Scalar, CanonStream, CanonMap)):
        return operand.path is None
    return type(operand) in STREAMS


def _is_fail_source(operand: Operand) -> TypeGuard[FailSource]:
    match operand:
        case Error(path=path) | LastError(path=path):
            return path is None
        case CanonStream(path=path):
            return path is not None
        case _:
            return isinstance(operand, Scalar)


def _is_code(operand: Operand) -> TypeGuard[Literal]:
    return isinstance(operand, Literal) and isinstance(operand.value, int) and not isinstance(operand.value, bool)


_PARTS = "a string, a scalar, or a part of a value (`x.$.name`, `#c.$.[0]`, `#%m.$.key`)"
_VALUES = (
    "a literal, a scalar, a canonicalised stream or map, or a part of one; a stream must be fixed with `canon` first"
)

PEER = OperandSlot("a peer", _is_peer, f"a peer is `%init_peer_id%`, {_PARTS}")
SERVICE = OperandSlot("a service", _is_function, f"a service is {_PARTS}")
FUNCTION = OperandSlot("a function", _is_function, f"a function is {_PARTS}")
ARGUMENT = OperandSlot("an argument of a call", _is_value, f"an argument is {_VALUES}")
COMPARED = OperandSlot("a compared value", _is_value, f"a test compares {_VALUES}")
AP_VALUE = OperandSlot(
    "the value of `ap`", _is_ap_value, "`ap` takes any value but a stream or a whole canonicalised map"
)
KEY = OperandSlot("the key of a stream map", _is_key, "a key is a string, an integer, a scalar or a part of a value")
OUTPUT = OperandSlot("the output of a call", _is_output, "an output is a scalar's name or a `$stream`")
AP_TARGET = OperandSlot(
    "the target of `ap`", _is_output, "a target is a scalar's name or a `$stream`; a `%map` takes `(KEY VALUE)`"
)
MAP = OperandSlot("the target of a pair", _is_map, "a pair goes to a stream map: `%name`")
CANON_SOURCE = OperandSlot("what `canon` fixes", _is_canon_source, "`canon` fixes a `$stream` or a `%map`")
STREAM_CANON = OperandSlot("the canon of a stream", _is_canon_of_stream, "it is called `#name` or `#$name`")
MAP_CANON = OperandSlot("the canon of a stream map", _is_canon_of_map, "it is called `#%name`, or is a scalar's name")
ITERABLE = OperandSlot(
    "what `fold` runs over", _is_iterable, "a fold runs over a scalar or part of it, `#c`, `#%m`, `$s`, `%m` or `[]`"
)
ITERATOR = OperandSlot("an iterator", _is_plain_scalar, "an iterator is a plain name")
NEW_TARGET = OperandSlot(
    "what `new` renews", _is_new_target, "`new` takes a whole scalar, `$stream`, `%map`, `#canon` or `#%canon`"
)
FAIL_CODE = OperandSlot("the code of `fail`", _is_code, "a code is an integer other than 0")
FAIL_SOURCE = OperandSlot(
    "an error value", _is_fail_source, "fail with a scalar, a part of a value, `%last_error%` or `:error:`"
)
