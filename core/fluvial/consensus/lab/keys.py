"""The keys of a laboratory: made from numbers, with a memory for signatures that were checked."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256

from fluvial.identity import KeyPair, verify


@lru_cache(maxsize=1024)
def keys_of(what: str) -> KeyPair:
    """The key pair of a node or an account."""
    return KeyPair.from_secret(sha256(f"fluvial laboratory {what}".encode()).digest())


@lru_cache(maxsize=65_536)
def verify_once(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """As ``fluvial.identity.verify``. All validators of a run are in one process: what one of them has checked the others need not."""
    return verify(public_key, signature, message)
