"""An encrypted channel between two peers that prove their Ed25519 keys, without I/O.

TLS 1.3 from the standard library, in both directions with a certificate whose key *is* the peer's key. A server that asks for a
certificate cannot be taught through ``ssl`` to accept one that nobody vouches for, so every leaf is issued by one certificate authority
whose private key is public knowledge: it is derived below from a constant, and anybody can issue anything with it.

Why that is safe: authentication does not come from the authority. A TLS 1.3 handshake ends only if the other side has signed the
transcript with the private key of its leaf (CertificateVerify, RFC 8446 4.4.3); OpenSSL checks this signature whatever the
``verify_mode``. That key alone makes the peer id, here as on the other side, and the dialler compares it with the id it dialled. What
must therefore *never* be concluded from a certificate that passes the chain check: that it was issued by someone, that its names, dates
or extensions mean anything, or that its chain does. Nothing but the leaf's public key is read. So the dialler, who gets the server's
certificate in any case, leaves out the chain check, which would cost a quarter of its handshake and prove nothing.

Further rules: TLS 1.3 only; no session tickets and no resumption, so that every connection proves its keys anew; the network is
the ALPN protocol, ``fluvial/1/<network>``, and a peer of another network is refused. The end of a connection is not authenticated
by TLS (no close_notify is sent): frames have lengths and a goodbye, so a truncated stream is seen one level up.
"""

from __future__ import annotations

import hashlib
import secrets
import ssl
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID
from fluvial.errors import ConfigError, RemoteProtocolError
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import NETWORK_CHARACTERS_MAX, is_network

from fluvial_transport_tcp.records import RecordQueue

LEAVES_REMEMBERED: Final = 1024
"""Certificates of which the peer id is remembered; each has half a kilobyte, or at most what a handshake may have."""
RECORD_BYTES: Final = 16_384
"""Most plaintext that one TLS record carries (RFC 8446 5.1)."""
RECORD_COST_BYTES: Final = 22
"""What a TLS record has besides its plaintext, without padding: a header, a content type and a tag (RFC 8446 5.2)."""
DECRYPT_BYTES: Final = 4 * (RECORD_BYTES + RECORD_COST_BYTES)
"""Handed to TLS at once; OpenSSL keeps buffers of this size for as long as the connection stands."""
DECRYPT_RECORDS: Final = 32
"""The same in records: one that asks for new keys has 27 bytes and takes 35 µs."""
IDLE_BYTES_FREE: Final = 512
"""What a peer may send after the handshake that carries no data: requests for new keys, tickets, padding, records of nothing. Ours send none."""
RECORDS_AN_IDLE_BYTE: Final = 2_048
"""For each so many records with data there may be one such byte more: who renews its keys after 2**24 records (RFC 8446 5.5) may always do so."""
HANDSHAKE_RECORDS_MAX: Final = 32
"""Ours need 4, or 7 on the dialling side."""
GROUP: Final = "X25519"
"""The one group for the exchange of keys. OpenSSL would take more, also finite fields of 8,192 bits: a first message of 1 KB costs the accepting side a
tenth of a second with those, since OpenSSL 3 checks the order of whatever it gets."""

_AUTHORITY_SEED: Final = hashlib.sha256(
    b"fluvial/transport_tcp/1: this authority vouches for nothing, its key is public"
).digest()
_AUTHORITY_NAME: Final = "fluvial: vouches for nothing"
_LEAF_NAME: Final = "fluvial peer"
# No clock should ever keep two peers apart; 99991231235959Z is X.509's "no well-defined expiration date" (RFC 5280 4.1.2.5).
_NOT_BEFORE: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NOT_AFTER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


class HandshakeFailed(RemoteProtocolError):
    """The other side could not prove what it had to.

    Attributes:
        outcome: one word of a closed list, for metrics.
        found: who has proven to be there, if that is somebody else than who was dialled.
    """

    def __init__(self, message: str, *, outcome: str, found: PeerId | None = None) -> None:
        super().__init__(message)
        self.outcome = outcome
        self.found = found


def public_authority() -> Ed25519PrivateKey:
    """The private key of the authority that issues every leaf; public knowledge, see the module's docstring."""
    return Ed25519PrivateKey.from_private_bytes(_AUTHORITY_SEED)


class Credentials:
    """A peer's half of every handshake: its leaf certificate, its key and the network, ready in two TLS contexts.

    Args:
        keys: the peer's key pair.
        network: name of the network, which is part of the ALPN protocol's name.

    Raises:
        ConfigError: the network's name cannot be used.
    """

    def __init__(self, keys: KeyPair, network: str) -> None:
        self.peer_id: Final = keys.peer_id
        self.network: Final = network
        self.protocol: Final = f"fluvial/1/{network}"
        if not is_network(network):
            raise ConfigError(
                f"the network's name {network[:80]!r} cannot be used by the tcp transport",
                hint=f"choose 1 to {NETWORK_CHARACTERS_MAX} printable ASCII characters",
            )
        self._server = self._context(ssl.PROTOCOL_TLS_SERVER)
        self._server.verify_mode = ssl.CERT_REQUIRED
        self._server.load_verify_locations(cadata=_authority_der())
        self._server.num_tickets = 0
        self._client = self._context(ssl.PROTOCOL_TLS_CLIENT)
        # See the module's docstring: the leaf's key and its signature are what counts.
        self._client.verify_mode = ssl.CERT_NONE
        _load((self._server, self._client), keys)

    def accept(self) -> Session:
        """The session of a connection that was accepted: whoever it is."""
        return Session(self, self._server, dialled=None)

    def dial(self, peer: PeerId) -> Session:
        """The session of a connection that was dialled: only this peer will do."""
        return Session(self, self._client, dialled=peer)

    def _context(self, side: int) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.options |= ssl.OP_NO_TICKET
        if ssl.OPENSSL_VERSION_INFO >= (3,):  # older ones take elliptic curves alone, and cannot be given this one
            context.set_ecdh_curve(GROUP)
        context.set_alpn_protocols([self.protocol])
        return context


@lru_cache(maxsize=1)
def _authority_der() -> bytes:
    """The certificate of the authority."""
    authority = _certificate(public_authority().public_key(), _AUTHORITY_NAME, is_authority=True)
    return authority.public_bytes(serialization.Encoding.DER)


def _certificate(public_key: Ed25519PublicKey, name: str, *, is_authority: bool) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(_AUTHORITY_NAME))
        .public_key(public_key)
        .serial_number(1 if is_authority else 2)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=0 if is_authority else None), critical=True)
        .sign(public_authority(), None)
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _load(contexts: Iterable[ssl.SSLContext], keys: KeyPair) -> None:
    """Give contexts their certificate; ``ssl`` reads them from files only, so the key goes through one, encrypted, for a moment."""
    private_key = cast(Ed25519PrivateKey, serialization.load_pem_private_key(keys.private_pem(), password=None))
    leaf = _certificate(private_key.public_key(), _LEAF_NAME, is_authority=False)
    password = secrets.token_hex(32)
    pem = private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    with tempfile.NamedTemporaryFile(prefix="fluvial-") as file:
        file.write(pem + leaf.public_bytes(serialization.Encoding.PEM))
        file.flush()
        for context in contexts:
            context.load_cert_chain(file.name, password=password)


class Session:
    """One connection's encryption: bytes from the wire in, bytes for the wire out; made by :class:`Credentials`."""

    def __init__(self, credentials: Credentials, context: ssl.SSLContext, *, dialled: PeerId | None) -> None:
        self._credentials = credentials
        self._dialled = dialled
        self.dialled: Final = dialled is not None
        self._queue = RecordQueue()
        self._incoming = ssl.MemoryBIO()  # whole records
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=dialled is None)
        self._handshake_records = 0
        self._idle_bytes = 0  # given to TLS since the handshake, without what carried data
        self._data_records = 0

    def feed(self, data: bytes | memoryview) -> None:
        """Add bytes from the wire."""
        self._queue.feed(data)

    def discard(self) -> None:
        """Hold nothing more of what came."""
        self._queue.discard()

    def outgoing(self) -> bytes:
        """What must be written to the wire now; perhaps nothing, after a failure perhaps the alert that tells it."""
        return self._outgoing.read()

    def handshake(self) -> PeerId | None:
        """Go on as far as the bytes that were fed allow; the proven id of the other side once that is known, else None.

        When the dialling side has got here, the accepting one may still refuse it: only its first message shows that it did not.

        Raises:
            HandshakeFailed: this is no TLS 1.3, or the other side is not who it should be.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                record, count = self._queue.take(1, DECRYPT_BYTES)
            except ssl.SSLError as error:
                raise HandshakeFailed(f"the TLS handshake failed: {_reason(error)}", outcome="tls") from error
            else:
                return self._identify()
            if not count:
                return None
            self._handshake_records += 1
            if self._handshake_records > HANDSHAKE_RECORDS_MAX:
                raise HandshakeFailed(f"no handshake within {HANDSHAKE_RECORDS_MAX} records", outcome="bytes")
            self._incoming.write(record)

    def read(self) -> bytes:
        """Decrypted bytes, at most one record's; empty if more bytes from the wire are needed.

        Raises:
            RemoteProtocolError: what was fed is no valid TLS, or the other side reports an error, ends the session, or sends much that carries no data.
        """
        while True:
            if not self._incoming.pending:  # to ask TLS would cost an exception
                if self._idle_bytes > IDLE_BYTES_FREE:
                    self._check_idle()
                records, count = self._queue.take(DECRYPT_RECORDS, DECRYPT_BYTES)
                if not count:
                    return b""
                self._idle_bytes += len(records)
                self._incoming.write(records)
            try:
                data = self._tls.read(RECORD_BYTES)
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                raise RemoteProtocolError(f"the TLS session failed: {_reason(error)}") from error
            if not data:  # close_notify; whatever follows it would pile up unread
                raise RemoteProtocolError("the other side has ended the TLS session")
            self._idle_bytes -= len(data) + RECORD_COST_BYTES
            self._data_records += 1
            return data

    def _check_idle(self) -> None:
        """Refuse what costs time and says nothing; each request for new keys leaves an answer, too."""
        if self._idle_bytes > IDLE_BYTES_FREE + self._data_records // RECORDS_AN_IDLE_BYTE:
            raise RemoteProtocolError(f"{self._idle_bytes} bytes of TLS records carried no data")

    def seal(self, data: bytes | memoryview) -> bytes:
        """``data`` encrypted, behind whatever else must be written to the wire first.

        Raises:
            RemoteProtocolError: the other side has ended the session.
        """
        try:
            if len(data):
                self._tls.write(data)
        except ssl.SSLError as error:
            raise RemoteProtocolError(f"the TLS session failed: {_reason(error)}") from error
        return self._outgoing.read()

    def _identify(self) -> PeerId:
        peer = self._leaf_peer()
        if self._dialled is not None and peer != self._dialled:
            raise HandshakeFailed(f"{peer} answers there, not {self._dialled}", outcome="wrong_peer", found=peer)
        if peer == self._credentials.peer_id:
            raise HandshakeFailed("the other side has this peer's own key", outcome="self")
        if self._tls.selected_alpn_protocol() != self._credentials.protocol:
            raise HandshakeFailed(f"{peer} is not in the network {self._credentials.network!r}", outcome="network")
        return peer

    def _leaf_peer(self) -> PeerId:
        der = self._tls.getpeercert(binary_form=True)
        if self._tls.version() != "TLSv1.3" or not der:
            raise HandshakeFailed("the other side shows no certificate over TLS 1.3", outcome="tls")
        return _certified_peer(der)


@lru_cache(maxsize=LEAVES_REMEMBERED)
def _certified_peer(der: bytes) -> PeerId:
    """The id of a leaf's key; a peer that comes again shows the same leaf."""
    try:
        key = x509.load_der_x509_certificate(der).public_key()
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion) as error:
        raise HandshakeFailed(f"the other side's certificate cannot be read: {error}", outcome="key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise HandshakeFailed("the other side's key is not Ed25519", outcome="key")
    return PeerId.from_public_key(key.public_bytes_raw())


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).lower().replace("_", " ")
