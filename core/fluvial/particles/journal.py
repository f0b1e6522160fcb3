"""What stands in a particle's journal: the machine's log records, who handed the particle over, and what other peers failed at."""

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

_KINDS: Final[dict[type[Record], str]] = {Merged: "merged", Stepped: "stepped", Sealed: "sealed"}


class Arrival(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A copy of the particle came in; the record after it says what was new.

    Attributes:
        sender: public key of the peer that handed it over.
        hops: how many peers that copy had been handed to.
    """

    sender: bytes
    hops: int


def kind_of(record: Record) -> str:
    """The word under which a record of the machine is stored."""
    return _KINDS[type(record)]


def records_of(entries: Iterable[JournalEntry]) -> Iterator[Record]:
    """The machine's records among journal entries.

    Raises:
        RemoteProtocolError: an entry is damaged.
    """
    return (decode_record(entry.payload) for entry in entries if entry.kind not in (ARRIVED, NOTICED))


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
