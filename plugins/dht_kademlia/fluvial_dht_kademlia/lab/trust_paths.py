"""Trust paths of the laboratory: signed statements issuer → subject, as proofs for owned keys.

A node takes proofs from its authorization through the port ``trust``. This is a small one for scenarios, with real signatures, that depends on no
other plugin.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import msgspec
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId, verify

from fluvial_dht_kademlia.lab.network import keys_of
from fluvial_dht_kademlia.lab.scenario import RevocationSpec, TrustSpec

_TAG = "fluvial/lab-trust/1"


class PathEdge(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One edge of a path; times in seconds."""

    issuer: str
    subject: str
    issued_at: int
    expires_at: int
    signature: bytes

    def signed_bytes(self) -> bytes:
        """What the issuer signs."""
        return encode([_TAG, self.issuer, self.subject, self.issued_at, self.expires_at])


def prove_path(path: Sequence[str], trusts: Iterable[TrustSpec], *, forger: str) -> bytes:
    """The proof that a provider would show for a path of named peers; empty for a path without edges.

    An edge that nobody has issued is signed by the forger.
    """
    known = {(trust.issuer, trust.issued_for): trust for trust in trusts}
    edges = []
    for issuer, subject in pairwise(path):
        trust = known.get((issuer, subject))
        signer = keys_of(issuer if trust is not None else forger)
        issued_at, expires_at = (trust.issued_at, trust.expires_at) if trust is not None else (0, 2**40)
        edge = PathEdge(str(keys_of(issuer).peer_id), str(keys_of(subject).peer_id), issued_at, expires_at, b"")
        edges.append(msgspec.structs.replace(edge, signature=signer.sign(edge.signed_bytes())))
    return encode(edges) if edges else b""


@dataclass(slots=True)
class PathProver:
    """Checks proofs as of ``now`` (seconds), with the revocations that the replica knows."""

    revocations: Sequence[RevocationSpec]
    now: int = 0

    def proves(self, proof: bytes, owner: PeerId, provider: PeerId, length_max: int) -> bool:
        """Whether a proof shows a live path of at most ``length_max`` edges."""
        try:
            edges = decode(proof, tuple[PathEdge, ...], what="trust path")
        except RemoteProtocolError:
            return False
        if not 0 < len(edges) <= length_max or edges[0].issuer != owner or edges[-1].subject != provider:
            return False
        nearer: list[str] = []
        for before, edge in zip((None, *edges), edges, strict=False):
            nearer.append(edge.issuer)
            if before is not None and before.subject != edge.issuer:
                return False
            if not edge.issued_at <= self.now < edge.expires_at or self._revoked(nearer, edge):
                return False
            if not verify(PeerId.parse(edge.issuer).public_key, edge.signature, edge.signed_bytes()):
                return False
        return True

    def _revoked(self, nearer: Sequence[str], edge: PathEdge) -> bool:
        """Whether somebody nearer to the owner took back the trust in the subject; the issuer's own newer trust ends its ban."""
        for one in self.revocations:
            banner = keys_of(one.revoked_by).peer_id
            if keys_of(one.revoked).peer_id != edge.subject or banner not in nearer or one.revoked_at > self.now:
                continue
            if banner != edge.issuer or one.revoked_at >= edge.issued_at:
                return True
        return False
