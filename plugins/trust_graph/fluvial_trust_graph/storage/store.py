"""What is read and written in the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.ports import Database
from fluvial.prepared import KeptStatements, Parameters, Prepared, Transaction
from fluvial.prepared import Statement as PreparedStatement

from fluvial_trust_graph.statements import Statement, decode_statement, encode_statement

REMOVED: Final = -1
"""As an exponent: the peer is no root, whatever the settings say."""
BATCH: Final = 500
"""Rows of one write: some milliseconds, so that others wait no longer for the writer."""

_KEPT: Final = KeptStatements("fluvial_trust_graph.storage.definitions", Path(__file__).with_name("definitions.sql"))
_STATEMENTS: Final = _KEPT["statements"]
_PUT: Final = _KEPT["put"]
_REMOVE: Final = _KEPT["remove"]
_ROOTS: Final = _KEPT["roots"]
_SET_ROOT: Final = _KEPT["set_root"]


class StatementStore:
    """The statements that this peer keeps.

    Args:
        database: of the node.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> tuple[Sequence[Statement], Mapping[PeerId, int]]:
        """All statements, and the roots that were set; raises StorageError."""
        return await self._database.read(Prepared(lambda found: (read_statements(found), read_roots(found))))

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
            await self._change(_PUT, rows[at : at + BATCH])

    async def remove(self, pairs: Sequence[tuple[PeerId, PeerId]]) -> None:
        """Forget what issuers stated about subjects; raises StorageError."""
        rows = [{"by": issuer.public_key, "about": subject.public_key} for issuer, subject in pairs]
        for at in range(0, len(rows), BATCH):
            await self._change(_REMOVE, rows[at : at + BATCH])

    async def set_root(self, peer: PeerId, exponent: int) -> None:
        """Make a peer a root, or :data:`REMOVED`; raises StorageError."""
        await self._change(_SET_ROOT, [{"peer": peer.public_key, "exponent": exponent}])

    async def _change(self, statement: PreparedStatement, rows: Sequence[Parameters]) -> None:
        await self._database.write(Prepared(lambda transaction: transaction.change(statement, rows)))


def read_statements(transaction: Transaction) -> list[Statement]:
    """All statements; what another version wrote and this one cannot read is left out."""
    found = []
    for (data,) in transaction.each(_STATEMENTS):
        try:
            found.append(decode_statement(data))
        except RemoteProtocolError:
            continue
    return found


def read_roots(transaction: Transaction) -> dict[PeerId, int]:
    """The roots that were set while the peer ran; :data:`REMOVED` for those that were removed."""
    return {PeerId.from_public_key(peer): exponent for peer, exponent in transaction.each(_ROOTS)}


def effective_roots(
    me: PeerId, own_exponent: int, configured: Mapping[str, int], stored: Mapping[PeerId, int]
) -> dict[PeerId, int]:
    """The roots that count: this peer, those of the settings, and over both what was set while it ran."""
    found = {me: own_exponent, **{PeerId.parse(peer): exponent for peer, exponent in configured.items()}}
    found.update(stored)
    return {peer: exponent for peer, exponent in found.items() if exponent >= 0}
