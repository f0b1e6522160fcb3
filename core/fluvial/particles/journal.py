"""What stands in a particle's journal: the records of the AIR machine, and between them the peer's own notes.

The machine is rebuilt from its records alone. The notes are for the session around it, and for those who look at the particle later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, TypeAlias

import msgspec

from fluvial.air.data.log import Merged, Record, Sealed, Stepped, decode_record, encode_record
from fluvial.encoding import decode, encode
from fluvial.particles.notice import SignedNotice, decode_notice, encode_notice
from fluvial.stored import JournalEntry

ARRIVED: Final = "arrived"
NOTICED: Final = "noticed"
RESENT: Final = "resent"
FAILED: Final = "failed"


class Arrival(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A copy of the particle came in; the record after it says what was new.

    Attributes:
        sender: public key of the peer that handed it over.
        hops: how many peers that copy had been handed to.
    """

    sender: bytes
    hops: int


class Resent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The particle is sent to a peer in place of others that had promised to send it there.

    Attributes:
        peer: public key of that peer.
        frame, node: the instance for which it was promised.
    """

    peer: bytes
    frame: bytes
    node: int


class FlowFailed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The flow has come to a limit of this peer, which takes nothing more of it.

    Attributes:
        code: number of the error.
        message: its text.
    """

    code: int
    message: str


JournalItem: TypeAlias = Record | Arrival | Resent | FlowFailed | SignedNotice
"""What one journal entry stands for; a signed notice is a failure notice as it came."""

_KINDS: Final[dict[type[JournalItem], str]] = {
    Merged: "merged",
    Stepped: "stepped",
    Sealed: "sealed",
    Arrival: ARRIVED,
    Resent: RESENT,
    FlowFailed: FAILED,
    SignedNotice: NOTICED,
}


def kind_of(item: JournalItem) -> str:
    """The word under which an item is stored."""
    return _KINDS[type(item)]


def write_entry(item: JournalItem, seq: int, at_ms: int) -> JournalEntry:
    """The entry that stands for an item.

    Args:
        item: what happened.
        seq: the entry's number in the journal, from 0 on.
        at_ms: when it happened, milliseconds since 1970.
    """
    if isinstance(item, SignedNotice):
        payload = encode_notice(item)
    elif isinstance(item, Arrival | Resent | FlowFailed):
        payload = encode(item)
    else:
        payload = encode_record(item)
    return JournalEntry(seq, at_ms, kind_of(item), payload)


def failure_in(journal: Sequence[JournalEntry]) -> FlowFailed | None:
    """The failure that ended a flow here; None if it did not fail. Raises RemoteProtocolError if that entry is damaged."""
    found = next((entry for entry in reversed(journal) if entry.kind == FAILED), None)
    return None if found is None else decode(found.payload, FlowFailed, what="failure")


def read_entry(entry: JournalEntry) -> JournalItem:
    """The item that an entry stands for.

    Raises:
        RemoteProtocolError: the entry is damaged.
    """
    match entry.kind:
        case "arrived":
            return decode(entry.payload, Arrival, what="arrival")
        case "noticed":
            return decode_notice(entry.payload)
        case "resent":
            return decode(entry.payload, Resent, what="resend")
        case "failed":
            return decode(entry.payload, FlowFailed, what="failure")
        case _:
            return decode_record(entry.payload)


def reading(journal: Sequence[JournalEntry], items: list[JournalItem]) -> Iterator[Record]:
    """The machine's records, each decoded when it is asked for; every item that was read is added to ``items``. Raises as :func:`read_entry`."""
    for entry in journal:
        items.append(item := read_entry(entry))
        if isinstance(item, Merged | Stepped | Sealed):
            yield item
