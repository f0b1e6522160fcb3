"""What an encoding file of the vectors asks for: the reference's bytes of given trusts and revocations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from fluvial.identity import KeyPair, base58_encode

from fluvial_trust_graph.interchange import (
    ForeignTrust,
    encode_foreign,
    encode_foreign_certificate,
    issue_foreign,
    revocation_digest,
    trust_digest,
    write_trust,
)


class ForeignItem(msgspec.Struct, frozen=True):
    """A trust or a revocation whose bytes are asked for; which fields it has depends on the kind."""

    kind: str
    issuer: str = ""
    issued_for: str = ""
    issued_at: int = 0
    expires_at: int = 0
    revoked_by: str = ""
    revoked: str = ""
    revoked_at: int = 0


def described(items: Sequence[ForeignItem], keys_of: Callable[[str], KeyPair]) -> dict[str, Any]:
    """The bytes of each item, and of the certificate of all trusts.

    Raises:
        ValueError: an item is of no known kind.
    """
    trusts: list[ForeignTrust] = []
    answers: list[dict[str, Any]] = []
    for item in items:
        if item.kind == "trust":
            issuer, subject = keys_of(item.issuer), keys_of(item.issued_for).peer_id
            trust = issue_foreign(issuer, subject, issued_at=item.issued_at, expires_at=item.expires_at)
            digest = trust_digest(subject, issued_at=item.issued_at, expires_at=item.expires_at)
            trusts.append(trust)
            answers.append(
                {
                    "issuer_peer_id": issuer.peer_id,
                    "issued_for_peer_id": subject,
                    "digest_hex": digest.hex(),
                    "signature_b58": base58_encode(trust.signature),
                    "binary_hex": encode_foreign(trust).hex(),
                    "text": write_trust(trust),
                }
            )
        elif item.kind == "revocation":
            banner, subject = keys_of(item.revoked_by), keys_of(item.revoked).peer_id
            digest = revocation_digest(subject, revoked_at=item.revoked_at)
            answers.append(
                {
                    "revoked_by_peer_id": banner.peer_id,
                    "revoked_peer_id": subject,
                    "digest_hex": digest.hex(),
                    "signature_b58": base58_encode(banner.sign(digest)),
                }
            )
        else:
            raise ValueError(f"{item.kind[:40]!r} is no kind of item; there are trust and revocation")
    certificate = encode_foreign_certificate(trusts).hex()
    return {"items": answers, "certificate_of_all_trusts_binary_hex": certificate}
