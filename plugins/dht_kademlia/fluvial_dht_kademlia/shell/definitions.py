"""The tables of the DHT and its statements, as SQLAlchemy has them; a peer on SQLite has their texts beside this file and does not import it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fluvial.prepared import Statement
from fluvial.tables import SortedText, new_metadata, per_dialect
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    LargeBinary,
    Table,
    Text,
    bindparam,
    delete,
    literal_column,
    select,
)

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
    Column("sender", Text, nullable=False, server_default=""),
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
        set_={name: one.excluded[name] for name in ("challenge", "record", "since_ms", "expires_ms", "sender")},
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

_BY_KEY: Final[BindParameter[Any]] = bindparam("of")

STATEMENTS: Final[Mapping[str, Statement]] = {
    "put_contact": Statement(_put_contact, columns=contacts.c.keys()),
    "drop_contact": Statement(delete(contacts).where(contacts.c.peer == bindparam("gone"))),
    "contacts": Statement(
        select(contacts)
        .order_by(contacts.c.seen_ms.desc(), contacts.c.peer)
        .limit(bindparam("most"))
        .offset(literal_column("0"))
    ),
    "put_record": Statement(_put_record, columns=records.c.keys()),
    "drop_record": Statement(delete(records).where(records.c.key == _BY_KEY, records.c.provider == bindparam("by"))),
    "records": Statement(select(records).where(records.c.expires_ms > bindparam("now")).order_by(records.c.since_ms)),
    "drop_expired": Statement(delete(records).where(records.c.expires_ms <= bindparam("now"))),
    "put_publication": Statement(_put_publication, columns=publications.c.keys()),
    "drop_publication": Statement(delete(publications).where(publications.c.key == _BY_KEY)),
    "publications": Statement(select(publications).order_by(publications.c.key)),
    "put_provided": Statement(_put_provided, columns=provided.c.keys()),
    "drop_provided": Statement(delete(provided).where(provided.c.key == _BY_KEY)),
    "provided": Statement(select(provided).order_by(provided.c.key)),
}
