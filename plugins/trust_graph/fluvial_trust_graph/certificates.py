"""Certificates: chains of trusts from a root to whom they certify, as one thing that is valid or not."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from typing import Final

import msgspec
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId

from fluvial_trust_graph.graph import EXPONENT_MAX
from fluvial_trust_graph.statements import TrustStatement, decode_statement, encode_statement, is_authentic

LINKS_MAX: Final = EXPONENT_MAX + 1
"""The root's trust in itself, and as many links as any root may have."""


class TrustCertificate(msgspec.Struct, frozen=True):
    """A chain of trusts: the first by a root in itself, each next one by the subject of the one before.

    Args:
        trusts: at least two.
    """

    trusts: tuple[TrustStatement, ...]

    @property
    def root(self) -> PeerId:
        """Who issued the first trust."""
        return self.trusts[0].issuer

    @property
    def subject(self) -> PeerId:
        """Who is certified."""
        return self.trusts[-1].subject


def flaw_in(certificate: TrustCertificate, *, network: str, roots: Collection[PeerId], now: int) -> str | None:
    """What is wrong with a certificate; None if it proves the chain. Bans are not looked at: a certificate knows of none.

    Args:
        certificate: as it came.
        network: where it should hold.
        roots: whose chains count.
        now: whole seconds of Unix time.
    """
    trusts = certificate.trusts
    if not 2 <= len(trusts) <= LINKS_MAX:
        return f"a certificate has 2 to {LINKS_MAX} trusts, not {len(trusts)}"
    if trusts[0].issuer != trusts[0].subject or trusts[0].issuer not in roots:
        return "it does not begin with a trust of a known root in itself"
    if any(after.issuer != before.subject for before, after in itertools.pairwise(trusts)):
        return "a trust is not issued by the subject of the one before"
    if len({one.subject for one in trusts}) < len(trusts):
        return "a peer comes twice"
    for at, trust in enumerate(trusts):
        if len(trusts) - 1 - at > trust.depth:
            return f"{trust.issuer} does not let its trust be passed on so far"
        if (flaw := flaw_of(trust, network=network, now=now)) is not None:
            return flaw
    return None


def flaw_of(trust: TrustStatement, *, network: str, now: int) -> str | None:
    """Why a single trust does not hold now; None if it does."""
    if trust.issued_at > now:
        return f"the trust of {trust.issuer} in {trust.subject} is dated in the future"
    if trust.expires_at <= now:
        return f"the trust of {trust.issuer} in {trust.subject} has expired"
    if not is_authentic(trust, network):
        return f"the trust of {trust.issuer} in {trust.subject} is not signed by its issuer for this network"
    return None


def encode_certificate(certificate: TrustCertificate) -> bytes:
    """The bytes for the wire: each trust with its length in front."""
    parts = [encode_statement(trust) for trust in certificate.trusts]
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def decode_certificate(data: bytes) -> TrustCertificate:
    """The certificate that bytes stand for; whether it proves anything is for :func:`flaw_in` to say.

    Raises:
        RemoteProtocolError: the bytes are no certificate.
    """
    trusts: list[TrustStatement] = []
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if end > len(data) or len(trusts) == LINKS_MAX:
            raise RemoteProtocolError(f"a certificate has at most {LINKS_MAX} trusts, each whole")
        statement = decode_statement(data[at + 2 : end])
        if not isinstance(statement, TrustStatement):
            raise RemoteProtocolError("a certificate consists of trusts")
        trusts.append(statement)
        at = end
    if len(trusts) < 2:
        raise RemoteProtocolError("a certificate has two trusts or more")
    return TrustCertificate(tuple(trusts))
