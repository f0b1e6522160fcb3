"""What a peer keeps of a particle: records in the order in which things happened, enough to rebuild the machine.

The order of stream elements is not a function of the set of facts alone: it depends on the order of arrival. So the local log is kept, too.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeAlias

import msgspec

from fluvial.air.data.batch import Signed
from fluvial.air.data.content import ContentId, Json
from fluvial.air.data.content_slices import sliced_content_id
from fluvial.air.data.facts import CallFailure, CanonFact, Result, Sent, Taken
from fluvial.air.data.pace import Found, SlicePace, finished
from fluvial.air.data.partial import Content, Partial, id_of
from fluvial.air.data.proofs import ArrayPart, ObjectPart, reading_proof, writing_proof
from fluvial.encoding import decode, encode


class LogRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of the records."""


class Merged(LogRecord, frozen=True, tag="merged"):
    """Batches arrived, in the order in which they were taken in, with values that they or earlier ones speak of, whole or in part."""

    batches: tuple[Signed, ...]
    contents: tuple[Json, ...]
    parts: tuple[ArrayPart | ObjectPart, ...] = ()


class Stepped(LogRecord, frozen=True, tag="stepped"):
    """This peer added facts, with the values they speak of.

    ``evaluated`` is false when the run that the facts came with was undone: they count, but nothing was done with them yet.
    """

    facts: tuple[Result | CallFailure | CanonFact | Sent | Taken, ...]
    contents: tuple[Json, ...]
    parts: tuple[ArrayPart | ObjectPart, ...] = ()
    evaluated: bool = True


class Sealed(LogRecord, frozen=True, tag="sealed"):
    """The steps since the last seal were signed and given away as this batch."""

    batch: Signed


Record: TypeAlias = Merged | Stepped | Sealed


SplitContents: TypeAlias = tuple[tuple[Json, ...], tuple[ArrayPart | ObjectPart, ...]]
"""Values as records keep them: whole ones, and those of which some part is known."""


def split_contents(contents: Collection[Content]) -> SplitContents:
    """Values as records keep them."""
    return finished(splitting_contents(contents))


def splitting_contents(contents: Collection[Content]) -> Found[SplitContents]:
    """As :func:`split_contents`, in slices."""
    whole: list[Json] = []
    parts: list[ArrayPart | ObjectPart] = []
    pace = SlicePace()
    for known in contents:
        if not isinstance(known, Partial):
            whole.append(known)
        elif known.tree is not None:
            parts.append((yield from writing_proof(known, pace)))
        if pace.over():
            yield
    return tuple(whole), tuple(parts)


def contents_of(record: Merged | Stepped) -> Found[dict[ContentId, Content]]:
    """The values in a record, by id, in slices."""
    contents: dict[ContentId, Content] = {}
    pace = SlicePace()
    for json in record.contents:
        contents[(yield from sliced_content_id(json))] = json
        if pace.over():
            yield
    for proof in record.parts:
        part = yield from reading_proof(proof, pace)
        contents[id_of(part)] = part
    return contents


def encode_record(record: Record) -> bytes:
    """The bytes to store."""
    return encode(record)


def decode_record(data: bytes) -> Record:
    """The record that stored bytes stand for.

    Raises:
        RemoteProtocolError: they are none; what was stored here can only be damaged.
    """
    return decode(data, Record, what="log record")  # type: ignore[arg-type]  # a union is no type to mypy
