"""Authorization ``vouching``: peers say how much others count, sign it, and tell it to whoever they are connected with.

A peer counts as much as this one says; of others' statements those count that come from a peer who counts here, and never for more than
that peer. A service whose deployment asks for ``{"weight": 3}`` can be called by peers of at least this weight, and ``vouch`` by the node alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.abc import TaskStatus
from fluvial import hookimpl
from fluvial.effectors import Call, Effector, NoConfig, function
from fluvial.encoding import decode, encode
from fluvial.errors import FluvialError, RemoteProtocolError
from fluvial.identity import PeerId, verify
from fluvial.offers import Registry
from fluvial.particle import Particle
from fluvial.ports import Context
from fluvial.seats import ALLOWED, Answer, Authorization, Contributions, Decision, Json
from fluvial.tables import SortedText, Tables, new_metadata, per_dialect
from sqlalchemy import BigInteger, Column, Connection, LargeBinary, Table, select

PROTOCOL = "/vouching/1"
TABLES = Tables(name="vouching", migrations=Path(__file__).parent / "vouching_migrations")
STATEMENTS_MAX = 1_000
GOSSIP_S = 5.0

metadata = new_metadata()
statements = Table(
    "vouching_statements",
    metadata,
    Column("issuer", SortedText, primary_key=True),
    Column("subject", SortedText, primary_key=True),
    Column("weight", BigInteger, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
)
UPSERT = per_dialect(
    lambda insert: (new := insert(statements)).on_conflict_do_update(
        index_elements=["issuer", "subject"],
        set_={name: new.excluded[name] for name in ("weight", "at_ms", "signature")},
        where=statements.c.at_ms < new.excluded.at_ms,
    )
)


class Statement(msgspec.Struct, frozen=True, array_like=True):
    issuer: str
    subject: str
    weight: int
    at_ms: int
    signature: bytes = b""

    def signed_part(self) -> bytes:
        return b"vouching" + encode([self.issuer, self.subject, self.weight, self.at_ms])

    def is_signed(self) -> bool:
        try:
            issuer = PeerId.parse(self.issuer)
            PeerId.parse(self.subject)
        except ValueError:
            return False
        return 0 <= self.weight <= 1000 and verify(issuer.public_key, self.signature, self.signed_part())


class Vouch(Effector[NoConfig]):
    """Who counts for how much."""

    service_id = "vouch"

    def __init__(self, part: Vouching) -> None:
        super().__init__()
        self._part = part

    @function
    async def trust(self, peer: PeerId, weight: int) -> None:
        """Say how much a peer counts, and tell others."""
        await self._part.state(peer, weight)

    @function(inline=True)
    def weight(self, peer: PeerId) -> int:
        """How much a peer counts here."""
        return self._part.weight(peer)


class Vouching(Authorization):
    def __init__(self, context: Context, options: NoConfig) -> None:
        self._context = context
        self._me = context.keys.peer_id
        self._said: dict[tuple[str, str], Statement] = {}
        self._version = 0
        self._news = anyio.Event()

    def contributions(self) -> Contributions:
        answer = Answer(protocol=PROTOCOL, by=self._hear)
        return Contributions(answers=(answer,), services=(Vouch(self),), watchers=(self,))

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        rows = await self._context.database.read(lambda connection: connection.execute(select(statements)).all())
        self._said = {(row.issuer, row.subject): Statement(*row) for row in rows}
        task_status.started()
        while True:
            with anyio.move_on_after(GOSSIP_S):
                await self._news.wait()
            self._news = anyio.Event()
            await self._gossip()

    @hookimpl
    def fluvial_peer_connected(self) -> None:
        self._news.set()

    async def admit(self, particle: Particle, sender: PeerId) -> Decision:
        return ALLOWED

    async def permit(self, call: Call, policy: Json | None) -> Decision:
        if call.service == "vouch" and call.function == "trust" and call.initiator != self._me:
            return Decision(False, "vouch", "only the node itself says whom it trusts")
        if policy is not None:
            wanted = policy.get("weight") if isinstance(policy, dict) else None
            if not isinstance(wanted, int) or self.weight(call.initiator) < wanted:
                return Decision(False, "weight", f"{call.initiator} counts for less than {policy!r}")
        return ALLOWED

    @property
    def version(self) -> int:
        return self._version

    def weight(self, peer: PeerId) -> int:
        own = self._own(peer)
        others = [min(said.weight, self._own(said.issuer)) for said in self._said.values() if said.subject == peer]
        return max((own, *others))

    async def state(self, subject: PeerId, weight: int) -> None:
        said = Statement(str(self._me), str(subject), weight, self._context.clock.now_ms())
        signature = self._context.keys.sign(said.signed_part())
        await self._take([msgspec.structs.replace(said, signature=signature)])
        self._news.set()

    def _own(self, peer: str) -> int:
        said = self._said.get((self._me, peer))
        return 1000 if peer == self._me else said.weight if said is not None else 0

    async def _take(self, said: Sequence[Statement]) -> None:
        news = [
            one for one in said if (old := self._said.get((one.issuer, one.subject))) is None or old.at_ms < one.at_ms
        ][: STATEMENTS_MAX - len(self._said)]
        if not news:
            return

        def write(connection: Connection) -> None:
            connection.execute(UPSERT[connection.dialect.name], [msgspec.structs.asdict(one) for one in news])

        await self._context.database.write(write)
        self._said |= {(one.issuer, one.subject): one for one in news}
        self._version += 1

    async def _gossip(self) -> None:
        payload = encode(list(self._said.values()))
        for peer in sorted(self._context.peers.connected()):
            try:
                await self._context.peers.send(peer, PROTOCOL, payload)
            except FluvialError as error:
                self._context.log.debug("gossip_failed", other=peer, error=str(error))

    async def _hear(self, sender: PeerId, payload: bytes) -> bytes:
        said: Any = decode(payload, list[Statement], what="statements")
        if not all(one.is_signed() for one in said):
            raise RemoteProtocolError("a statement is not signed by its issuer")
        await self._take([one for one in said if one.issuer != self._me])
        return b""


@hookimpl
def fluvial_register(registry: Registry) -> None:
    registry.authorization("vouching", Vouching, options=NoConfig, tables=TABLES)
