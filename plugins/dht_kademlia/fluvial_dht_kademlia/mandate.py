"""How a command acts for the owner of a running peer: a signature by the peer's own key, good for one client and a minute.

What is signed is ``"fluvial/dht-mandate/1" ‖ 00 ‖ canonical bytes of [network, public key of the client, time]``. The client has signed its particle, so
nobody else can use the mandate. Pure.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from fluvial.encoding import encode
from fluvial.identity import KeyPair, PeerId, verify

AGE_MS_MAX: Final = 60_000
_TAG: Final = b"fluvial/dht-mandate/1\0"


class Mandate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the command shows: when it was made, and the signature in hexadecimal digits."""

    at_ms: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    signature: Annotated[str, msgspec.Meta(min_length=128, max_length=128)]


def make_mandate(keys: KeyPair, client: PeerId, *, network: str, at_ms: int) -> Mandate:
    """A mandate of the peer with these keys for a client."""
    return Mandate(at_ms, keys.sign(_signed(network, client, at_ms)).hex())


def holds(mandate: Mandate, *, owner: PeerId, client: PeerId, network: str, now_ms: int) -> bool:
    """Whether a client may act for the owner now."""
    try:
        signature = bytes.fromhex(mandate.signature)
    except ValueError:
        return False
    fresh = abs(now_ms - mandate.at_ms) <= AGE_MS_MAX
    return fresh and verify(owner.public_key, signature, _signed(network, client, mandate.at_ms))


def _signed(network: str, client: PeerId, at_ms: int) -> bytes:
    return _TAG + encode([network, client.public_key, at_ms])
