"""An encrypted channel between two peers that prove their Ed25519 keys, without I/O.

1. TLS 1.3 from the standard library. The accepting side shows a certificate whose key *is* its peer's key, and signs the handshake with it
   (CertificateVerify, RFC 8446 4.4.3), which OpenSSL checks whatever the ``verify_mode``. Nothing but that key is read: not who issued the
   certificate, nor names, dates or extensions. It makes the peer id, which the dialler compares with the one that it dialled.
2. The dialling side then sends its public key and a signature, as the first record. What it signs begins as what TLS signs, and names
   the key of the accepting side and the Finished message of the dialler, which differs in each handshake. So it is of no use on another connection or to
   another peer, even to one that is dialled and means no good.

Why the dialler shows no certificate: OpenSSL decodes whatever certificates it is sent, with all keys in them, before anybody can object. A key on an
elliptic curve with parameters of the sender's choice takes it 0.3 seconds in 600 bytes, and a chain of them 8 seconds in a handshake of
ours (OpenSSL 3.0). Who accepts is asked by everybody, so it must not decode any. Who dials cannot help it: it takes little from a peer that has
proven nothing (:data:`SEALED_BYTES_MAX`), and goes on with such a handshake in a thread (``handshake.py``).

Further rules: TLS 1.3 only; one group for the exchange of keys; no session tickets and no resumption, so that every connection proves its keys anew; the
network is the ALPN protocol, ``fluvial/2/<network>``, and a peer of another network is refused. The end of a connection is not authenticated
by TLS (no close_notify is sent): frames have lengths and a goodbye, so a truncated stream is seen one level up.
"""

from __future__ import annotations

import secrets
import ssl
import tempfile
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID
from fluvial.errors import ConfigError, RemoteProtocolError
from fluvial.identity import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, KeyPair, PeerId, verify
from fluvial.particle import NETWORK_CHARACTERS_MAX, is_network

from fluvial_transport_tcp.records import ENCRYPTED, RecordQueue

LEAVES_REMEMBERED: Final = 1024
"""Certificates of which the peer id is remembered; ours have 200 bytes each, and none has more than ``SEALED_BYTES_MAX``."""
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
"""Ours need 3, or 6 on the dialling side."""
SEALED_BYTES_MAX: Final = 640
"""In the encrypted records of the accepting side until it has proven its key, besides the network's name; ours has some 450."""
GROUP: Final = "X25519"
"""The one group for the exchange of keys. OpenSSL would take more, also finite fields of 8,192 bits: a first message of 1 KB costs the accepting side a
tenth of a second with those, since OpenSSL 3 checks the order of whatever it gets."""

PROOF_BYTES: Final = PUBLIC_KEY_BYTES + SIGNATURE_BYTES
"""What a dialler sends first."""
_PROOF_CONTEXT: Final = b" " * 64 + b"fluvial tcp 2, who dials\0"
"""What a dialler signs begins with this, as in RFC 8446 4.4.3: a peer signs nothing for others that begins with so many spaces."""
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


class Credentials:
    """A peer's half of every handshake: its key, the network, and two TLS contexts, that of the accepting side with its certificate.

    Args:
        keys: the peer's key pair.
        network: name of the network, which is part of the ALPN protocol's name.

    Raises:
        ConfigError: the network's name cannot be used.
    """

    def __init__(self, keys: KeyPair, network: str) -> None:
        self.peer_id: Final = keys.peer_id
        self.network: Final = network
        self.protocol: Final = f"fluvial/2/{network}"
        if not is_network(network):
            raise ConfigError(
                f"the network's name {network[:80]!r} cannot be used by the tcp transport",
                hint=f"choose 1 to {NETWORK_CHARACTERS_MAX} printable ASCII characters",
            )
        self._keys = keys
        self._server = self._context(ssl.PROTOCOL_TLS_SERVER)
        self._server.num_tickets = 0
        self._client = self._context(ssl.PROTOCOL_TLS_CLIENT)
        _load(self._server, keys)

    def accept(self) -> Session:
        """The session of a connection that was accepted: whoever it is."""
        return Session(self, self._server, dialled=None)

    def dial(self, peer: PeerId) -> Session:
        """The session of a connection that was dialled: only this peer will do."""
        return Session(self, self._client, dialled=peer)

    def proof(self, accepting: PeerId, finished: bytes) -> bytes:
        """What the dialling side sends first.

        Args:
            accepting: who has been dialled.
            finished: the Finished message of the dialling side.
        """
        return self._keys.public_key + self._keys.sign(signed_by_dialler(accepting, finished))

    def _context(self, side: int) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # see the module's docstring: the key and its signature are what counts
        context.options |= ssl.OP_NO_TICKET
        if ssl.OPENSSL_VERSION_INFO >= (3,):  # older ones take elliptic curves alone, and cannot be given this one
            context.set_ecdh_curve(GROUP)
        context.set_alpn_protocols([self.protocol])
        return context


def signed_by_dialler(accepting: PeerId, finished: bytes) -> bytes:
    """What a dialler's signature is over; arguments as for :meth:`Credentials.proof`."""
    return _PROOF_CONTEXT + accepting.public_key + finished


def _load(context: ssl.SSLContext, keys: KeyPair) -> None:
    """Give a context its certificate; ``ssl`` reads it from files only, so the key goes through one, encrypted, for a moment."""
    private_key = cast(Ed25519PrivateKey, serialization.load_pem_private_key(keys.private_pem(), password=None))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, _LEAF_NAME)])
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private_key.public_key())
        .serial_number(1)
        .not_valid_before(_NOT_BEFORE)
        .not_valid_after(_NOT_AFTER)
        .sign(private_key, None)
    )
    password = secrets.token_hex(32)
    pem = private_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode()),
    )
    with tempfile.NamedTemporaryFile(prefix="fluvial-") as file:
        file.write(pem + leaf.public_bytes(serialization.Encoding.PEM))
        file.flush()
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
        self._secure = False  # TLS has come to the end of its handshake
        self._peer: PeerId | None = None
        self._handshake_records = self._sealed_bytes = 0
        self._idle_bytes = 0  # given to TLS since its handshake, without what carried data
        self._data_records = 0

    def feed(self, data: bytes | bytearray | memoryview) -> None:
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
        if self._peer is None and (self._secure or self._finish_tls()):
            self._peer = self._accepted_peer() if self._dialled is None else self._dialled_peer(self._dialled)
            if self._peer == self._credentials.peer_id:
                raise HandshakeFailed("the other side has this peer's own key", outcome="self")
        return self._peer

    def _finish_tls(self) -> bool:
        """Whether TLS's own handshake is complete."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                record, count = self._queue.take(1, DECRYPT_BYTES)
            except ssl.SSLError as error:
                raise HandshakeFailed(f"the TLS handshake failed: {_reason(error)}", outcome="tls") from error
            else:
                break
            if not count:
                return False
            self._count_handshake(record)
            self._incoming.write(record)
        self._secure = True
        if self._tls.version() != "TLSv1.3":
            raise HandshakeFailed("the other side does not speak TLS 1.3", outcome="tls")
        if self._dialled is None:
            self._check_network("the other side")
        return True

    def _check_network(self, who: PeerId | str) -> None:
        if self._tls.selected_alpn_protocol() != self._credentials.protocol:
            raise HandshakeFailed(f"{who} is not in the network {self._credentials.network!r}", outcome="network")

    def _count_handshake(self, record: memoryview) -> None:
        self._handshake_records += 1
        if self._handshake_records > HANDSHAKE_RECORDS_MAX:
            raise HandshakeFailed(f"no handshake within {HANDSHAKE_RECORDS_MAX} records", outcome="bytes")
        if record[0] == ENCRYPTED:
            self._sealed_bytes += len(record)
            if self._sealed_bytes > SEALED_BYTES_MAX + len(self._credentials.protocol):
                raise HandshakeFailed(f"it needs more than {SEALED_BYTES_MAX} bytes to prove its key", outcome="bytes")

    def _dialled_peer(self, dialled: PeerId) -> PeerId:
        """Who has proven to be there, to whom this side proves who it is."""
        der = self._tls.getpeercert(binary_form=True)
        if not der:
            raise HandshakeFailed("the other side shows no certificate", outcome="tls")
        peer = _certified_peer(der)
        if peer != dialled:
            raise HandshakeFailed(f"{peer} answers there, not {dialled}", outcome="wrong_peer", found=peer)
        self._check_network(peer)
        self._tls.write(self._credentials.proof(peer, self._finished()))
        return peer

    def _accepted_peer(self) -> PeerId | None:
        """Who has proven to have dialled; None if its proof is not here yet."""
        try:
            proof = self.read()
        except RemoteProtocolError as error:
            raise HandshakeFailed(error.message, outcome="tls") from error
        if not proof:
            return None
        key, signature = proof[:PUBLIC_KEY_BYTES], proof[PUBLIC_KEY_BYTES:]
        if not verify(key, signature, signed_by_dialler(self._credentials.peer_id, self._finished())):
            raise HandshakeFailed("the other side does not prove its key", outcome="key")
        return PeerId.from_public_key(key)

    def _finished(self) -> bytes:
        """The Finished message of the dialling side, which both sides know: a MAC over the whole handshake with a key of this connection alone."""
        finished = self._tls.get_channel_binding(
            "tls-unique"
        )  # without resumption, as always here, this is what it gives
        if not finished:
            raise HandshakeFailed("TLS does not say how its handshake ended", outcome="tls")
        return finished

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
