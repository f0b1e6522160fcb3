"""Service ``trust``: what flows can ask and tell this peer about trust."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Sequence
from typing import Final

import anyio.lowlevel
import msgspec
from fluvial.effectors import U32, U64, Call, Effector, EffectorError, NoConfig, function
from fluvial.errors import RemoteProtocolError, ResourceLimit, StorageError
from fluvial.identity import PeerId

from fluvial_trust_graph.book import TrustBook
from fluvial_trust_graph.certificates import TrustCertificate, decode_certificate, flaw_in
from fluvial_trust_graph.evaluation import TrustEvaluation
from fluvial_trust_graph.explaining import Explanation, explain, explain_weight
from fluvial_trust_graph.graph import EXPONENT_MAX
from fluvial_trust_graph.statements import (
    DEPTH_MAX,
    Statement,
    TrustStatement,
    check_scope,
    decode_statement,
    encode_statement,
    is_authentic,
)

IMPOSSIBLE: Final = 100
"""The status of a call whose arguments cannot be used."""
BUSY: Final = 101
"""The status of a call that came too soon after others, or with too many."""
LISTED_MAX: Final = 1_000
LISTED_CHAINS_MAX: Final = 16
READ_AT_ONCE: Final = 32
"""Statements that are read before others get their turn: a millisecond."""
QUESTION_STEPS: Final = 2_000
"""What a question that takes a search is charged, of what all searches of a second may cost."""


class StatementView(msgspec.Struct, frozen=True):
    """A statement as flows see it.

    Attributes:
        kind: ``trust`` or ``revocation``.
        statement: its bytes, base64.
    """

    kind: str
    issuer: str
    subject: str
    issued_at: int
    expires_at: int | None
    depth: int | None
    scopes: tuple[str, ...]
    statement: str


class ExplanationView(msgspec.Struct, frozen=True):
    """Why a peer has its weight."""

    peer: str
    weight: int
    chain: tuple[str, ...]
    steps: tuple[str, ...]


class TrustService(Effector[NoConfig]):
    """Trust among peers, as this peer knows it."""

    service_id = "trust"

    def __init__(self, book: TrustBook) -> None:
        super().__init__()
        self._book = book

    @function(inline=True)
    def get_weight(self, peer: PeerId, scope: str = "") -> U32:
        """How much a peer counts here, for everything or for a scope; 0 for a stranger."""
        return self._book.trust.weight_for(peer, self._scope(scope))

    @function(inline=True)
    def get_weight_from(self, peer: PeerId, issuer: PeerId, scope: str = "") -> U32:
        """How much a peer counts by those chains alone that contain the issuer."""
        return self._searched(self._scope(scope)).weight_from(peer, issuer)

    @function(inline=True)
    def is_certified(self, peer: PeerId, issuer: PeerId, depth: U32 = 1, scope: str = "") -> bool:
        """Whether a chain of at most `depth` trusts leads from the issuer to a peer."""
        return self._book.trust.leads(issuer, peer, min(depth, EXPONENT_MAX), self._scope(scope))

    @function(inline=True)
    def get_certificates(self, peer: PeerId) -> list[list[str]]:
        """Some chains to a peer, the heaviest first, each as its statements in base64: credentials for flows of that peer."""
        self._searched("")
        chains = self._book.trust.chains(peer, LISTED_CHAINS_MAX)
        return [[_base64(one) for one in self._statements_of(chain)] for chain in chains]

    @function(inline=True)
    def explain(self, peer: PeerId, via: PeerId | None = None) -> ExplanationView:
        """Why a peer has its weight, or has none; with `via`, by chains that contain that one."""
        evaluation = self._searched("")
        found = explain_weight(evaluation, peer) if via is None else explain(evaluation, via, peer)
        return _view_of(found)

    @function(inline=True)
    def list_roots(self) -> dict[str, int]:
        """The roots of this peer, with their exponents."""
        return {str(peer): exponent for peer, exponent in self._book.trust.roots.items()}

    @function(inline=True)
    def list_perimeters(self) -> list[str]:
        """The names of the perimeters that this peer knows."""
        return sorted(self._book.perimeters.names())

    @function(inline=True)
    def list_statements(self, peer: PeerId) -> list[StatementView]:
        """The newest statements that peers made about a peer."""
        about = self._book.trust.evaluation(None).graph.newest.get(peer, {})
        return [view_of(one) for one in list(about.values())[:LISTED_MAX]]

    @function(inline=True)
    def verify(self, statement: str) -> bool:
        """Whether a statement, in base64, is signed by its issuer for this network. Whether it counts is another question."""
        return is_authentic(_statement(statement), self._book.network)

    @function
    async def add(self, call: Call, statements: str | list[str]) -> list[str]:
        """Hand statements over, each in base64, or a certificate as one text; returns a word for each: `accepted`, `waiting`, `known` and others.

        A certificate counts as a whole: if one of its trusts is not valid, none is taken.
        """
        wanted = 1 if isinstance(statements, str) else len(statements)
        if self._book.intake.grant(call.initiator, wanted) < wanted:
            raise EffectorError(BUSY, "this initiator has handed over too many statements; try again later")
        given: Sequence[Statement] = (
            _certificate(self._book, statements) if isinstance(statements, str) else await _all_of(statements)
        )
        try:
            taken = await self._book.take(given, call.initiator)
        except StorageError as error:
            raise EffectorError(IMPOSSIBLE, "this peer cannot store statements now") from error
        return list(taken.outcomes)

    @function
    async def issue(
        self, peer: PeerId, expires_at: U64, depth: U32 = DEPTH_MAX, scopes: list[str] | None = None
    ) -> StatementView:
        """State that this peer trusts another one. For its owners."""
        try:
            made = await self._book.state(peer, expires_at=expires_at, depth=depth, scopes=scopes or ())
        except ValueError as error:
            raise EffectorError(IMPOSSIBLE, str(error)) from error
        except StorageError as error:
            raise EffectorError(IMPOSSIBLE, "this peer cannot store statements now") from error
        return view_of(made)

    @function
    async def revoke(self, peer: PeerId) -> StatementView:
        """Take this peer's trust in another one back, and ban it. For its owners."""
        try:
            return view_of(await self._book.revoke(peer))
        except StorageError as error:
            raise EffectorError(IMPOSSIBLE, "this peer cannot store statements now") from error

    @function
    async def set_root(self, peer: PeerId, exponent: U32) -> None:
        """Make a peer a root of this one, or change its exponent, whatever the settings say. For its owners."""
        if exponent > EXPONENT_MAX:
            raise EffectorError(IMPOSSIBLE, f"an exponent is at most {EXPONENT_MAX}")
        await self._set_root(peer, exponent)

    @function
    async def remove_root(self, peer: PeerId) -> None:
        """Make a peer a root no longer, whatever the settings say. For its owners."""
        await self._set_root(peer, None)

    async def _set_root(self, peer: PeerId, exponent: int | None) -> None:
        try:
            await self._book.set_root(peer, exponent)
        except StorageError as error:
            raise EffectorError(IMPOSSIBLE, "this peer cannot store roots now") from error

    def _searched(self, scope: str) -> TrustEvaluation:
        """The evaluation for a scope, for a question that takes a search; raises EffectorError if this second had enough of them."""
        try:
            self._book.trust.pay(QUESTION_STEPS)
            return self._book.trust.evaluation(scope)
        except ResourceLimit as error:
            raise EffectorError(BUSY, error.message) from error

    def _scope(self, scope: str) -> str:
        """A scope that everybody may ask about; raises EffectorError."""
        try:
            if scope:
                check_scope(scope)
        except ValueError as error:
            raise EffectorError(IMPOSSIBLE, str(error)) from error
        if not self._book.trust.knows_scope(scope):
            raise EffectorError(
                IMPOSSIBLE, f"this peer has no rule about the scope {scope}, so it does not compute weights for it"
            )
        return scope

    def _statements_of(self, chain: Sequence[PeerId]) -> list[TrustStatement]:
        pairs = [(chain[0], chain[0]), *itertools.pairwise(chain)]
        found = [self._book.trust.newest(issuer, subject) for issuer, subject in pairs]
        return [one for one in found if isinstance(one, TrustStatement)]


def view_of(statement: Statement) -> StatementView:
    """A signed statement as flows and commands see it."""
    is_trust = isinstance(statement, TrustStatement)
    return StatementView(
        kind="trust" if is_trust else "revocation",
        issuer=str(statement.issuer),
        subject=str(statement.subject),
        issued_at=statement.issued_at,
        expires_at=statement.expires_at if isinstance(statement, TrustStatement) else None,
        depth=statement.depth if isinstance(statement, TrustStatement) else None,
        scopes=statement.scopes if isinstance(statement, TrustStatement) else (),
        statement=_base64(statement),
    )


def _view_of(found: Explanation) -> ExplanationView:
    return ExplanationView(str(found.peer), found.weight, tuple(map(str, found.chain)), found.steps)


def _base64(statement: Statement) -> str:
    return base64.b64encode(encode_statement(statement)).decode()


def _statement(text: str) -> Statement:
    """The statement that base64 stands for; raises EffectorError."""
    try:
        return decode_statement(base64.b64decode(text, validate=True))
    except (ValueError, RemoteProtocolError) as error:
        raise EffectorError(IMPOSSIBLE, f"this is no statement: {error}") from error


async def _all_of(texts: Sequence[str]) -> list[Statement]:
    """As :func:`_statement`, of many; others get their turn in between."""
    found = []
    for number, text in enumerate(texts, 1):
        found.append(_statement(text))
        if number % READ_AT_ONCE == 0:
            await anyio.lowlevel.checkpoint()
    return found


def _certificate(book: TrustBook, text: str) -> Sequence[TrustStatement]:
    try:
        certificate: TrustCertificate = decode_certificate(base64.b64decode(text, validate=True))
    except (ValueError, RemoteProtocolError) as error:
        raise EffectorError(IMPOSSIBLE, f"this is no certificate: {error}") from error
    flaw = flaw_in(certificate, network=book.network, roots=[certificate.root], now=book.now())
    if flaw is not None:
        raise EffectorError(IMPOSSIBLE, f"this certificate is not valid: {flaw}")
    return certificate.trusts
