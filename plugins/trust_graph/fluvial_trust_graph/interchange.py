"""The reference's bytes and texts of trusts, certificates and revocations, read and written for interchange only.

Its signatures name neither issuer nor network nor purpose, so they are never taken for :mod:`fluvial_trust_graph.statements`: what is
read here has to be stated again by its issuer.

Source: ``trust_graph.md`` section 1 (fluence trust-graph 0.4, ``certificate.rs``, ``trust.rs``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fluvial.errors import RemoteProtocolError
from fluvial.identity import (
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    KeyPair,
    PeerId,
    base58_decode,
    base58_encode,
    verify,
)

TRUSTS_MAX: Final = 255
"""The count of trusts has one byte."""
TEXT_BYTES_MAX: Final = 128 * 1024
"""More than 255 trusts of any form need."""
_ED25519: Final = b"\0"
_TRUST_BYTES: Final = 116
_HEADER: Final = bytes(6)
_TEXT_HEADER: Final = ("11", "1111")
_KEY_CHARACTERS_MAX: Final = 100
_TIME_MAX: Final = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignTrust:
    """A trust as the reference has it; its issuer is known from where it stands.

    Args:
        subject: who is trusted.
        issued_at: whole seconds of Unix time.
        expires_at: the first second in which it does not hold any more.
        signature: 64 bytes, over :func:`trust_digest`.
    """

    subject: PeerId
    issued_at: int
    expires_at: int
    signature: bytes


def trust_digest(subject: PeerId, *, issued_at: int, expires_at: int) -> bytes:
    """The 32 bytes that the issuer of a trust signs."""
    times = expires_at.to_bytes(8, "little") + issued_at.to_bytes(8, "little")
    return hashlib.sha256(_ED25519 + subject.public_key + times).digest()


def revocation_digest(subject: PeerId, *, revoked_at: int) -> bytes:
    """The 32 bytes that the issuer of a revocation signs."""
    key = _ED25519 + subject.public_key
    return hashlib.sha256(bytes([len(key)]) + key + revoked_at.to_bytes(8, "little")).digest()


def issue_foreign(keys: KeyPair, subject: PeerId, *, issued_at: int, expires_at: int) -> ForeignTrust:
    """A trust in the reference's form, signed."""
    digest = trust_digest(subject, issued_at=issued_at, expires_at=expires_at)
    return ForeignTrust(subject=subject, issued_at=issued_at, expires_at=expires_at, signature=keys.sign(digest))


def is_issued_by(trust: ForeignTrust, issuer: PeerId) -> bool:
    """Whether a peer signed a trust of the reference's form."""
    digest = trust_digest(trust.subject, issued_at=trust.issued_at, expires_at=trust.expires_at)
    return verify(issuer.public_key, trust.signature, digest)


def is_foreign_chain(trusts: Sequence[ForeignTrust]) -> bool:
    """Whether each trust is signed by the subject of the one before, and the first one by its own subject. Times are not looked at."""
    issuers = [trusts[0].subject, *(one.subject for one in trusts[:-1])] if trusts else []
    return bool(trusts) and all(is_issued_by(one, by) for one, by in zip(trusts, issuers, strict=True))


def encode_foreign(trust: ForeignTrust) -> bytes:
    """The 116 bytes of a trust."""
    key, signature = _ED25519 + trust.subject.public_key, _ED25519 + trust.signature
    times = trust.expires_at.to_bytes(8, "little") + trust.issued_at.to_bytes(8, "little")
    return bytes([len(key)]) + key + bytes([len(signature)]) + signature + times


def decode_foreign(data: bytes) -> ForeignTrust:
    """The trust that bytes stand for.

    Raises:
        RemoteProtocolError: they are no trust with an Ed25519 key.
    """
    key_end = 2 + PUBLIC_KEY_BYTES
    signature_end = key_end + 2 + SIGNATURE_BYTES
    heads = data[:2], data[key_end : key_end + 2]
    if len(data) != _TRUST_BYTES or heads != (bytes([1 + PUBLIC_KEY_BYTES, 0]), bytes([1 + SIGNATURE_BYTES, 0])):
        raise RemoteProtocolError("this is no trust of the reference's form with an Ed25519 key")
    return ForeignTrust(
        subject=PeerId.from_public_key(data[2:key_end]),
        signature=data[key_end + 2 : signature_end],
        expires_at=int.from_bytes(data[signature_end : signature_end + 8], "little"),
        issued_at=int.from_bytes(data[signature_end + 8 :], "little"),
    )


def write_trust(trust: ForeignTrust) -> str:
    """The four lines of a trust."""
    key, signature = _ED25519 + trust.subject.public_key, _ED25519 + trust.signature
    return "\n".join((base58_encode(key), base58_encode(signature), str(trust.expires_at), str(trust.issued_at)))


def write_certificate(trusts: Sequence[ForeignTrust]) -> str:
    """The text of a certificate: two lines of header, then four lines a trust."""
    return "\n".join((*_TEXT_HEADER, *map(write_trust, trusts)))


def read_certificate(text: str) -> tuple[ForeignTrust, ...]:
    """The trusts in the text of a certificate; :func:`is_foreign_chain` says whether they hang together.

    Raises:
        RemoteProtocolError: the text is no certificate with Ed25519 keys.
    """
    if len(text) > TEXT_BYTES_MAX:
        raise RemoteProtocolError(f"the text of a certificate has at most {TEXT_BYTES_MAX:,} characters")
    lines = text.strip().splitlines()
    body = lines[2:]
    if tuple(lines[:2]) != _TEXT_HEADER or len(body) % 4 or not 8 <= len(body) <= 4 * TRUSTS_MAX:
        raise RemoteProtocolError("a certificate has two lines of header, and four lines for each of 2 to 255 trusts")
    return tuple(_read_trust(body[at : at + 4]) for at in range(0, len(body), 4))


def _read_trust(lines: Sequence[str]) -> ForeignTrust:
    key, signature = (_read_base58(line) for line in lines[:2])
    if len(key) != 1 + PUBLIC_KEY_BYTES or len(signature) != 1 + SIGNATURE_BYTES or key[:1] + signature[:1] != bytes(2):
        raise RemoteProtocolError("a key or a signature in this certificate is not Ed25519")
    expires_at, issued_at = (_read_time(line) for line in lines[2:])
    return ForeignTrust(
        subject=PeerId.from_public_key(key[1:]), signature=signature[1:], expires_at=expires_at, issued_at=issued_at
    )


def _read_base58(line: str) -> bytes:
    if len(line) > _KEY_CHARACTERS_MAX:
        raise RemoteProtocolError(f"a line of this certificate has more than {_KEY_CHARACTERS_MAX} characters")
    try:
        return base58_decode(line)
    except ValueError as error:
        raise RemoteProtocolError(f"a line of this certificate is no base58: {error}") from error


def _read_time(line: str) -> int:
    if not (line.isascii() and line.isdigit() and len(line) <= 20 and int(line) <= _TIME_MAX):
        raise RemoteProtocolError(f"{line[:30]!r} is no time of a certificate")
    return int(line)


def encode_foreign_certificate(trusts: Sequence[ForeignTrust]) -> bytes:
    """The bytes of a certificate: format, version, count, then each trust with its length."""
    parts = [encode_foreign(trust) for trust in trusts]
    return _HEADER + bytes([len(parts)]) + b"".join(bytes([len(part)]) + part for part in parts)


def decode_foreign_certificate(data: bytes) -> tuple[ForeignTrust, ...]:
    """The trusts in the bytes of a certificate.

    Raises:
        RemoteProtocolError: the bytes are no certificate with Ed25519 keys.
    """
    size, start = 1 + _TRUST_BYTES, len(_HEADER) + 1
    count = data[start - 1] if len(data) >= start else 0
    parts = [data[at : at + size] for at in range(start, len(data), size)]
    if data[: start - 1] != _HEADER or count < 2 or len(parts) != count or any(one[0] != _TRUST_BYTES for one in parts):
        raise RemoteProtocolError("this is no certificate of the reference's form with Ed25519 keys")
    return tuple(decode_foreign(part[1:]) for part in parts)
