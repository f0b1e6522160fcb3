"""Leases: a client's signed word that a relay takes messages for it. Pure.

What is signed is ``"fluvial/lease/1" ‖ 00 ‖ canonical bytes of [network, client, relay, issued, expires]``. A relay that shows the lease proves to anybody
that the client wants to be reached through it, so a stranger cannot pretend to be somebody's relay.

Source: Fluence white paper, "DHT": relays of peers that cannot be connected to are attributes in the DHT.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from fluvial.challenges import ChallengeKind
from fluvial.encoding import decode, encode
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.identity import SIGNATURE_BYTES, KeyPair, PeerId, verify

LIFETIME_MS: Final = 30 * 60_000
LIFETIME_MS_MAX: Final = 60 * 60_000
CLOCK_SKEW_MS: Final = 60_000
LEASE_BYTES_MAX: Final = 256
KIND: Final = "relay"
"""The kind of the capability, and of the challenge at its key."""
_TAG: Final = b"fluvial/lease/1\0"

PublicKey = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
TimeMs = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Lease(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """See the module's docstring.

    Attributes:
        client, relay: public keys.
        issued_at_ms, expires_at_ms: milliseconds since 1970.
        signature: the client's.
    """

    client: PublicKey
    relay: PublicKey
    issued_at_ms: TimeMs
    expires_at_ms: TimeMs
    signature: Annotated[bytes, msgspec.Meta(min_length=SIGNATURE_BYTES, max_length=SIGNATURE_BYTES)]

    def check(self, *, network: str, client: PeerId, relay: PeerId, now_ms: int) -> None:
        """Ensure that a client has given this lease to a relay, and that it holds now.

        Raises:
            Refused: ``lease``, it does not.
        """
        if self.client != client.public_key or self.relay != relay.public_key:
            raise Refused("this lease is about other peers", reason="lease")
        if not 0 < self.expires_at_ms - self.issued_at_ms <= LIFETIME_MS_MAX:
            raise Refused(f"a lease lives {LIFETIME_MS_MAX} ms at most", reason="lease")
        if not self.issued_at_ms - CLOCK_SKEW_MS <= now_ms < self.expires_at_ms:
            raise Refused("this lease does not hold now", reason="lease")
        signed = _signed(network, self.client, self.relay, self.issued_at_ms, self.expires_at_ms)
        if not verify(self.client, self.signature, signed):
            raise Refused(f"{client} has not signed this lease", reason="lease")


def make_lease(keys: KeyPair, relay: PeerId, *, network: str, now_ms: int) -> Lease:
    """A lease of this peer for a relay."""
    client, expires = keys.peer_id.public_key, now_ms + LIFETIME_MS
    signature = keys.sign(_signed(network, client, relay.public_key, now_ms, expires))
    return Lease(client, relay.public_key, now_ms, expires, signature)


def decode_lease(data: bytes) -> Lease:
    """A lease that arrived; raises RemoteProtocolError if it is none."""
    return decode(data, Lease, what="lease")


class RelayKind(ChallengeKind):
    """Keys at which the relays of a client stand: the challenge's body is the client's id, the solution its lease for the provider.

    Args:
        network: the network's name.
        now_ms: the time.
        lease_of: the lease that this peer has from a client, if it has one.
    """

    name = KIND

    def __init__(self, network: str, now_ms: Callable[[], int], lease_of: Callable[[PeerId], Lease | None]) -> None:
        self._network = network
        self._now_ms = now_ms
        self._lease_of = lease_of

    def solves(self, body: bytes, provider: PeerId, solution: bytes) -> bool:
        """Whether the solution is a lease of the client for the provider that holds now."""
        client = _client(body)
        try:
            lease = decode_lease(solution)
            lease.check(network=self._network, client=client, relay=provider, now_ms=self._now_ms())
        except (Refused, RemoteProtocolError):
            return False
        return True

    def solve(self, body: bytes, provider: PeerId) -> bytes | None:
        """The lease that this peer has from the client."""
        lease = self._lease_of(_client(body))
        return encode(lease) if lease is not None and lease.relay == provider.public_key else None


def _client(body: bytes) -> PeerId:
    try:
        return PeerId.parse(body.decode())
    except ValueError as error:
        raise RemoteProtocolError("the key of a client's relays names the client") from error


def _signed(network: str, client: bytes, relay: bytes, issued_at_ms: int, expires_at_ms: int) -> bytes:
    return _TAG + encode([network, client, relay, issued_at_ms, expires_at_ms])
