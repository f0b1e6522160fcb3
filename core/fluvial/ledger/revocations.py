"""Revocations on the ledger: an issuer's own statement that it trusts a subject no more, brought by anybody.

What the authorization `trust_graph` gossips becomes provable here. The record of a pair (issuer, subject) keeps the statement with the *earliest* time, and
is never removed; so its absence in the state of a height proves "not revoked as of that height". A revocation is idempotent, and therefore needs no nonce:
who carries one again is refused. It pays a fee like every transaction, and waits in a lane of its own (``urgent.py``).
"""

from __future__ import annotations

from typing import Annotated, Final, NamedTuple

import msgspec

from fluvial.encoding import decode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import verify
from fluvial.ledger.setting import BlockSetting, BodyFailed, BodySettled
from fluvial.ledger.state import Changes, State

REVOCATIONS: Final = "revocations"
REVOCATION_BYTES_MAX: Final = 512
_TAG: Final = b"fluvial/trust/1\0"
_LENGTHS: Final = (10, 32, 32, 8, 4, 64)
"""Bytes of the fields after the network: purpose, issuer, subject, time, sequence, signature."""

RevocationBytes = Annotated[bytes, msgspec.Meta(max_length=REVOCATION_BYTES_MAX)]


class Revocation(NamedTuple):
    """What the bytes of a revocation say.

    Attributes:
        network: where it holds.
        issuer, subject: public keys.
        issued_at: since when, in seconds of Unix time.
        sequence: tells two statements of one second apart.
        signature: of the issuer, over ``signed``.
        signed: the bytes before the signature.
    """

    network: str
    issuer: bytes
    subject: bytes
    issued_at: int
    sequence: int
    signature: bytes
    signed: bytes

    @property
    def key(self) -> bytes:
        """Where it stands on the ledger."""
        return revocation_key(self.network, self.issuer, self.subject)


class RevocationRecord(msgspec.Struct, frozen=True, array_like=True):
    """A revocation as it stands on the ledger.

    Attributes:
        statement: the issuer's signed bytes, as the authorization takes them.
        height: of the block in which the pair was revoked first.
    """

    statement: bytes
    height: int


def revocation_key(network: str, issuer: bytes, subject: bytes) -> bytes:
    """The key of a pair of public keys on the ledger; its absence shows that the pair is not revoked."""
    name = network.encode()
    return len(name).to_bytes(1, "big") + name + issuer + subject


def read_revocation(statement: bytes) -> Revocation:
    """What a revocation says. Its signature is not looked at: see :func:`record_revocation`.

    Raises:
        RemoteProtocolError: the bytes are no revocation of this version.
    """
    fields: list[bytes] = []
    at = len(_TAG)
    while at < len(statement) and len(fields) <= len(_LENGTHS) + 1:
        end = at + 2 + int.from_bytes(statement[at : at + 2], "big")
        fields.append(statement[at + 2 : end])
        at = end
    lengths = tuple(map(len, fields[1:]))
    if not statement.startswith(_TAG) or at != len(statement) or lengths != _LENGTHS or fields[1] != b"revocation":
        raise RemoteProtocolError("this is no revocation of this version")
    try:
        network = fields[0].decode()
    except UnicodeDecodeError as error:
        raise RemoteProtocolError("the network of this revocation is no text") from error
    if not 0 < len(fields[0]) <= 64:
        raise RemoteProtocolError("the name of a network has 1 to 64 bytes")
    issued_at, sequence = (int.from_bytes(one, "big") for one in fields[4:6])
    return Revocation(network, fields[2], fields[3], issued_at, sequence, fields[6], statement[: -(2 + 64)])


def revocation_of(state: State, network: str, issuer: bytes, subject: bytes) -> RevocationRecord | None:
    """Whether an issuer has revoked a subject, both as public keys; None if not."""
    value = state.get(REVOCATIONS, revocation_key(network, issuer, subject))
    return None if value is None else decode(value, RevocationRecord, what="revocation")


def record_revocation(changes: Changes, setting: BlockSetting, statement: bytes) -> None:
    """Put a revocation onto the ledger.

    Raises:
        BodyFailed: it is none, its issuer has not signed it, or one that is not later is known.
    """
    try:
        revocation = read_revocation(statement)
    except RemoteProtocolError as error:
        raise BodyFailed("no revocation") from error
    known = changes.read(REVOCATIONS, revocation.key, RevocationRecord)
    height = setting.height
    if known is not None:
        height = known.height
        if _time(read_revocation(known.statement)) <= _time(revocation):
            raise BodySettled("known revocation")
    if not verify(revocation.issuer, revocation.signature, revocation.signed):
        raise BodyFailed("not signed by its issuer")
    changes.set(REVOCATIONS, revocation.key, RevocationRecord(statement, height))


def _time(revocation: Revocation) -> tuple[int, int]:
    return revocation.issued_at, revocation.sequence
