"""A TLS 1.3 client, and the beginning of a server, that send records that no TLS library sends, and show whatever they like (RFC 8446).

Only as much as an attacker needs: TLS_AES_128_GCM_SHA256, X25519, Ed25519.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from fluvial.identity import PeerId
from fluvial_transport_tcp.secure import signed_by_dialler

CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA = 20, 21, 22, 23
CLIENT_HELLO, SERVER_HELLO, ENCRYPTED_EXTENSIONS, CERTIFICATE, FINISHED = 1, 2, 8, 11, 20
KEY_SHARE_OF_SERVER = b"\x00\x33\x00\x24\x00\x1d\x00\x20"
"""What stands before 32 bytes of X25519 (RFC 8446 4.2.8)."""
KEY_SHARE_OF_CLIENT = b"\x00\x33\x00\x26\x00\x24\x00\x1d\x00\x20"
KEY_UPDATE, UPDATE_REQUESTED = b"\x18\0\0\x01", 1
X25519 = 29
"""A group (RFC 8446 4.2.7)."""
PARTS = 16_000
"""At most so many bytes of a handshake in one record."""


async def log_in(
    stream: ByteStream,
    *,
    accepting: PeerId,
    alpn: bytes,
    key: Ed25519PrivateKey,
    shown: Ed25519PrivateKey | None = None,
    certificates: tuple[bytes, ...] = (),
) -> RecordKeys:
    """Go through the handshake as a dialler.

    Args:
        stream: to the peer.
        accepting: who it is, for the signature.
        alpn: the network.
        key: signs.
        shown: whose key is shown, if not that one.
        certificates: DER; sent though nobody asks for any.

    Returns:
        What protects what is sent from then on.
    """
    share = X25519PrivateKey.generate()
    transcript = _client_hello(share.public_key().public_bytes_raw(), alpn)
    await stream.send(_record(HANDSHAKE, transcript))
    received = BufferedByteReceiveStream(stream)
    server_hello = await _receive_record(received)
    transcript += server_hello
    secret = _handshake_secret(share.exchange(X25519PublicKey.from_public_bytes(_server_share(server_hello))))
    ours = RecordKeys(_derive(secret, b"c hs traffic", transcript))
    theirs = RecordKeys(_derive(secret, b"s hs traffic", transcript))
    flight = b""
    while not _is_complete(flight):
        flight += theirs.open(await _receive_record(received))
    transcript += flight
    master = hmac.digest(_derive(secret, b"derived", b""), bytes(32), "sha256")
    application = RecordKeys(_derive(master, b"c ap traffic", transcript))
    sent = b""
    if certificates:
        entries = b"".join(_sized(3, one) + b"\0\0" for one in certificates)
        sent = _message(CERTIFICATE, b"\0" + _sized(3, entries))
    finished_key = _expand(ours.secret, b"finished", b"", 32)
    finished = hmac.digest(finished_key, hashlib.sha256(transcript + sent).digest(), "sha256")
    sent += _message(FINISHED, finished)
    proof = (shown or key).public_key().public_bytes_raw() + key.sign(signed_by_dialler(accepting, finished))
    records = [ours.seal(sent[at : at + PARTS]) for at in range(0, len(sent), PARTS)]
    await stream.send(b"".join(records) + application.seal(proof, APPLICATION_DATA))
    return application


def client_hello(group: int, share: bytes, alpn: bytes) -> bytes:
    """A record with a first message that offers one group and, in it, any public key."""
    return _record(HANDSHAKE, _client_hello(share, alpn, group))


async def show(stream: ByteStream, certificate: bytes, alpn: bytes) -> None:
    """Be dialled, show a DER certificate, and prove nothing."""
    received = BufferedByteReceiveStream(stream)
    hello = await _receive_record(received)
    share = X25519PrivateKey.generate()
    answer = _server_hello(hello, share.public_key().public_bytes_raw())
    shared = share.exchange(X25519PublicKey.from_public_bytes(_server_share(hello, KEY_SHARE_OF_CLIENT)))
    ours = RecordKeys(_derive(_handshake_secret(shared), b"s hs traffic", hello + answer))
    extensions = _sized(2, _extension(16, _sized(2, _sized(1, alpn))))
    shown = _message(CERTIFICATE, b"\0" + _sized(3, _sized(3, certificate) + b"\0\0"))
    await stream.send(
        _record(HANDSHAKE, answer) + ours.seal(_message(ENCRYPTED_EXTENSIONS, extensions)) + ours.seal(shown)
    )


class RecordKeys:
    """One direction's record protection (RFC 8446 5.2, 5.3)."""

    def __init__(self, secret: bytes) -> None:
        self._use(secret)

    def _use(self, secret: bytes) -> None:
        self.secret = secret
        self._aead = AESGCM(_expand(secret, b"key", b"", 16))
        self._iv = int.from_bytes(_expand(secret, b"iv", b"", 12), "big")
        self._sequence = 0

    def seal(self, data: bytes, kind: int = HANDSHAKE) -> bytes:
        """One record."""
        plain = data + bytes([kind])
        header = b"\x17\x03\x03" + (len(plain) + 16).to_bytes(2, "big")
        return header + self._aead.encrypt(self._nonce(), plain, header)

    def update(self, request: int = UPDATE_REQUESTED) -> bytes:
        """A record that renews these keys, and asks the other side to do so as well."""
        record = self.seal(KEY_UPDATE + bytes([request]))
        self._use(_expand(self.secret, b"traffic upd", b"", 32))
        return record

    def open(self, record: bytes) -> bytes:
        header = b"\x17\x03\x03" + len(record).to_bytes(2, "big")
        return self._aead.decrypt(self._nonce(), record, header).rstrip(b"\0")[:-1]

    def _nonce(self) -> bytes:
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        return nonce


def _client_hello(share: bytes, alpn: bytes, group: int = X25519) -> bytes:
    named = group.to_bytes(2, "big")
    extensions = (
        _extension(43, _sized(1, b"\x03\x04"))  # supported_versions: TLS 1.3
        + _extension(10, _sized(2, named))  # supported_groups
        + _extension(13, _sized(2, b"\x08\x07"))  # signature_algorithms: ed25519
        + _extension(51, _sized(2, named + _sized(2, share)))  # key_share
        + _extension(16, _sized(2, _sized(1, alpn)))
    )
    body = b"\x03\x03" + os.urandom(32) + b"\0" + _sized(2, b"\x13\x01") + _sized(1, b"\0") + _sized(2, extensions)
    return _message(CLIENT_HELLO, body)


def _server_hello(hello: bytes, share: bytes) -> bytes:
    session = hello[38 : 39 + hello[38]]  # with its length
    extensions = _extension(43, b"\x03\x04") + _extension(51, b"\x00\x1d" + _sized(2, share))
    body = b"\x03\x03" + os.urandom(32) + session + b"\x13\x01\0" + _sized(2, extensions)
    return _message(SERVER_HELLO, body)


def _server_share(hello: bytes, before: bytes = KEY_SHARE_OF_SERVER) -> bytes:
    at = hello.index(before) + len(before)
    return hello[at : at + 32]


def _is_complete(flight: bytes) -> bool:
    at = kind = 0
    while at + 4 <= len(flight):
        kind, size = flight[at], int.from_bytes(flight[at + 1 : at + 4], "big")
        at += 4 + size
    return at == len(flight) and kind == FINISHED


async def _receive_record(stream: BufferedByteReceiveStream) -> bytes:
    while True:
        header = await stream.receive_exactly(5)
        data = await stream.receive_exactly(int.from_bytes(header[3:], "big"))
        if header[0] != CHANGE_CIPHER_SPEC:  # for middleboxes only (RFC 8446 D.4)
            return data


def _handshake_secret(shared: bytes) -> bytes:
    early = hmac.digest(bytes(32), bytes(32), "sha256")
    return hmac.digest(_derive(early, b"derived", b""), shared, "sha256")


def _derive(secret: bytes, label: bytes, transcript: bytes) -> bytes:
    return _expand(secret, label, hashlib.sha256(transcript).digest(), 32)


def _expand(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    info = length.to_bytes(2, "big") + _sized(1, b"tls13 " + label) + _sized(1, context)
    return HKDFExpand(SHA256(), length, info).derive(secret)


def _record(kind: int, data: bytes) -> bytes:
    return bytes([kind, 3, 3]) + _sized(2, data)


def _message(kind: int, body: bytes) -> bytes:
    return bytes([kind]) + _sized(3, body)


def _extension(number: int, body: bytes) -> bytes:
    return number.to_bytes(2, "big") + _sized(2, body)


def _sized(length_bytes: int, data: bytes) -> bytes:
    return len(data).to_bytes(length_bytes, "big") + data
