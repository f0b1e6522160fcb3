"""The space of keys: 256-bit numbers, in which peers and records have their places, and the XOR distance between them.

Source: Maymounkov, Mazières: "Kademlia", section 2.1; key derivation as in the libp2p Kademlia specification (SHA-256), with domain tags.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from typing import Final, NewType, Protocol, TypeAlias

from fluvial.identity import PeerId

Key = NewType("Key", int)
"""A place in the key space: 0 … 2**256 - 1."""

KEY_BITS: Final = 256
KEY_BYTES: Final = KEY_BITS // 8
PLACES_REMEMBERED: Final = 16_384
"""Places of peers that are not hashed again, of a third of a kilobyte each."""
_PEER_TAG: Final = b"fluvial/dht-peer/1"
_CHALLENGE_TAG: Final = b"fluvial/dht-key/1"

PlaceOf: TypeAlias = Callable[[PeerId], Key]
"""The place of a peer. Nodes use :func:`peer_key`; a simulation may put peers where an attacker would have ground its keys to."""
Weigh: TypeAlias = Callable[[PeerId], int]
"""The trust weight of a peer now; 0 for a stranger."""


class Draws(Protocol):
    """Where random numbers come from: a ``random.Random``, seeded in simulations."""

    def getrandbits(self, k: int, /) -> int:
        """A number of ``k`` bits."""
        ...

    def randrange(self, stop: int, /) -> int:
        """A number from 0 to ``stop - 1``."""
        ...


@lru_cache(maxsize=PLACES_REMEMBERED)
def peer_key(peer: PeerId) -> Key:
    """The place of a peer. Nobody chooses it without making new keys: it is a hash of the id, which is the public key."""
    return Key(int.from_bytes(hashlib.sha256(_PEER_TAG + peer.encode()).digest(), "big"))


def challenge_key(challenge: bytes) -> Key:
    """The place of the records behind a challenge: the hash of its canonical bytes."""
    return Key(int.from_bytes(hashlib.sha256(_CHALLENGE_TAG + challenge).digest(), "big"))


def key_bytes(key: Key) -> bytes:
    """A key as 32 bytes, big-endian."""
    return key.to_bytes(KEY_BYTES, "big")


def bucket_index(own: Key, other: Key) -> int:
    """The bucket of ``own``'s table to which ``other`` belongs: the top bit of the distance, 0 (nearest) … 255; -1 for the own key."""
    return (own ^ other).bit_length() - 1


def random_key_in_bucket(own: Key, index: int, rng: Draws) -> Key:
    """A random key that belongs to bucket ``index`` (0 … 255) of the table of ``own``."""
    distance = (1 << index) | rng.getrandbits(index) if index else 1
    return Key(own ^ distance)
