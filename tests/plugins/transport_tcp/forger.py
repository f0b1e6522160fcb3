"""A TLS 1.3 client that signs its handshake with whatever key it likes, which no TLS library lets one do (RFC 8446).

Only as much as an attacker needs: TLS_AES_128_GCM_SHA256, X25519, Ed25519, one certificate.
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

CHANGE_CIPHER_SPEC, HANDSHAKE = 20, 22
CLIENT_HELLO, CERTIFICATE, CERTIFICATE_VERIFY, FINISHED = 1, 11, 15, 20


async def log_in(stream: ByteStream, *, certificate: bytes, signing_key: Ed25519PrivateKey, alpn: bytes) -> None:
    """Go through the handshake as a client with a DER certificate, signing with a key that may not be the certificate's."""
    share = X25519PrivateKey.generate()
    transcript = _client_hello(share.public_key().public_bytes_raw(), alpn)
    await stream.send(_record(HANDSHAKE, transcript))
    received = BufferedByteReceiveStream(stream)
    server_hello = await _receive_record(received)
    transcript += server_hello
    secret = _handshake_secret(share.exchange(X25519PublicKey.from_public_bytes(_server_share(server_hello))))
    ours = _Keys(_derive(secret, b"c hs traffic", transcript))
    theirs = _Keys(_derive(secret, b"s hs traffic", transcript))
    flight = b""
    while not _is_complete(flight):
        flight += theirs.open(await _receive_record(received))
    transcript += flight
    transcript += (proof := _message(CERTIFICATE, b"\0" + _sized(3, _sized(3, certificate) + b"\0\0")))
    signed = b" " * 64 + b"TLS 1.3, client CertificateVerify\0" + hashlib.sha256(transcript).digest()
    verify = _message(CERTIFICATE_VERIFY, b"\x08\x07" + _sized(2, signing_key.sign(signed)))
    transcript += verify
    finished_key = _expand(ours.secret, b"finished", b"", 32)
    finished = _message(FINISHED, hmac.digest(finished_key, hashlib.sha256(transcript).digest(), "sha256"))
    await stream.send(ours.seal(proof + verify + finished))


class _Keys:
    """One direction's record protection (RFC 8446 5.2, 5.3)."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._aead = AESGCM(_expand(secret, b"key", b"", 16))
        self._iv = int.from_bytes(_expand(secret, b"iv", b"", 12), "big")
        self._sequence = 0

    def seal(self, handshake: bytes) -> bytes:
        plain = handshake + bytes([HANDSHAKE])
        header = b"\x17\x03\x03" + (len(plain) + 16).to_bytes(2, "big")
        return header + self._aead.encrypt(self._nonce(), plain, header)

    def open(self, record: bytes) -> bytes:
        header = b"\x17\x03\x03" + len(record).to_bytes(2, "big")
        return self._aead.decrypt(self._nonce(), record, header).rstrip(b"\0")[:-1]

    def _nonce(self) -> bytes:
        nonce = (self._iv ^ self._sequence).to_bytes(12, "big")
        self._sequence += 1
        return nonce


def _client_hello(share: bytes, alpn: bytes) -> bytes:
    extensions = (
        _extension(43, _sized(1, b"\x03\x04"))  # supported_versions: TLS 1.3
        + _extension(10, _sized(2, b"\x00\x1d"))  # supported_groups: x25519
        + _extension(13, _sized(2, b"\x08\x07"))  # signature_algorithms: ed25519
        + _extension(51, _sized(2, b"\x00\x1d" + _sized(2, share)))  # key_share
        + _extension(16, _sized(2, _sized(1, alpn)))
    )
    body = b"\x03\x03" + os.urandom(32) + b"\0" + _sized(2, b"\x13\x01") + _sized(1, b"\0") + _sized(2, extensions)
    return _message(CLIENT_HELLO, body)


def _server_share(server_hello: bytes) -> bytes:
    at = server_hello.index(b"\x00\x33\x00\x24\x00\x1d\x00\x20")  # extension key_share with 32 bytes of x25519
    return server_hello[at + 8 : at + 40]


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
