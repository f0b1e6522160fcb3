"""What peers state about each other: signed trusts and revocations, and their bytes.

A statement names its network, purpose, issuer and subject, so that its signature is good for nothing else. Its bytes begin with a tag, which
includes the version; then come fields, each behind its length (two bytes, big-endian)::

    network  purpose  issuer  subject  issued_at  sequence                              a revocation
    network  purpose  issuer  subject  issued_at  sequence  expires_at  depth  scope…   a trust

The signature covers tag and fields; on the wire it follows as one more field. There is one form of bytes for each statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from fluvial.errors import LocalProtocolError, RemoteProtocolError
from fluvial.identity import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, KeyPair, PeerId, verify

SIGNING_TAG: Final = b"fluvial/trust/1\0"
NETWORK_BYTES_MAX: Final = 64
SCOPES_MAX: Final = 16
"""How many scopes one trust names."""
SCOPE_BYTES_MAX: Final = 128
STATEMENT_BYTES_MAX: Final = 4_096
"""More than any statement within the other limits needs."""
TIME_MAX: Final = 2**64 - 1
"""As an expiry: for ever."""
SEQUENCE_MAX: Final = 2**32 - 1
DEPTH_MAX: Final = 255
"""As a delegation depth: no limit of its own."""
_SCOPE: Final = re.compile(r"[a-z0-9_-]+(?::[A-Za-z0-9_.-]+)*")
_FIELDS: Final = {b"trust": 8, b"revocation": 6}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustStatement:
    """The issuer trusts the subject.

    Args:
        network: where it holds.
        issuer: who trusts.
        subject: who is trusted.
        issued_at: since when, in whole seconds of Unix time.
        sequence: which of two statements of one second is the newer one.
        expires_at: the first second in which it does not hold any more.
        depth: how many further links a chain may have behind this one; 0 if the subject may not pass the trust on.
        scopes: what it is good for, sorted; empty for everything. ``service`` includes ``service:chat``.
        signature: of the issuer, 64 bytes; empty before it is signed.
    """

    network: str
    issuer: PeerId
    subject: PeerId
    issued_at: int
    sequence: int = 0
    expires_at: int
    depth: int = DEPTH_MAX
    scopes: tuple[str, ...] = ()
    signature: bytes = b""

    def __post_init__(self) -> None:
        """Refuse values that have no bytes.

        Raises:
            ValueError: a value is out of its range.
        """
        _check_common(self)
        if not 0 <= self.expires_at <= TIME_MAX or not 0 <= self.depth <= DEPTH_MAX:
            raise ValueError("an expiry or a delegation depth is out of its range")
        if len(self.scopes) > SCOPES_MAX or list(self.scopes) != sorted(set(self.scopes)):
            raise ValueError(f"a trust names at most {SCOPES_MAX} scopes, each once and sorted")
        for scope in self.scopes:
            check_scope(scope)

    def covers(self, scope: str) -> bool:
        """Whether the trust is good for a scope; the empty scope is met only by a trust for everything."""
        return not self.scopes or any(scope == one or scope.startswith(one + ":") for one in self.scopes)


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationStatement:
    """The issuer takes its trust in the subject back, and bans the subject from all chains in which the issuer comes earlier.

    Args:
        network: where it holds.
        issuer: who bans.
        subject: who is banned.
        issued_at: since when, in whole seconds of Unix time.
        sequence: which of two statements of one second is the newer one.
        signature: of the issuer, 64 bytes; empty before it is signed.
    """

    network: str
    issuer: PeerId
    subject: PeerId
    issued_at: int
    sequence: int = 0
    signature: bytes = b""

    def __post_init__(self) -> None:
        """Refuse values that have no bytes.

        Raises:
            ValueError: a value is out of its range.
        """
        _check_common(self)


Statement: TypeAlias = TrustStatement | RevocationStatement


def check_scope(scope: str) -> None:
    """Refuse what is no scope.

    Raises:
        ValueError: it is not words that are joined by colons, or is too long.
    """
    if len(scope) > SCOPE_BYTES_MAX or not _SCOPE.fullmatch(scope):
        raise ValueError(f"{scope[:80]!r} is no scope; one is `dht` or `service:chat`")


def _check_common(statement: Statement) -> None:
    if not 0 <= statement.issued_at <= TIME_MAX or not 0 <= statement.sequence <= SEQUENCE_MAX:
        raise ValueError("a time or a sequence number is out of its range")
    if not 0 < len(statement.network.encode()) <= NETWORK_BYTES_MAX:
        raise ValueError(f"the name of a network has 1 to {NETWORK_BYTES_MAX} bytes")
    if len(statement.signature) not in (0, SIGNATURE_BYTES):
        raise ValueError(f"a signature has {SIGNATURE_BYTES} bytes, not {len(statement.signature)}")


def signed_bytes(statement: Statement) -> bytes:
    """What the issuer signs."""
    fields = [statement.network.encode(), _purpose(statement)]
    fields += [statement.issuer.public_key, statement.subject.public_key]
    fields += [statement.issued_at.to_bytes(8, "big"), statement.sequence.to_bytes(4, "big")]
    if isinstance(statement, TrustStatement):
        fields += [statement.expires_at.to_bytes(8, "big"), bytes([statement.depth])]
        fields += [scope.encode() for scope in statement.scopes]
    return SIGNING_TAG + b"".join(map(_field, fields))


def _purpose(statement: Statement) -> bytes:
    return b"trust" if isinstance(statement, TrustStatement) else b"revocation"


def _field(content: bytes) -> bytes:
    return len(content).to_bytes(2, "big") + content


def sign_trust(statement: TrustStatement, keys: KeyPair) -> TrustStatement:
    """The trust with its issuer's signature.

    Raises:
        LocalProtocolError: the keys are not the issuer's.
    """
    return replace(statement, signature=_signature(statement, keys))


def sign_revocation(statement: RevocationStatement, keys: KeyPair) -> RevocationStatement:
    """The revocation with its issuer's signature.

    Raises:
        LocalProtocolError: the keys are not the issuer's.
    """
    return replace(statement, signature=_signature(statement, keys))


def _signature(statement: Statement, keys: KeyPair) -> bytes:
    if keys.peer_id != statement.issuer:
        raise LocalProtocolError(f"{keys.peer_id} cannot sign a statement of {statement.issuer}")
    return keys.sign(signed_bytes(statement))


def is_authentic(statement: Statement, network: str) -> bool:
    """Whether the issuer signed the statement, and for this network."""
    signature = statement.signature
    return (
        statement.network == network
        and len(signature) == SIGNATURE_BYTES
        and verify(statement.issuer.public_key, signature, signed_bytes(statement))
    )


def encode_statement(statement: Statement) -> bytes:
    """The bytes for the wire, signature included.

    Raises:
        LocalProtocolError: it is not signed.
    """
    if not statement.signature:
        raise LocalProtocolError("a statement is signed before it is sent")
    return signed_bytes(statement) + _field(statement.signature)


def decode_statement(data: bytes) -> Statement:
    """The statement that bytes from the wire stand for. Its signature is not verified here: see :func:`is_authentic`.

    Raises:
        RemoteProtocolError: the bytes are no statement of this version.
    """
    if len(data) > STATEMENT_BYTES_MAX:
        raise RemoteProtocolError(f"a statement has at most {STATEMENT_BYTES_MAX:,} bytes, not {len(data):,}")
    if not data.startswith(SIGNING_TAG):
        raise RemoteProtocolError("this is no trust statement of this version: its tag is another one")
    try:
        statement = _statement(list(_fields(data[len(SIGNING_TAG) :])))
        again = encode_statement(statement)
    except (ValueError, IndexError) as error:
        raise RemoteProtocolError(f"this is no trust statement: {error}") from error
    if again != data:
        raise RemoteProtocolError("this trust statement is not in its only form")
    return statement


def _fields(data: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            raise ValueError("a field is cut off")
        yield data[at + 2 : end]
        at = end


def _statement(fields: Sequence[bytes]) -> Statement:
    network, purpose, issuer, subject, issued_at, sequence = fields[:6]
    if purpose not in _FIELDS or len(fields) <= _FIELDS[purpose]:
        raise ValueError("its purpose is unknown, or fields are missing")
    if len(issuer) != PUBLIC_KEY_BYTES or len(subject) != PUBLIC_KEY_BYTES or len(fields[-1]) != SIGNATURE_BYTES:
        raise ValueError("a key or the signature has another length")
    if purpose == b"trust":
        return TrustStatement(
            network=network.decode(),
            issuer=PeerId.from_public_key(issuer),
            subject=PeerId.from_public_key(subject),
            issued_at=int.from_bytes(issued_at, "big"),
            sequence=int.from_bytes(sequence, "big"),
            expires_at=int.from_bytes(fields[6], "big"),
            depth=int.from_bytes(fields[7], "big"),
            scopes=tuple(scope.decode() for scope in fields[8:-1]),
            signature=fields[-1],
        )
    if len(fields) != _FIELDS[purpose] + 1:
        raise ValueError("a revocation has no further fields")
    return RevocationStatement(
        network=network.decode(),
        issuer=PeerId.from_public_key(issuer),
        subject=PeerId.from_public_key(subject),
        issued_at=int.from_bytes(issued_at, "big"),
        sequence=int.from_bytes(sequence, "big"),
        signature=fields[-1],
    )


def is_newer(one: Statement, other: Statement) -> bool:
    """Whether of two statements of one issuer about one subject the first one counts.

    The later one does; of the same second and sequence, a revocation; of two trusts, the one that ends earlier. What is left is
    decided by the bytes, so that all peers agree.

    Deviation: in the reference, of two statements of one second the one that arrived first stays.
    """
    first, second = _order(one), _order(other)
    return first > second if first != second else signed_bytes(one) > signed_bytes(other)


def _order(statement: Statement) -> tuple[int, int, int, int]:
    if isinstance(statement, TrustStatement):
        return statement.issued_at, statement.sequence, 0, -statement.expires_at
    return statement.issued_at, statement.sequence, 1, 0
