"""The particle: a script with signed, immutable metadata, and the data that grows on its way.

The initiator signs a domain tag followed by the canonical bytes of :class:`Header`; the hash in the header covers the script. The SHA-256
of the signed bytes is the particle's *key*. It names the particle everywhere inside of fluvial, since two initiators may choose the same id.
Every signature in the data covers the key, so no result can be used under another script, id or initiator.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from sys import getsizeof
from typing import Final, NewType

import msgspec

from fluvial.addresses import Address
from fluvial.computed import computed
from fluvial.encoding import decode, encode
from fluvial.errors import LocalProtocolError, RemoteProtocolError
from fluvial.fairness import BRANCH_MAX
from fluvial.identity import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, KeyPair, PeerId, verify

ParticleKey = NewType("ParticleKey", bytes)
"""SHA-256 of the signed header: 32 bytes."""

SIGNING_TAG: Final = b"fluvial/particle/1\0"
ID_CHARACTERS_MAX: Final = 128
NETWORK_CHARACTERS_MAX: Final = 64
NETWORK_PATTERN: Final = f"^[ -~]{{1,{NETWORK_CHARACTERS_MAX}}}$"
"""The name of a network: printable ASCII, so that every transport can carry it."""
REPLY_ADDRESSES_MAX: Final = 8
CREDENTIALS_MAX: Final = 24
"""How many credentials a particle carries: more than the longest chain of trust has links."""
CREDENTIALS_BYTES_MAX: Final = 8_192
"""Their size together; a chain of 17 trusts takes about 4 KB."""


class Header(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the initiator signs.

    Attributes:
        network: name of the network for which the particle is meant; see :func:`is_network`.
        id: chosen by the initiator, usually a UUID; 1 to 128 characters.
        initiator: Ed25519 public key, 32 bytes.
        timestamp_ms: when it began, milliseconds since 1970.
        ttl_ms: how long it lives from then on.
        max_hops: how often a copy of it may be handed from peer to peer, one after the other.
        script_hash: SHA-256 of the script's UTF-8 bytes.
        reply_to: multiaddrs under which the initiator can be reached while the particle lives.
        credentials: what the initiator shows to the authorizations of the peers on the way, such as a chain of trust. The node carries them and does
            not look into them.
    """

    network: str
    id: str
    initiator: bytes
    timestamp_ms: int
    ttl_ms: int
    max_hops: int
    script_hash: bytes
    reply_to: tuple[str, ...] = ()
    credentials: tuple[bytes, ...] = ()

    @property
    def listed_bytes(self) -> int:
        """Memory of what only some headers have: addresses and credentials."""
        listed = self.reply_to, self.credentials
        return sum(getsizeof(items) + sum(map(getsizeof, items)) for items in listed if items)


class Particle(msgspec.Struct, frozen=True, dict=True):
    """A header, the initiator's signature over it, and the script."""

    header: Header
    signature: bytes
    script: str

    @classmethod
    def create(
        cls,
        keys: KeyPair,
        script: str,
        *,
        particle_id: str,
        timestamp_ms: int,
        ttl_ms: int,
        max_hops: int,
        network: str,
        reply_to: tuple[str, ...] = (),
        credentials: tuple[bytes, ...] = (),
    ) -> Particle:
        """A new particle of the owner of ``keys``, signed; raises LocalProtocolError if it cannot carry so many credentials."""
        if not are_credentials(credentials):
            raise LocalProtocolError(
                f"a particle carries at most {CREDENTIALS_MAX} credentials, none of them empty, "
                f"and {CREDENTIALS_BYTES_MAX:,} bytes of them together"
            )
        header = Header(
            network=network,
            id=particle_id,
            initiator=keys.public_key,
            timestamp_ms=timestamp_ms,
            ttl_ms=ttl_ms,
            max_hops=max_hops,
            script_hash=hash_script(script),
            reply_to=reply_to,
            credentials=credentials,
        )
        return cls(header, keys.sign(SIGNING_TAG + encode(header)), script)

    @computed
    def key(self) -> ParticleKey:
        """SHA-256 of the signed header."""
        return ParticleKey(hashlib.sha256(self.signed_bytes).digest())

    @property
    def signed_bytes(self) -> bytes:
        """What the initiator signs."""
        return SIGNING_TAG + encode(self.header)

    def identify(self) -> bytes:
        """:attr:`signed_bytes`, with which :attr:`key` is known at once: who needs both encodes the header once."""
        signed = self.signed_bytes
        self.__dict__["key"] = ParticleKey(hashlib.sha256(signed).digest())
        return signed

    @property
    def id(self) -> str:
        """The id that the initiator chose."""
        return self.header.id

    @computed
    def initiator(self) -> PeerId:
        """The peer that began it."""
        return PeerId.from_public_key(self.header.initiator)

    @property
    def deadline_ms(self) -> int:
        """When it dies, milliseconds since 1970."""
        return self.header.timestamp_ms + self.header.ttl_ms

    @computed
    def header_bytes(self) -> int:
        """How many bytes the encoded header has."""
        return len(encode(self.header))

    def signed_by_initiator(self, signed_bytes: bytes = b"") -> bool:
        """Whether the signature is the initiator's; ``signed_bytes`` if they are known, which saves encoding the header again."""
        return verify(self.header.initiator, self.signature, signed_bytes or self.signed_bytes)

    def has_its_script(self) -> bool:
        """Whether the script is the one that was signed."""
        return hash_script(self.script) == self.header.script_hash


def is_network(name: str) -> bool:
    """Whether a text can be the name of a network."""
    return 0 < len(name) <= NETWORK_CHARACTERS_MAX and name.isascii() and name.isprintable()


def are_credentials(credentials: Sequence[bytes]) -> bool:
    """Whether a particle can carry these: at most 24, none empty, 8,192 bytes together."""
    return (
        len(credentials) <= CREDENTIALS_MAX and all(credentials) and sum(map(len, credentials)) <= CREDENTIALS_BYTES_MAX
    )


def hash_script(script: str) -> bytes:
    """SHA-256 of a script's UTF-8 bytes."""
    return hashlib.sha256(script.encode()).digest()


class Delivery(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is handed from peer to peer: a particle and its data.

    Attributes:
        to: public key of the peer it is for; a relay passes it on if that is not itself.
        hops: how many peers this copy has been handed to, this one included.
        header, signature, script: the particle.
        data: canonical bytes of ``fluvial.air.data.Data``.
        branch: whom of those that the sender serves it is handed over for, in the sender's own numbers (``fluvial.fairness.Upstream``).
    """

    to: bytes
    hops: int
    header: Header
    signature: bytes
    script: str
    data: bytes
    branch: int = 0

    @property
    def particle(self) -> Particle:
        """The immutable part."""
        return Particle(self.header, self.signature, self.script)


def encode_delivery(delivery: Delivery) -> bytes:
    """The canonical bytes of a delivery."""
    return encode(delivery)


def decode_delivery(data: bytes) -> Delivery:
    """The delivery that canonical bytes stand for, its shape checked; signatures are not verified here.

    Raises:
        RemoteProtocolError: the bytes are no delivery, or a field has an impossible value.
    """
    delivery = decode(data, Delivery, what="particle")
    header = delivery.header
    problem = ""
    if len(delivery.to) != PUBLIC_KEY_BYTES or len(header.initiator) != PUBLIC_KEY_BYTES:
        problem = "a peer's key does not have 32 bytes"
    elif len(delivery.signature) != SIGNATURE_BYTES or len(header.script_hash) != 32:
        problem = "signature or script hash have the wrong size"
    elif not 1 <= len(header.id) <= ID_CHARACTERS_MAX:
        problem = f"its id does not have 1 to {ID_CHARACTERS_MAX} characters"
    elif not is_network(header.network):
        problem = f"its network's name does not have 1 to {NETWORK_CHARACTERS_MAX} printable ASCII characters"
    elif min(header.timestamp_ms, header.ttl_ms, header.max_hops, delivery.hops) < 0:
        problem = "a number is negative"
    elif not 0 <= delivery.branch <= BRANCH_MAX:
        problem = f"its branch is not between 0 and {BRANCH_MAX:,}"
    elif header.timestamp_ms + header.ttl_ms >= 2**63:
        problem = "timestamp and ttl overflow"
    elif len(header.reply_to) > REPLY_ADDRESSES_MAX:
        problem = f"it has more than {REPLY_ADDRESSES_MAX} reply addresses"
    elif header.credentials and not are_credentials(header.credentials):
        problem = (
            f"it has more than {CREDENTIALS_MAX} credentials, or more than {CREDENTIALS_BYTES_MAX:,} bytes of them"
        )
    if problem:
        raise RemoteProtocolError(f"this is no particle: {problem}")
    for text in header.reply_to:
        try:
            Address.parse(text)
        except ValueError as error:
            raise RemoteProtocolError(f"this is no particle: {error}") from error
    return delivery
