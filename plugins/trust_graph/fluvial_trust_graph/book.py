"""All statements that a peer has to do with: those it keeps, those that come in, and those it makes itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from fluvial.identity import PeerId
from fluvial.ports import Context

from fluvial_trust_graph.gossip.digest import StatementIndex
from fluvial_trust_graph.gossip.exchange import StatementExchange
from fluvial_trust_graph.intake import IntakeReport, StatementIntake
from fluvial_trust_graph.live import LiveTrust
from fluvial_trust_graph.on_ledger import LedgerPerimeters, LedgerRevocations
from fluvial_trust_graph.options import TrustGraphOptions
from fluvial_trust_graph.statements import (
    DEPTH_MAX,
    RevocationStatement,
    Statement,
    TrustStatement,
    sign_revocation,
    sign_trust,
)
from fluvial_trust_graph.storage.store import REMOVED, StatementStore, effective_roots

OWN_LIFETIME_S: Final = 31_536_000
"""How long this peer's trust in itself lasts: a year. It is renewed when half of it is over."""


class TrustBook:
    """See the module's docstring.

    Args:
        context: of the part.
        options: its settings.

    Attributes:
        me: this peer.
        network: its network.
        perimeters: those that rules may mention.
        trust: what is known.
        intake: takes statements in.
        exchange: asks others for statements, and answers them.
    """

    def __init__(self, context: Context, options: TrustGraphOptions) -> None:
        self._context = context
        self._options = options
        self.me: Final = context.keys.peer_id
        self.network: Final = context.network
        self.perimeters: Final = LedgerPerimeters(options.listed_perimeters(), context.ledger)
        self.revocations = LedgerRevocations(context.ledger, context.network, partial(self.take, sender=self.me))
        self._stored_roots: Mapping[PeerId, int] = {}
        self.trust: Final = LiveTrust(self._roots(), self._keys(), self.now())
        self._index = StatementIndex()
        self._store = StatementStore(context.database)
        self.intake: Final = StatementIntake(
            self.me,
            network=context.network,
            trust=self.trust,
            index=self._index,
            store=self._store,
            options=options,
            now_s=lambda: context.clock.now_ms() / 1000,
            metrics=context.metrics,
        )
        self.exchange: Final = StatementExchange(context, self._index, self.intake, self.trust.weight)

    def now(self) -> int:
        """The time in whole seconds."""
        return self._context.clock.now_ms() // 1000

    async def open(self) -> None:
        """Read what is stored; raises StorageError."""
        statements, self._stored_roots = await self._store.load()
        self.trust.fill(statements)
        self.follow_roots()
        for one in self.trust.statements():
            self._index.put(one)
        await self.trust_itself()

    def follow_roots(self) -> None:
        """Evaluate anew, since roots, or keys that perimeters mention, have changed."""
        self.trust.set_roots(self._roots(), self._keys())

    async def trust_itself(self) -> None:
        """Renew this peer's trust in itself, with which its chains start; raises StorageError."""
        known, now = self.trust.newest(self.me, self.me), self.now()
        if self.me not in self.trust.roots or isinstance(known, RevocationStatement):
            return
        if known is None or known.expires_at < now + OWN_LIFETIME_S // 2:
            await self.state(self.me, expires_at=now + OWN_LIFETIME_S)

    async def state(
        self, subject: PeerId, *, expires_at: int, depth: int = DEPTH_MAX, scopes: Iterable[str] = ()
    ) -> TrustStatement:
        """Sign a trust of this peer, keep it and tell others; raises StorageError, ValueError."""
        issued_at, sequence = self._moment(subject)
        trust = TrustStatement(
            network=self.network,
            issuer=self.me,
            subject=subject,
            issued_at=issued_at,
            sequence=sequence,
            expires_at=expires_at,
            depth=depth,
            scopes=tuple(sorted(set(scopes))),
        )
        signed = sign_trust(trust, self._context.keys)
        await self.take([signed], self.me)
        return signed

    async def revoke(self, subject: PeerId) -> RevocationStatement:
        """Sign a revocation of this peer, keep it and tell others; raises StorageError."""
        issued_at, sequence = self._moment(subject)
        revocation = RevocationStatement(
            network=self.network, issuer=self.me, subject=subject, issued_at=issued_at, sequence=sequence
        )
        signed = sign_revocation(revocation, self._context.keys)
        await self.take([signed], self.me)
        return signed

    def _moment(self, subject: PeerId) -> tuple[int, int]:
        """Second and sequence number of a new statement: now, or behind the newest one."""
        known, now = self.trust.newest(self.me, subject), self.now()
        if known is None or known.issued_at < now:
            return now, 0
        return known.issued_at, known.sequence + 1

    async def take(self, statements: Sequence[Statement], sender: PeerId) -> IntakeReport:
        """Take statements in and tell others what is new; raises StorageError."""
        report = await self.intake.take(statements, sender)
        self.exchange.tell(report.fresh, but=sender)
        return report

    async def set_root(self, peer: PeerId, exponent: int | None) -> None:
        """Make a peer a root, or with None take it out; raises StorageError."""
        value = REMOVED if exponent is None else exponent
        await self._store.set_root(peer, value)
        self._stored_roots = {**self._stored_roots, peer: value}
        self.follow_roots()

    def _roots(self) -> dict[PeerId, int]:
        return effective_roots(self.me, self._options.own_exponent, self._options.roots, self._stored_roots)

    def _keys(self) -> Mapping[PeerId, int]:
        found = {name: self.perimeters.get(name) for name in self.perimeters.names()}
        return self._options.keys({name: one for name, one in found.items() if one is not None})
