"""Provider records: what a provider says of itself at a key, signed over all fields.

A replica can withhold a record but not change or make one up. The newest record of a provider at a key replaces the others: the order is total, so
merging is commutative, associative and idempotent, and replicas that have seen the same records agree. A *tombstone* is a record that says
that the provider is gone; it stays until the record that it kills would have expired, and travels like records, so that a replica that missed it
cannot bring the dead record back for good.

Source: BEP-44 (sequence numbers, size of a value); registry of Fluence (what a record holds).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Final, TypeAlias

import msgspec
from fluvial.encoding import encode
from fluvial.errors import Refused
from fluvial.identity import SIGNATURE_BYTES, KeyPair, PeerId, verify

from fluvial_dht_kademlia.machine.challenges import Challenge, ChallengeKinds
from fluvial_dht_kademlia.machine.keyspace import KEY_BYTES, key_bytes
from fluvial_dht_kademlia.machine.limits import (
    ADDRESS_CHARACTERS_MAX,
    ADDRESSES_MAX,
    SOLUTION_BYTES_MAX,
    VALUE_BYTES_MAX,
    KademliaLimits,
)

SEQUENCE_MAX: Final = 2**63 - 1
_TAG: Final = "fluvial/dht-record/1"
VerifySignature: TypeAlias = Callable[[bytes, bytes, bytes], bool]
"""Called with (public key, signature, message)."""


class RecordFields(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is signed.

    Attributes:
        key: where it is kept: the hash of the challenge, 32 bytes.
        provider: whose record it is.
        sequence: greater ones replace smaller ones; a provider takes the time in milliseconds, or one more than its last.
        issued_at_ms: when it was signed.
        expires_at_ms: from then on it is dead.
        withdrawn: whether this is a tombstone; then it has no value, addresses, relay or service.
        value: whatever the provider wants to say.
        addresses: where the provider can be reached.
        relay: the peer id of its relay; empty if it has none.
        service: the service that answers; empty for the peer as a whole.
        solution: of the key's challenge.
    """

    key: Annotated[bytes, msgspec.Meta(min_length=KEY_BYTES, max_length=KEY_BYTES)]
    provider: Annotated[str, msgspec.Meta(max_length=64)]
    sequence: Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX)]
    issued_at_ms: Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX)]
    expires_at_ms: Annotated[int, msgspec.Meta(ge=0, le=SEQUENCE_MAX)]
    withdrawn: bool = False
    value: Annotated[bytes, msgspec.Meta(max_length=VALUE_BYTES_MAX)] = b""
    addresses: Annotated[
        tuple[Annotated[str, msgspec.Meta(max_length=ADDRESS_CHARACTERS_MAX)], ...],
        msgspec.Meta(max_length=ADDRESSES_MAX),
    ] = ()
    relay: Annotated[str, msgspec.Meta(max_length=64)] = ""
    service: Annotated[str, msgspec.Meta(max_length=256)] = ""
    solution: Annotated[bytes, msgspec.Meta(max_length=SOLUTION_BYTES_MAX)] = b""


class ProviderRecord(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Fields and the provider's signature over them, the network's name and a domain tag."""

    fields: RecordFields
    signature: Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]

    @property
    def provider(self) -> PeerId:
        """Whose record it is; well-formed only after :func:`check_record`."""
        return PeerId(self.fields.provider)

    @property
    def rank(self) -> tuple[int, bool, bytes]:
        """The total order of a provider's records at a key; the greatest replaces all others. At one sequence the tombstone wins."""
        return self.fields.sequence, self.fields.withdrawn, encode(self)


def _signed_bytes(network: str, fields: RecordFields) -> bytes:
    return encode([_TAG, network, fields])


def sign_record(keys: KeyPair, network: str, fields: RecordFields) -> ProviderRecord:
    """A record of this peer."""
    return ProviderRecord(fields, keys.sign(_signed_bytes(network, fields)))


def newest(first: ProviderRecord, second: ProviderRecord) -> ProviderRecord:
    """Of two records of one provider at one key the one that replaces the other."""
    return max(first, second, key=lambda record: record.rank)


def merge_records(*many: Iterable[ProviderRecord]) -> dict[PeerId, ProviderRecord]:
    """The newest record of each provider out of the records that several replicas hold for one key."""
    merged: dict[PeerId, ProviderRecord] = {}
    for records in many:
        for record in records:
            other = merged.get(record.provider)
            merged[record.provider] = record if other is None else newest(other, record)
    return merged


class RecordChecks:
    """The checks that every record passes at every write, republication, merge and read, at replicas and at those who ask.

    Args:
        network: name of the network; records of others do not verify.
        kinds: the challenges that are known here.
        limits: lifetimes.
        verify_signature: Ed25519; a simulation may remember outcomes.
    """

    def __init__(
        self, network: str, kinds: ChallengeKinds, limits: KademliaLimits, verify_signature: VerifySignature = verify
    ) -> None:
        self._network = network
        self._kinds = kinds
        self._limits = limits
        self._verify = verify_signature

    def check(self, challenge: Challenge, record: ProviderRecord, now: int) -> None:
        """Let a record pass, or say why not. The cheap checks come first.

        Args:
            challenge: what its key asks for.
            record: as it came.
            now: in milliseconds.

        Raises:
            Refused: with the reason ``key``, ``time``, ``form``, ``kind``, ``solution`` or ``signature``.
            RemoteProtocolError: the challenge is ill-formed.
        """
        fields = record.fields
        if key_bytes(challenge.key) != fields.key:
            raise Refused("the key of a record is not the hash of its challenge", reason="key")
        self._check_times(fields, now)
        try:
            provider = PeerId.parse(fields.provider)
        except ValueError as error:
            raise Refused(f"the provider of a record is no peer: {error}", reason="form") from error
        if fields.withdrawn and (fields.value or fields.addresses or fields.relay or fields.service):
            raise Refused("a tombstone says nothing but that its provider is gone", reason="form")
        if not self._verify(provider.public_key, record.signature, _signed_bytes(self._network, fields)):
            raise Refused(f"{provider} has not signed this record", reason="signature")
        self.check_solution(challenge, record)

    def check_again(self, challenge: Challenge, record: ProviderRecord, now: int) -> None:
        """As :meth:`check`, for a record that has passed it before: time goes on, and what solved the challenge may not any more."""
        self._check_times(record.fields, now)
        self.check_solution(challenge, record)

    def check_solution(self, challenge: Challenge, record: ProviderRecord) -> None:
        """Whether the provider may stand at the key now: for records whose form and signature were checked before. Raises as :meth:`check`."""
        self._kinds.check(challenge, record.provider, record.fields.solution)

    def _check_times(self, fields: RecordFields, now: int) -> None:
        limits = self._limits
        if fields.issued_at_ms > now + limits.clock_skew_ms:
            raise Refused("a record was issued in the future", reason="time")
        if fields.expires_at_ms <= now:
            raise Refused("a record has expired", reason="time")
        if not 0 < fields.expires_at_ms - fields.issued_at_ms <= limits.record_lifetime_max_ms:
            raise Refused(f"a record lives longer than {limits.record_lifetime_max_ms} ms", reason="time")
