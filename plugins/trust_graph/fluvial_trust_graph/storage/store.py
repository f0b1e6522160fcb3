"""The tables, and what is read and written in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.ports import Database
from fluvial.tables import new_metadata, per_dialect
from sqlalchemy import BigInteger, Column, ColumnElement, Connection, LargeBinary, Table, and_, delete, or_, select

from fluvial_trust_graph.statements import Statement, decode_statement, encode_statement

REMOVED: Final = -1
"""As an exponent: the peer is no root, whatever the settings say."""
BATCH: Final = 500
"""Rows of one write: some milliseconds, so that others wait no longer for the writer."""

metadata = new_metadata()
statements = Table(
    "trust_statements",
    metadata,
    Column("issuer", LargeBinary(32), primary_key=True),
    Column("subject", LargeBinary(32), primary_key=True),
    Column("statement", LargeBinary, nullable=False),
)
roots = Table(
    "trust_roots",
    metadata,
    Column("peer", LargeBinary(32), primary_key=True),
    Column("exponent", BigInteger, nullable=False),
)
_PUT = per_dialect(
    lambda insert: (new := insert(statements)).on_conflict_do_update(
        index_elements=["issuer", "subject"], set_={"statement": new.excluded.statement}
    )
)
_SET_ROOT = per_dialect(
    lambda insert: (new := insert(roots)).on_conflict_do_update(
        index_elements=["peer"], set_={"exponent": new.excluded.exponent}
    )
)


class StatementStore:
    """The statements that this peer keeps.

    Args:
        database: of the node.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> tuple[Sequence[Statement], Mapping[PeerId, int]]:
        """All statements, and the roots that were set; raises StorageError."""
        return await self._database.read(lambda connection: (read_statements(connection), read_roots(connection)))

    async def put(self, found: Sequence[Statement]) -> None:
        """Keep statements in place of what their issuers stated before about the same subjects; durable on return. Raises StorageError."""
        rows = [
            {
                "issuer": one.issuer.public_key,
                "subject": one.subject.public_key,
                "statement": encode_statement(one),
            }
            for one in found
        ]
        for at in range(0, len(rows), BATCH):
            await self._write(rows[at : at + BATCH])

    async def _write(self, rows: Sequence[Mapping[str, bytes]]) -> None:
        def write(connection: Connection) -> None:
            connection.execute(_PUT[connection.dialect.name], rows)

        await self._database.write(write)

    async def remove(self, pairs: Sequence[tuple[PeerId, PeerId]]) -> None:
        """Forget what issuers stated about subjects; raises StorageError."""
        for at in range(0, len(pairs), BATCH // 5):
            some = [(issuer.public_key, subject.public_key) for issuer, subject in pairs[at : at + BATCH // 5]]
            chosen = or_(*(and_(statements.c.issuer == one, statements.c.subject == other) for one, other in some))
            await self._database.write(lambda connection, chosen=chosen: _delete(connection, chosen))  # type: ignore[misc]

    async def set_root(self, peer: PeerId, exponent: int) -> None:
        """Make a peer a root, or :data:`REMOVED`; raises StorageError."""
        row = {"peer": peer.public_key, "exponent": exponent}

        def write(connection: Connection) -> None:
            connection.execute(_SET_ROOT[connection.dialect.name], [row])

        await self._database.write(write)


def _delete(connection: Connection, chosen: ColumnElement[bool]) -> None:
    connection.execute(delete(statements).where(chosen))


def read_statements(connection: Connection) -> list[Statement]:
    """All statements; what another version wrote and this one cannot read is left out."""
    found = []
    for (data,) in connection.execute(select(statements.c.statement)):
        try:
            found.append(decode_statement(data))
        except RemoteProtocolError:
            continue
    return found


def read_roots(connection: Connection) -> dict[PeerId, int]:
    """The roots that were set while the peer ran; :data:`REMOVED` for those that were removed."""
    rows: Iterable[tuple[bytes, int]] = (
        tuple(row) for row in connection.execute(select(roots.c.peer, roots.c.exponent))
    )
    return {PeerId.from_public_key(peer): exponent for peer, exponent in rows}


def effective_roots(
    me: PeerId, own_exponent: int, configured: Mapping[str, int], stored: Mapping[PeerId, int]
) -> dict[PeerId, int]:
    """The roots that count: this peer, those of the settings, and over both what was set while it ran."""
    found = {me: own_exponent, **{PeerId.parse(peer): exponent for peer, exponent in configured.items()}}
    found.update(stored)
    return {peer: exponent for peer, exponent in found.items() if exponent >= 0}
