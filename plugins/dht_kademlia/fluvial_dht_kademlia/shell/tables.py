"""Reads and writes the tables of the DHT inside of a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec
from fluvial.addresses import Address, Contact
from fluvial.encoding import decode, encode
from fluvial.identity import PeerId
from fluvial.prepared import KeptStatements, Transaction

from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.keyspace import Key, key_bytes
from fluvial_dht_kademlia.machine.limits import ADDRESSES_MAX
from fluvial_dht_kademlia.machine.publications import Publication
from fluvial_dht_kademlia.machine.record_store import KeptRecord, RecordStore
from fluvial_dht_kademlia.machine.records import ProviderRecord
from fluvial_dht_kademlia.shell.address_book import BookEntry

_KEPT: Final = KeptStatements("fluvial_dht_kademlia.shell.definitions", Path(__file__).with_name("definitions.sql"))
_PUT_CONTACT: Final = _KEPT["put_contact"]
_DROP_CONTACT: Final = _KEPT["drop_contact"]
_CONTACTS: Final = _KEPT["contacts"]
_PUT_RECORD: Final = _KEPT["put_record"]
_DROP_RECORD: Final = _KEPT["drop_record"]
_RECORDS: Final = _KEPT["records"]
_DROP_EXPIRED: Final = _KEPT["drop_expired"]
_PUT_PUBLICATION: Final = _KEPT["put_publication"]
_DROP_PUBLICATION: Final = _KEPT["drop_publication"]
_PUBLICATIONS: Final = _KEPT["publications"]
_PUT_PROVIDED: Final = _KEPT["put_provided"]
_DROP_PROVIDED: Final = _KEPT["drop_provided"]
_PROVIDED: Final = _KEPT["provided"]


class Provided(msgspec.Struct, frozen=True):
    """What this peer was told to provide, beside its capabilities."""

    challenge: Challenge
    value: bytes = b""
    service: str = ""


def write_contacts(transaction: Transaction, changes: Sequence[tuple[PeerId, BookEntry | None]]) -> None:
    """Write what has changed in the address book."""
    kept = [
        {"peer": peer, "addresses": " ".join(map(str, entry.tried[:ADDRESSES_MAX])), "seen_ms": entry.seen_at}
        for peer, entry in changes
        if entry is not None
    ]
    gone = [{"gone": peer} for peer, entry in changes if entry is None]
    if kept:
        transaction.change(_PUT_CONTACT, kept)
    if gone:
        transaction.change(_DROP_CONTACT, gone)


def read_contacts(transaction: Transaction, count_max: int) -> list[tuple[Contact, int]]:
    """The address book, the most recently seen last; entries that cannot be read are left out."""
    found: list[tuple[Contact, int]] = []
    for row in transaction.each(_CONTACTS, {"most": count_max}):
        try:
            contact = Contact(PeerId.parse(row.peer), tuple(map(Address.parse, row.addresses.split())))
        except ValueError:  # written by another version
            continue
        found.append((contact, row.seen_ms))
    return found[::-1]


RecordRow = tuple[Key, PeerId, "tuple[Challenge, KeptRecord] | None"]
"""A key and a provider with what is kept now; None if nothing is."""


def changed_records(store: RecordStore) -> list[RecordRow]:
    """What has changed in a store since the last call, as values for :func:`write_records`."""
    return [(key, peer, store.kept(key, peer)) for key, peer in sorted(store.take_changes())]


def write_records(transaction: Transaction, rows: Sequence[RecordRow]) -> None:
    """Write what has changed among the records that are kept."""
    kept, gone = [], []
    for key, peer, found in rows:
        if found is None:
            gone.append({"of": key_bytes(key), "by": peer})
            continue
        challenge, one = found
        kept.append(
            {
                "key": key_bytes(key),
                "provider": peer,
                "challenge": encode(challenge),
                "record": encode(one.record),
                "since_ms": one.since,
                "expires_ms": one.record.fields.expires_at_ms,
                "sender": one.sender or "",
            }
        )
    if kept:
        transaction.change(_PUT_RECORD, kept)
    if gone:
        transaction.change(_DROP_RECORD, gone)


def read_records(transaction: Transaction, now: int) -> list[tuple[Challenge, KeptRecord]]:
    """The records that are kept and have not expired; those of before are deleted at the next write of their key."""
    found: list[tuple[Challenge, KeptRecord]] = []
    for row in transaction.each(_RECORDS, {"now": now}):
        challenge = decode(row.challenge, Challenge, what="challenge in the database")
        record = decode(row.record, ProviderRecord, what="record in the database")
        sender = PeerId.parse(row.sender) if row.sender else None
        found.append((challenge, KeptRecord(record, row.since_ms, now, sender)))
    return found


def drop_expired(transaction: Transaction, now: int) -> None:
    """Delete the records that have expired."""
    transaction.change(_DROP_EXPIRED, {"now": now})


def write_publications(transaction: Transaction, changed: Iterable[Publication], gone: Iterable[Key]) -> None:
    """Write this peer's own records."""
    rows = [
        {"key": key_bytes(one.challenge.key), "challenge": encode(one.challenge), "record": encode(one.record)}
        for one in changed
    ]
    if rows:
        transaction.change(_PUT_PUBLICATION, rows)
    if dropped := [{"of": key_bytes(key)} for key in gone]:
        transaction.change(_DROP_PUBLICATION, dropped)


def read_publications(transaction: Transaction) -> list[Publication]:
    """This peer's own records."""
    return [
        Publication(
            decode(row.challenge, Challenge, what="challenge in the database"),
            decode(row.record, ProviderRecord, what="record in the database"),
        )
        for row in transaction.each(_PUBLICATIONS)
    ]


def write_provided(transaction: Transaction, one: Provided) -> None:
    """Keep what this peer was told to provide."""
    row = {
        "key": key_bytes(one.challenge.key),
        "challenge": encode(one.challenge),
        "value": one.value,
        "service": one.service,
    }
    transaction.change(_PUT_PROVIDED, row)


def delete_provided(transaction: Transaction, key: Key) -> None:
    """Forget what this peer was told to provide at a key."""
    transaction.change(_DROP_PROVIDED, {"of": key_bytes(key)})


def read_provided(transaction: Transaction) -> list[Provided]:
    """What this peer was told to provide."""
    return [
        Provided(decode(row.challenge, Challenge, what="challenge in the database"), row.value, row.service)
        for row in transaction.each(_PROVIDED)
    ]
