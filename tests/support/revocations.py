"""People of a ledger, and what an issuer signs to revoke one of them."""

from __future__ import annotations

from fluvial.consensus.lab.keys import keys_of
from fluvial.identity import KeyPair
from fluvial_trust_graph.statements import RevocationStatement, encode_statement, sign_revocation

ANN, BOB, EVE = (keys_of(name) for name in ("ann", "bob", "eve"))


def revocation(issuer: KeyPair = ANN, subject: KeyPair = BOB, *, at: int = 100, network: str = "fluvial") -> bytes:
    one = RevocationStatement(network=network, issuer=issuer.peer_id, subject=subject.peer_id, issued_at=at)
    return encode_statement(sign_revocation(one, issuer))
