"""What stands in a particle's journal: the machine's log records, and between them notes of the peer, which the machine need not know of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from fluvial.air.data.log import Merged, Record, Sealed, Stepped, decode_record
from fluvial.encoding import decode
from fluvial.particles.notice import Notice, decode_notice
from fluvial.storage.particle_rows import JournalEntry

ARRIVED: Final = "arrived"
NOTICED: Final = "noticed"
"""A failure notice, as it came."""

RESENT: Final = "resent"
"""The particle is to be sent to a peer to which others had promised to send it."""

NOTES: Final = frozenset({ARRIVED, NOTICED, RESENT})
"""Kinds of entries that are no records of the machine."""

_KINDS: Final[dict[type[Record], str]] = {Merged: "merged", Stepped: "stepped", Sealed: "sealed"}


class Arrival(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A copy of the particle came in; the record after it says what was new.

    Attributes:
        sender: public key of the peer that handed it over.
        hops: how many peers that copy had been handed to.
    """

    sender: bytes
    hops: int


class Resent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The particle is sent to a peer in place of others.

    Attributes:
        peer: public key of that peer.
        frame, node: the instance for which it was promised.
    """

    peer: bytes
    frame: bytes
    node: int


def kind_of(record: Record) -> str:
    """The word under which a record of the machine is stored."""
    return _KINDS[type(record)]


def records_of(entries: Iterable[JournalEntry]) -> Iterator[Record]:
    """The machine's records among journal entries.

    Raises:
        RemoteProtocolError: an entry is damaged.
    """
    return (record for _, record in timed_records_of(entries))


def timed_records_of(entries: Iterable[JournalEntry]) -> Iterator[tuple[int, Record]]:
    """The machine's records among journal entries, with the times at which they were stored, in milliseconds since 1970.

    Raises:
        RemoteProtocolError: an entry is damaged.
    """
    return ((entry.at_ms, decode_record(entry.payload)) for entry in entries if entry.kind not in NOTES)


def hops_of(entries: Iterable[JournalEntry]) -> int:
    """The most hops that a copy of the particle had made when it came here again; 0 if none came.

    Raises:
        RemoteProtocolError: an entry is damaged.
    """
    arrivals = (decode(entry.payload, Arrival, what="arrival") for entry in entries if entry.kind == ARRIVED)
    return max((arrival.hops for arrival in arrivals), default=0)


def notices_of(entries: Iterable[JournalEntry]) -> Iterator[Notice]:
    """The failure notices among journal entries.

    Raises:
        RemoteProtocolError: an entry is damaged.
    """
    return (decode_notice(entry.payload).notice for entry in entries if entry.kind == NOTICED)


def resent_of(entries: Iterable[JournalEntry]) -> Iterator[tuple[int, Resent]]:
    """To whom the particle was sent in place of others, and when, in milliseconds since 1970.

    Raises:
        RemoteProtocolError: an entry is damaged.
    """
    return ((entry.at_ms, decode(entry.payload, Resent, what="resend")) for entry in entries if entry.kind == RESENT)
