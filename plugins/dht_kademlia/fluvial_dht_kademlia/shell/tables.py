"""The tables of the DHT, and the functions that read and write them inside of a transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from fluvial.addresses import Address, Contact
from fluvial.encoding import decode, encode
from fluvial.identity import PeerId
from fluvial.tables import SortedText, new_metadata, per_dialect
from sqlalchemy import BigInteger, Column, Connection, LargeBinary, Table, Text, delete, select

from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.keyspace import Key, key_bytes
from fluvial_dht_kademlia.machine.limits import ADDRESSES_MAX
from fluvial_dht_kademlia.machine.publications import Publication
from fluvial_dht_kademlia.machine.record_store import KeptRecord, RecordStore
from fluvial_dht_kademlia.machine.records import ProviderRecord
from fluvial_dht_kademlia.shell.address_book import BookEntry

metadata = new_metadata()
contacts = Table(
    "kademlia_contacts",
    metadata,
    Column("peer", SortedText, primary_key=True),
    Column("addresses", Text, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
)
records = Table(
    "kademlia_records",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("provider", SortedText, primary_key=True),
    Column("challenge", LargeBinary, nullable=False),
    Column("record", LargeBinary, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
)
publications = Table(
    "kademlia_publications",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("challenge", LargeBinary, nullable=False),
    Column("record", LargeBinary, nullable=False),
)
provided = Table(
    "kademlia_provided",
    metadata,
    Column("key", LargeBinary, primary_key=True),
    Column("challenge", LargeBinary, nullable=False),
    Column("value", LargeBinary, nullable=False),
    Column("service", Text, nullable=False),
)

_put_contact = per_dialect(
    lambda insert: (one := insert(contacts)).on_conflict_do_update(
        index_elements=["peer"], set_={"addresses": one.excluded.addresses, "seen_ms": one.excluded.seen_ms}
    )
)
_put_record = per_dialect(
    lambda insert: (one := insert(records)).on_conflict_do_update(
        index_elements=["key", "provider"],
        set_={name: one.excluded[name] for name in ("challenge", "record", "since_ms", "expires_ms")},
    )
)
_put_publication = per_dialect(
    lambda insert: (one := insert(publications)).on_conflict_do_update(
        index_elements=["key"], set_={"challenge": one.excluded.challenge, "record": one.excluded.record}
    )
)
_put_provided = per_dialect(
    lambda insert: (one := insert(provided)).on_conflict_do_update(
        index_elements=["key"], set_={"value": one.excluded.value, "service": one.excluded.service}
    )
)


class Provided(msgspec.Struct, frozen=True):
    """What this peer was told to provide, beside its capabilities."""

    challenge: Challenge
    value: bytes = b""
    service: str = ""


def write_contacts(connection: Connection, changes: Sequence[tuple[PeerId, BookEntry | None]]) -> None:
    """Write what has changed in the address book."""
    kept = [
        {"peer": peer, "addresses": " ".join(map(str, entry.tried[:ADDRESSES_MAX])), "seen_ms": entry.seen_at}
        for peer, entry in changes
        if entry is not None
    ]
    gone = [peer for peer, entry in changes if entry is None]
    if kept:
        connection.execute(_put_contact[connection.dialect.name], kept)
    if gone:
        connection.execute(delete(contacts).where(contacts.c.peer.in_(gone)))


def read_contacts(connection: Connection, count_max: int) -> list[tuple[Contact, int]]:
    """The address book, the most recently seen last; entries that cannot be read are left out."""
    newest = select(contacts).order_by(contacts.c.seen_ms.desc(), contacts.c.peer).limit(count_max)
    found: list[tuple[Contact, int]] = []
    for row in connection.execute(newest):
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


def write_records(connection: Connection, rows: Sequence[RecordRow]) -> None:
    """Write what has changed among the records that are kept."""
    kept, gone = [], []
    for key, peer, found in rows:
        if found is None:
            gone.append((key, peer))
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
            }
        )
    if kept:
        connection.execute(_put_record[connection.dialect.name], kept)
    for key, peer in gone:
        connection.execute(delete(records).where(records.c.key == key_bytes(key), records.c.provider == peer))


def read_records(connection: Connection, now: int) -> list[tuple[Challenge, KeptRecord]]:
    """The records that are kept and have not expired; those of before are deleted at the next write of their key."""
    rows = connection.execute(select(records).where(records.c.expires_ms > now).order_by(records.c.since_ms))
    found: list[tuple[Challenge, KeptRecord]] = []
    for row in rows:
        challenge = decode(row.challenge, Challenge, what="challenge in the database")
        record = decode(row.record, ProviderRecord, what="record in the database")
        found.append((challenge, KeptRecord(record, row.since_ms, now)))
    return found


def drop_expired(connection: Connection, now: int) -> None:
    """Delete the records that have expired."""
    connection.execute(delete(records).where(records.c.expires_ms <= now))


def write_publications(connection: Connection, changed: Iterable[Publication], gone: Iterable[Key]) -> None:
    """Write this peer's own records."""
    rows = [
        {"key": key_bytes(one.challenge.key), "challenge": encode(one.challenge), "record": encode(one.record)}
        for one in changed
    ]
    if rows:
        connection.execute(_put_publication[connection.dialect.name], rows)
    for key in gone:
        connection.execute(delete(publications).where(publications.c.key == key_bytes(key)))


def read_publications(connection: Connection) -> list[Publication]:
    """This peer's own records."""
    return [
        Publication(
            decode(row.challenge, Challenge, what="challenge in the database"),
            decode(row.record, ProviderRecord, what="record in the database"),
        )
        for row in connection.execute(select(publications).order_by(publications.c.key))
    ]


def write_provided(connection: Connection, one: Provided) -> None:
    """Keep what this peer was told to provide."""
    row = {
        "key": key_bytes(one.challenge.key),
        "challenge": encode(one.challenge),
        "value": one.value,
        "service": one.service,
    }
    connection.execute(_put_provided[connection.dialect.name], [row])


def delete_provided(connection: Connection, key: Key) -> None:
    """Forget what this peer was told to provide at a key."""
    connection.execute(delete(provided).where(provided.c.key == key_bytes(key)))


def read_provided(connection: Connection) -> list[Provided]:
    """What this peer was told to provide."""
    return [
        Provided(decode(row.challenge, Challenge, what="challenge in the database"), row.value, row.service)
        for row in connection.execute(select(provided).order_by(provided.c.key))
    ]
