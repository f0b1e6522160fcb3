"""Vertices of the DAG, the messages that carry them, and what is persisted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Final, TypeAlias

import msgspec
from fluvial.consensus.engine import MessageDescription
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.blocks import PAYLOAD_BYTES_MAX, TIME_MAX
from fluvial.ledger.statements import VALIDATORS_MAX, Digest, Index, Signature, Slot
from fluvial.ledger.transactions import TRANSACTION_BYTES_MAX

WEAK_MAX: Final = 16
"""Parents of older rounds in one vertex."""
VERTEX_PAYLOAD_BYTES_MAX: Final = PAYLOAD_BYTES_MAX // 4
VERTEX_PAYLOAD_BYTES_MIN: Final = TRANSACTION_BYTES_MAX + 8_192
"""The largest transaction finds room in a vertex, however many authors there are."""
RECORD_BYTES_MAX: Final = 2 << 20
"""Of the vertices in one record, if it has more than one."""
BUNDLE_MAX: Final = 256
BUNDLE_BYTES_MAX: Final = 512 << 10


def payload_max(authors: int) -> int:
    """How many bytes the payload of a vertex may have: so many authors share a block, who make one vertex each in a round, and all of them are kept for many rounds."""
    return min(VERTEX_PAYLOAD_BYTES_MAX, max(PAYLOAD_BYTES_MAX // authors, VERTEX_PAYLOAD_BYTES_MIN))


class Parent(msgspec.Struct, frozen=True, array_like=True):
    """A reference to a vertex; round and author are repeated, so that a vertex can be judged before its parents are here."""

    round: Slot
    author: Index
    id: Digest


class Vertex(msgspec.Struct, frozen=True, array_like=True, dict=True):
    """A block of one author in one round.

    Attributes:
        parents: the author's previous vertex first, then others of the round before, then older ones.
        time_ms: the author's clock.
        signature: a VERTEX statement about the id.
    """

    epoch: Slot
    round: Annotated[int, msgspec.Meta(ge=1, le=2**62)]
    author: Index
    parents: Annotated[tuple[Parent, ...], msgspec.Meta(max_length=VALIDATORS_MAX + WEAK_MAX + 1)]
    payload: Annotated[bytes, msgspec.Meta(max_length=PAYLOAD_BYTES_MAX)]
    time_ms: Annotated[int, msgspec.Meta(ge=0, le=TIME_MAX)]
    signature: Signature

    @cached_property
    def id(self) -> bytes:
        """The vertex's id: everything but the signature."""
        fields = (self.epoch, self.round, self.author, self.parents, self.payload, self.time_ms)
        return sha256(b"fluvial/vertex/1\0" + encode(fields)).digest()

    @property
    def reference(self) -> Parent:
        """How children name it."""
        return Parent(self.round, self.author, self.id)


class NewVertex(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """An author's new vertex."""

    vertex: Vertex


class Bundle(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Vertices that were asked for, older ones first."""

    vertices: Annotated[tuple[Vertex, ...], msgspec.Meta(max_length=BUNDLE_MAX)]


class Pull(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Ask for vertices with all of their history that the asking peer lacks.

    Attributes:
        ids: which; empty asks for whatever is lacking.
        have: for each author the highest round of which the asking peer has a vertex, and so its history.
    """

    ids: Annotated[tuple[Digest, ...], msgspec.Meta(max_length=64)]
    have: Annotated[tuple[Slot, ...], msgspec.Meta(max_length=VALIDATORS_MAX)]


DagMessage: TypeAlias = NewVertex | Bundle | Pull


class VerticesRecord(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Vertices that were accepted, in order; one's own is the last one of those that are written together."""

    vertices: tuple[Vertex, ...]


class WindowRecord(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Where an engine stands: with the vertices from a round on, which are in other records, all that matters.

    Attributes:
        decided: the last slot that was decided.
        floor: the first round that is kept.
        own_round: the last one in which a vertex was made here.
        vertices: none any more; earlier versions have written all of them here, in place of the records before.
        delivered: ids, among the vertices, whose payloads are ordered already.
    """

    decided: int
    floor: int
    own_round: int
    vertices: tuple[Vertex, ...]
    delivered: tuple[bytes, ...]


class AwayRecord(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """The ledger was too far ahead, at this slot: nothing is ordered here until the graph shows what others had ordered."""

    slot: int


DagRecord: TypeAlias = VerticesRecord | WindowRecord | AwayRecord


def vertex_records(vertices: Iterable[Vertex]) -> Iterator[VerticesRecord]:
    """Records of all these vertices, in order, none of them large."""
    part: list[Vertex] = []
    room = RECORD_BYTES_MAX
    for vertex in vertices:
        size = size_of(vertex)
        if part and size > room:
            yield VerticesRecord(tuple(part))
            part, room = [], RECORD_BYTES_MAX
        part.append(vertex)
        room -= size
    if part:
        yield VerticesRecord(tuple(part))


def size_of(vertex: Vertex) -> int:
    """About how many bytes a vertex has in a message or a record."""
    return len(vertex.payload) + 100 + 50 * len(vertex.parents)


def read_dag_message(data: bytes) -> DagMessage | None:
    """The message that bytes stand for; None if they stand for none."""
    try:
        return decode(data, DagMessage, what="message of the DAG")  # type: ignore[arg-type]  # a union
    except RemoteProtocolError:
        return None


def describe(data: bytes) -> MessageDescription | None:
    """What a message is about; for the laboratory."""
    match read_dag_message(data):
        case NewVertex(vertex):
            return MessageDescription("vertex", vertex.epoch, vertex.round, vertex.author, vertex.id)
        case Bundle(vertices):
            return MessageDescription("bundle", 0, vertices[-1].round if vertices else 0, None)
        case Pull():
            return MessageDescription("pull", 0, 0, None)
    return None


def payloads(data: bytes) -> Sequence[bytes]:
    """The payloads in a message."""
    match read_dag_message(data):
        case NewVertex(vertex):
            return (vertex.payload,)
        case Bundle(vertices):
            return [one.payload for one in vertices]
    return ()


def reseal(data: bytes, signer: int) -> bytes | None:
    """The same vertex under another author's name; its signature is wrong then."""
    message = read_dag_message(data)
    if not isinstance(message, NewVertex):
        return None
    return encode(NewVertex(msgspec.structs.replace(message.vertex, author=signer)))
