"""Who a peer is: an Ed25519 key pair, and the peer id that names its public half.

Source: libp2p peer-id specification, "Ed25519" and "Peer Ids": the id is the base58 (Bitcoin alphabet) text of the
identity multihash ``00 24`` over the protobuf ``08 01 12 20`` + 32 key bytes; all such ids begin with ``12D3KooW``.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from nacl.bindings import crypto_sign_open
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey

from fluvial.errors import ConfigError

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
KEY_FILE_BYTES_MAX: Final = 16_384
"""A PEM file of an Ed25519 key has 119 bytes; comments may stand around it."""
_ID_PREFIX: Final = bytes.fromhex("002408011220")
_ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_DIGITS: Final = {character: value for value, character in enumerate(_ALPHABET)}
_PAIRS: Final = [high + low for high in _ALPHABET for low in _ALPHABET]
_CHUNK_DIGITS: Final = 10
"""So many digits are a number with which the processor calculates at once."""
_CHUNK: Final = 58**_CHUNK_DIGITS


def base58_encode(data: bytes) -> str:
    """Bitcoin's base58 of ``data``; a leading zero byte becomes a leading ``1``.

    Digit by digit this takes a time that grows with the square of the length; so the number is halved, and its halves again, until they are short.
    """
    number = int.from_bytes(data, "big")
    powers = [_CHUNK]
    while powers[-1] <= number:
        powers.append(powers[-1] ** 2)
    parts = [number]
    for power in reversed(powers[:-1]):
        parts = [half for part in parts for half in divmod(part, power)]
    pairs = []
    for part in reversed(parts):
        rest = part
        for _ in range(_CHUNK_DIGITS // 2):
            rest, pair = divmod(rest, len(_PAIRS))
            pairs.append(_PAIRS[pair])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return "1" * zeros + "".join(reversed(pairs)).lstrip("1")


def base58_decode(text: str) -> bytes:
    """The bytes that a base58 text stands for; in as little time as :func:`base58_encode`.

    Raises:
        ValueError: a character is not of the alphabet.
    """
    zeros = len(text) - len(text.lstrip("1"))
    padded = "1" * (-len(text) % _CHUNK_DIGITS) + text
    parts = [_number(padded[at : at + _CHUNK_DIGITS]) for at in range(0, len(padded), _CHUNK_DIGITS)]
    base = _CHUNK
    while len(parts) > 1:
        parts = parts if len(parts) % 2 == 0 else [0, *parts]
        parts = [high * base + low for high, low in zip(parts[::2], parts[1::2], strict=True)]
        base **= 2
    number = parts[0] if parts else 0
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _number(text: str) -> int:
    number = 0
    for character in text:
        if character not in _DIGITS:
            raise ValueError(f"{character!r} is no base58 character")
        number = number * 58 + _DIGITS[character]
    return number


class PeerId(str):
    """The text that names a peer, ``12D3KooW…``; made only by :meth:`parse` and :meth:`from_public_key`."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> PeerId:
        """``text`` as a peer id.

        Raises:
            ValueError: it is not the id of an Ed25519 key.
        """
        return cls.from_public_key(_public_key(text))  # one text for all who name a peer

    @classmethod
    def from_public_key(cls, public_key: bytes) -> PeerId:
        """The id of a 32-byte Ed25519 public key."""
        return _peer_id(bytes(public_key))

    @property
    def public_key(self) -> bytes:
        """The 32-byte Ed25519 public key that the id spells."""
        return _public_key(str(self))


@lru_cache(maxsize=4096)
def _peer_id(public_key: bytes) -> PeerId:
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"an Ed25519 public key has {PUBLIC_KEY_BYTES} bytes, not {len(public_key)}")
    return PeerId(base58_encode(_ID_PREFIX + public_key))


@lru_cache(maxsize=4096)
def _public_key(text: str) -> bytes:
    if not 50 <= len(text) <= 54:
        raise ValueError(f"{text[:80]!r} is no peer id: it should have 52 characters, 12D3KooW…")
    data = base58_decode(text)
    if len(data) != len(_ID_PREFIX) + PUBLIC_KEY_BYTES or not data.startswith(_ID_PREFIX):
        raise ValueError(f"{text!r} is no id of an Ed25519 peer (12D3KooW…)")
    return data[len(_ID_PREFIX) :]


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` (64 bytes) over ``message`` was made with the key behind ``public_key`` (32 bytes).

    By libsodium: it takes half the time of OpenSSL, and refuses keys of small order and signatures that are not in the shortest form.
    """
    if len(public_key) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        crypto_sign_open(signature + message, public_key)
    except BadSignatureError:
        return False
    return True


def key_is_exposed(status: os.stat_result) -> bool:
    """Whether a key file of this user may be read or written by others.

    A file that belongs to another user is accepted: managers of secrets install key files so, and decide themselves who may read them.
    Source: OpenSSH, ``sshkey_perm_ok``.
    """
    return os.name == "posix" and status.st_uid == os.getuid() and bool(status.st_mode & 0o077)


def _read_key_file(path: Path) -> bytes:
    """The contents of a key file; the kind of the file is checked before a byte is read, and opening never blocks.

    Raises:
        ConfigError: it cannot be read or is not what a key file should be.
    """
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path}: the peer's key must be a regular file, and this is none")
            if key_is_exposed(status):
                mode = stat.S_IMODE(status.st_mode)
                raise ConfigError(
                    f"{path}: others than its owner may read or write the peer's key (mode {mode:04o})",
                    hint=f"`chmod 600 {path}`; if somebody may have read it, make a new peer",
                )
            if status.st_size > KEY_FILE_BYTES_MAX:
                raise ConfigError(f"{path}: with {status.st_size:,} bytes this is no key")
            return file.read(KEY_FILE_BYTES_MAX)
    except OSError as error:
        raise ConfigError(
            f"{path}: the peer's key cannot be read: {error.strerror}", hint="`fluvial init` makes one"
        ) from error


class KeyPair:
    """An Ed25519 key pair; the private half leaves the object only to its file."""

    def __init__(self, private_key: Ed25519PrivateKey) -> None:
        self._private = private_key
        self._signing = SigningKey(private_key.private_bytes_raw())
        self.public_key: Final[bytes] = private_key.public_key().public_bytes_raw()
        self.peer_id: Final[PeerId] = PeerId.from_public_key(self.public_key)

    @classmethod
    def generate(cls) -> KeyPair:
        """A new key pair from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def from_secret(cls, secret: bytes) -> KeyPair:
        """The key pair of a 32-byte Ed25519 seed; for tests and simulations."""
        return cls(Ed25519PrivateKey.from_private_bytes(secret))

    @classmethod
    def load(cls, path: Path) -> KeyPair:
        """The key pair in a PEM file (PKCS #8, unencrypted).

        Raises:
            ConfigError: the file is missing, unreadable, no regular file, open to others, or holds another kind of key.
        """
        try:
            key = serialization.load_pem_private_key(_read_key_file(path), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"{path}: this is no unencrypted PEM private key: {error}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigError(f"{path}: the key is not Ed25519", hint="`fluvial init` makes one of the right kind")
        return cls(key)

    def save(self, path: Path) -> None:
        """Write the private key as PEM (PKCS #8), readable by the owner only; never overwrites.

        Raises:
            ConfigError: the file exists already or cannot be written.
        """
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            if path.exists():
                raise ConfigError(
                    f"{path}: a key is there already", hint="a peer's key is its identity; move the file away first"
                ) from error
            raise ConfigError(f"{path}: the key cannot be written: {error.strerror}") from error
        with os.fdopen(handle, "wb") as file:
            file.write(self.private_pem())

    def private_pem(self) -> bytes:
        """The private key as PEM (PKCS #8, unencrypted)."""
        return self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def sign(self, message: bytes) -> bytes:
        """A 64-byte Ed25519 signature over ``message`` (RFC 8032), by libsodium: it takes half the time of OpenSSL."""
        return self._signing.sign(message).signature

    def __repr__(self) -> str:
        """Shows the public half only."""
        return f"KeyPair({self.peer_id})"
