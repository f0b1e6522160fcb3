"""Facts: all that is stored, signed and sent of a flow. What can be computed from facts is not stored.

A fact is about one run-time *instance* of an instruction, named by (frame, node):

- ``node`` is the instruction's number in the script (``syntax.tree``);
- ``frame`` is empty outside of folds, else :func:`iteration_frame` of the fold iteration in which the instruction is met.

The same instance has the same name on every peer, whatever the order of arrival. Whose fact it is, is said by the batch that holds it.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple, TypeAlias, final

import msgspec

from fluvial.air.data.content import ContentId

FRAME_BYTES: Final = 16
ROOT_FRAME: Final = b""


class Instance(NamedTuple):
    """The name of one run-time instance of an instruction."""

    frame: bytes
    node: int


def iteration_frame(base: bytes, fold: int, element: bytes) -> bytes:
    """The frame of one iteration of a fold: 16 bytes.

    Args:
        base: the frame in which the fold stands.
        fold: number of the fold instruction.
        element: :func:`index_element` or :func:`written_element` of the element it runs for.
    """
    return hashlib.sha256(base + fold.to_bytes(4, "big") + element).digest()[:FRAME_BYTES]


def index_element(index: int) -> bytes:
    """Names an element of something that is the same on all peers: an array, a canonicalised stream or map."""
    return b"i" + index.to_bytes(4, "big")


def written_element(writer: tuple[bytes, int]) -> bytes:
    """Names an element of a stream or stream map, whose order is local: by the instance that wrote it."""
    frame, node = writer
    return b"w" + frame + node.to_bytes(4, "big")


class CanonicalRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of everything in a batch: encoded as an array that begins with its tag.

    Records hold nothing that could lead back to them, and there are many: the garbage collector need not look at them. Where there are
    many their kind is asked for with ``type``: ``isinstance`` is slow with a Struct when the answer is no.
    """


class Argument(CanonicalRecord, frozen=True):
    """Names an argument by the value it is a part of, so that a fact can be checked when contents are gone.

    Attributes:
        root: content id of the whole value (a call's result, an array that a canon fixed, a literal).
        path: field names and indices that lead to the argument; empty for the whole.
    """

    root: ContentId
    path: tuple[str | int, ...] = ()


@final
class Result(CanonicalRecord, frozen=True, tag="result"):
    """The signer's service answered a call.

    Attributes:
        frame, node: the call's instance.
        service, function: what was called.
        arguments: what it was called with.
        value: content id of the answer.
    """

    frame: bytes
    node: int
    service: str
    function: str
    arguments: tuple[Argument, ...]
    value: ContentId


@final
class CallFailure(CanonicalRecord, frozen=True, tag="failure"):
    """The signer's service failed a call.

    Attributes:
        status: the service's error number, not 0.
        message: what the service said, usually a JSON text.
        others: as for :class:`Result`.
    """

    frame: bytes
    node: int
    service: str
    function: str
    arguments: tuple[Argument, ...]
    status: int
    message: str


@final
class Closed(CanonicalRecord, frozen=True, tag="closed"):
    """The signer's service answered these calls, and nobody else can need to know what.

    Attributes:
        frame: of the calls.
        nodes: their numbers, in ascending order.
        root: ``content.merkle_root`` over the canonical bytes of the :class:`Result` facts that it stands for, in this order. It binds
            the signer to them.
    """

    frame: bytes
    nodes: tuple[int, ...]
    root: bytes


class Element(CanonicalRecord, frozen=True):
    """One element that a canon fixed. It does not say where the value comes from: that follows from what the instance is (``machine.origins``).

    Attributes:
        value: its content id.
        frame, node: the instance that wrote it.
    """

    value: ContentId
    frame: bytes
    node: int


@final
class CanonFact(CanonicalRecord, frozen=True, tag="canon"):
    """The signer fixed the content of a stream or map."""

    frame: bytes
    node: int
    elements: tuple[Element, ...]


@final
class Sent(CanonicalRecord, frozen=True, tag="sent"):
    """The signer has handed the particle on for a call or canon of another peer; ``complete``: all arguments were known to it."""

    frame: bytes
    node: int
    complete: bool


@final
class Taken(CanonicalRecord, frozen=True, tag="taken"):
    """The signer is making this call; its result will come from there."""

    frame: bytes
    node: int


@final
class Step(CanonicalRecord, frozen=True, tag="step"):
    """Begins a step inside a batch: the facts after it were added together, when these further batches were known to the signer."""

    seen: tuple[bytes, ...] = ()


Outcome: TypeAlias = Result | CallFailure
Fact: TypeAlias = Result | CallFailure | Closed | CanonFact | Sent | Taken
Item: TypeAlias = Result | CallFailure | Closed | CanonFact | Sent | Taken | Step


def instances_of(fact: Fact) -> tuple[Instance, ...]:
    """The instances that a fact is about: one, but of :class:`Closed` as many as it closes."""
    if isinstance(fact, Closed):
        return tuple([Instance(fact.frame, node) for node in fact.nodes])
    return (Instance(fact.frame, fact.node),)
