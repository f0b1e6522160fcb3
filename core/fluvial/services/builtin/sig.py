"""``sig``: signatures with the peer's key, for its own scripts only."""

from __future__ import annotations

from typing import Final

import msgspec

from fluvial.effectors import U8, Call, Effector, NoConfig, function
from fluvial.errors import ServiceError
from fluvial.identity import KeyPair, verify
from fluvial.services.builtin.pieces import bytes_of
from fluvial.services.status import Status

RESERVED: Final = (
    b"fluvial/",  # every domain tag of ours: particles, facts, …
    b" " * 64,  # the beginning of what TLS 1.3 signs in a handshake (RFC 8446, 4.4.3)
    b"libp2p-tls-handshake:",
    b"noise-libp2p-static-key:",
)
"""Prefixes of messages that a peer signs for other purposes: whoever got one signed here could impersonate the peer."""


class SignResult(msgspec.Struct, frozen=True):
    """The result of ``sign``, as the reference's Aqua declares it: options are arrays of none or one."""

    success: bool
    error: list[str]
    signature: list[list[U8]]


class Sig(Effector[NoConfig]):
    """Ed25519 signatures (RFC 8032) with the key of the peer that answers.

    Args:
        keys: this peer's key pair.
    """

    service_id = "sig"
    pure = True  # the key never changes

    def __init__(self, keys: KeyPair) -> None:
        super().__init__()
        self._keys = keys

    @function(inline=True)
    def sign(self, call: Call, data: list[U8]) -> SignResult:
        """This peer's signature over bytes.

        Only for particles that this peer itself began (else status 8), only for data that comes from this peer: a literal of its
        script or the result of one of its own services; and never for bytes that begin like a message of the network's protocols.
        """
        # Deviation: the reference node accepts only results of two functions of the registry service; here any data of the peer's own,
        # except what could be taken for a particle or a handshake.
        own = self._keys.peer_id
        if call.initiator != own:
            raise ServiceError(
                Status.NOT_ALLOWED,
                f"peer {own} signs only for particles that it began itself; this one was begun by {call.initiator}",
            )
        origins = call.tetraplets[0] if call.tetraplets else ()
        if not origins:
            raise ServiceError(Status.NOT_ALLOWED, f"peer {own} signs only data whose origin it knows")
        if foreign := [origin for origin in origins if origin.peer != own]:
            raise ServiceError(
                Status.NOT_ALLOWED,
                f"peer {own} signs only data of its own; this comes from {foreign[0].service}.{foreign[0].function} "
                f"on {foreign[0].peer}",
            )
        message = bytes_of(data)
        if message.startswith(RESERVED):
            raise ServiceError(
                Status.NOT_ALLOWED,
                "these bytes begin like a message of the network's own protocols and are never signed",
            )
        return SignResult(True, [], [list(self._keys.sign(message))])

    @function(inline=True)
    def verify(self, signature: list[U8], data: list[U8]) -> bool:
        """Whether `signature` over `data` was made with the key of the peer that answers."""
        return verify(self._keys.public_key, bytes_of(signature), bytes_of(data))

    @function(inline=True)
    def get_peer_id(self) -> str:
        """The id of the peer whose key signs."""
        return self._keys.peer_id
