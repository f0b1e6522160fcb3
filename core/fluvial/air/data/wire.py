"""How data travels: ids that the receiver can work out itself are not sent.

What is signed speaks of values and batches by 32-byte ids (``facts``, ``batch``). On the way an id is a number: its place in a list that
begins with the ids of the contents sent along, in their order, whole ones before partial ones; then come the ids that are sent as they are;
then those of the batches sent along, in their order. Signers are numbers likewise, in a list of keys sent once. The receiver puts the ids back, and with them
has the very bytes that were signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeAlias, final

import msgspec

from fluvial.air.data.batch import Batch, Known, Signed
from fluvial.air.data.content import ContentId, Json, check_json, content_id
from fluvial.air.data.facts import (
    Argument,
    CallFailure,
    CanonFact,
    Closed,
    Element,
    Item,
    Result,
    Sent,
    Step,
    Taken,
)
from fluvial.air.data.partial import Content, Partial
from fluvial.air.data.proofs import ArrayPart, ObjectPart, read_proof, write_proof
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError

SEEN_MAX: Final = 250_000
"""Batches that the steps of a delivery name together: a byte on the way may stand for 34 that are signed and stored."""


class _WireRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of what is encoded; numbers stand for ids."""


@final
class WireResult(_WireRecord, frozen=True, tag=0):
    """A :class:`Result`; arguments are pairs of an id's number and a path."""

    frame: bytes
    node: int
    service: str
    function: str
    arguments: tuple[tuple[int, tuple[str | int, ...]], ...]
    value: int


@final
class WireFailure(_WireRecord, frozen=True, tag=1):
    """A :class:`CallFailure`."""

    frame: bytes
    node: int
    service: str
    function: str
    arguments: tuple[tuple[int, tuple[str | int, ...]], ...]
    status: int
    message: str


@final
class WireCanon(_WireRecord, frozen=True, tag=2):
    """A :class:`CanonFact`; elements are (id's number, frame, node)."""

    frame: bytes
    node: int
    elements: tuple[tuple[int, bytes, int], ...]


@final
class WireSent(_WireRecord, frozen=True, tag=3):
    """A :class:`Sent`."""

    frame: bytes
    node: int
    complete: bool


@final
class WireTaken(_WireRecord, frozen=True, tag=4):
    """A :class:`Taken`."""

    frame: bytes
    node: int


@final
class WireStep(_WireRecord, frozen=True, tag=5):
    """A :class:`Step`; ``seen`` are numbers of ids."""

    seen: tuple[int, ...]


@final
class WireClosed(_WireRecord, frozen=True, tag=6):
    """A :class:`Closed`; the root is sent as it is: nothing else that travels has it."""

    frame: bytes
    nodes: tuple[int, ...]
    root: bytes


WireItem: TypeAlias = WireResult | WireFailure | WireCanon | WireSent | WireTaken | WireStep | WireClosed


class WireBatch(_WireRecord, frozen=True):
    """A batch: the number of its signer, its items, the signature."""

    signer: int
    items: tuple[WireItem, ...]
    signature: bytes


class WireData(_WireRecord, frozen=True):
    """All of it.

    Attributes:
        contents: values, each once.
        parts: values that are sent in part, each once.
        ids: ids of values and batches that are not sent along.
        signers: public keys.
        batches: in an order in which each comes after those that its steps name.
    """

    contents: tuple[Json, ...] = ()
    parts: tuple[ArrayPart | ObjectPart, ...] = ()
    ids: tuple[bytes, ...] = ()
    signers: tuple[bytes, ...] = ()
    batches: tuple[WireBatch, ...] = ()


def _numbered(contents: Sequence[ContentId], batches: Sequence[Batch]) -> tuple[dict[bytes, int], list[bytes]]:
    """The number of each id, and the ids that must be sent as they are, in the order in which they are first needed."""
    numbers: dict[bytes, int] = {key: number for number, key in enumerate(contents)}
    along = {batch.id for batch in batches}
    ids: list[bytes] = []
    for batch in batches:
        for item in batch.signed.items:
            for key in _ids(item):
                if key not in numbers and key not in along:
                    numbers[key] = len(numbers)
                    ids.append(key)
    first = len(numbers)
    numbers.update((batch.id, first + position) for position, batch in enumerate(batches))
    return numbers, ids


def _ids(item: Item) -> Iterable[bytes]:
    if type(item) is Result:
        return [*[argument.root for argument in item.arguments], item.value]
    if type(item) is Step:
        return item.seen
    if type(item) is CallFailure:
        return [argument.root for argument in item.arguments]
    if type(item) is CanonFact:
        return [element.value for element in item.elements]
    return ()


def encode_data(batches: Sequence[Batch], contents: Mapping[ContentId, Content]) -> bytes:
    """The bytes that travel.

    Args:
        batches: in an order in which each comes after those that its steps name.
        contents: the values to send along; those of which only the id is known are not.
    """
    whole = sorted(key for key, known in contents.items() if not isinstance(known, Partial))
    partial = {key: known for key, known in contents.items() if isinstance(known, Partial) and known.tree is not None}
    keys = [*whole, *sorted(partial)]
    numbers, ids = _numbered(keys, batches)
    signers = {key: number for number, key in enumerate(dict.fromkeys(batch.signed.signer for batch in batches))}
    written = tuple(
        WireBatch(
            signers[batch.signed.signer],
            tuple([_to_wire(item, numbers) for item in batch.signed.items]),
            batch.signed.signature,
        )
        for batch in batches
    )
    values = tuple(contents[key] for key in whole)
    proofs = tuple(write_proof(partial[key]) for key in sorted(partial))
    return encode(WireData(values, proofs, tuple(ids), tuple(signers), written))


def _to_wire(item: Item, numbers: Mapping[bytes, int]) -> WireItem:
    if type(item) is Result:
        arguments = tuple([(numbers[argument.root], argument.path) for argument in item.arguments])
        return WireResult(item.frame, item.node, item.service, item.function, arguments, numbers[item.value])
    if type(item) is Step:
        return WireStep(tuple([numbers[key] for key in item.seen]))
    if type(item) is Sent:
        return WireSent(item.frame, item.node, item.complete)
    if type(item) is Taken:
        return WireTaken(item.frame, item.node)
    if type(item) is CallFailure:
        arguments = tuple([(numbers[argument.root], argument.path) for argument in item.arguments])
        return WireFailure(item.frame, item.node, item.service, item.function, arguments, item.status, item.message)
    if type(item) is Closed:
        return WireClosed(item.frame, item.nodes, item.root)
    elements = tuple([(numbers[one.value], one.frame, one.node) for one in item.elements])
    return WireCanon(item.frame, item.node, elements)


def decode_data(particle: bytes, data: bytes) -> Known:
    """What received bytes stand for, with every signature verified and every content id computed. Empty bytes are empty data.

    Args:
        particle: the particle's key, 32 bytes.
        data: what was received.

    Raises:
        RemoteProtocolError: the bytes are malformed, a value is no JSON, or a batch is not signed by its signer for this particle.
    """
    if not data:
        return Known((), {})
    wire = decode(data, WireData, what="particle data")
    if any(len(key) != 32 for key in wire.ids):
        raise RemoteProtocolError("an id in the data does not have 32 bytes")
    if sum(len(item.seen) for one in wire.batches for item in one.items if type(item) is WireStep) > SEEN_MAX:
        raise RemoteProtocolError(f"the steps in the data name more than {SEEN_MAX:,} batches")
    contents = _contents(wire)
    ids: list[bytes] = [*contents, *wire.ids]
    batches: list[Batch] = []
    for one in wire.batches:
        try:
            items = tuple([_from_wire(item, ids) for item in one.items])
            signer = _at(wire.signers, one.signer)
        except IndexError as error:
            raise RemoteProtocolError("a number in the data stands for no id") from error
        batch = Batch.verified(particle, Signed(signer, items, one.signature))
        batch.prepare()
        batches.append(batch)
        ids.append(batch.id)
    return Known(tuple(batches), contents)


def _contents(wire: WireData) -> dict[ContentId, Content]:
    """The values sent along, by the ids that follow from them, in their order."""
    contents: dict[ContentId, Content] = {}
    try:
        for value in wire.contents:
            check_json(value)
            contents[content_id(value)] = value
        for part in wire.parts:
            partial = read_proof(part)
            assert partial.id is not None, "it follows from the proof"
            contents[partial.id] = partial
    except ValueError as error:
        raise RemoteProtocolError(f"a content cannot be used: {error}") from error
    except RecursionError as error:
        raise RemoteProtocolError("a content is nested too deeply") from error
    if len(contents) != len(wire.contents) + len(wire.parts):
        raise RemoteProtocolError("a content is sent twice")
    return contents


def _at(places: Sequence[bytes], number: int) -> bytes:
    if number < 0:
        raise IndexError(number)
    return places[number]


def _from_wire(item: WireItem, ids: Sequence[bytes]) -> Item:
    if type(item) is WireResult:
        arguments = tuple([Argument(ContentId(_at(ids, number)), path) for number, path in item.arguments])
        value = ContentId(_at(ids, item.value))
        return Result(item.frame, item.node, item.service, item.function, arguments, value)
    if type(item) is WireStep:
        return Step(tuple([_at(ids, number) for number in item.seen]))
    if type(item) is WireSent:
        return Sent(item.frame, item.node, item.complete)
    if type(item) is WireTaken:
        return Taken(item.frame, item.node)
    if type(item) is WireFailure:
        arguments = tuple([Argument(ContentId(_at(ids, number)), path) for number, path in item.arguments])
        return CallFailure(item.frame, item.node, item.service, item.function, arguments, item.status, item.message)
    if type(item) is WireClosed:
        return Closed(item.frame, item.nodes, item.root)
    elements = tuple([Element(ContentId(_at(ids, number)), frame, node) for number, frame, node in item.elements])
    return CanonFact(item.frame, item.node, elements)
