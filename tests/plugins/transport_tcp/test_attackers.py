"""Nobody gets in who does not prove an Ed25519 key of the right network, and nobody stays on the doorstep for long."""

from __future__ import annotations

import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID
from fluvial.addresses import Address, Contact
from fluvial.errors import ConfigError, Unreachable
from fluvial.identity import KeyPair
from fluvial.testing.transport import WAIT_S, eventually
from fluvial_transport_tcp.secure import Credentials, HandshakeFailed, Session, public_authority

from tests.plugins.transport_tcp.forger import log_in
from tests.plugins.transport_tcp.peers import NETWORK, StartPeer, TcpPeer, stranger

ALPN = f"fluvial/1/{NETWORK}"
ENDS = (anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError)


def certificate(key: PrivateKeyTypes, *, issuer: str = "fluvial: vouches for nothing", name: str = "x") -> bytes:
    """A leaf for any key, issued by the public authority, as anybody can."""
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())  # type: ignore[arg-type]  # never one of the kinds X.509 does not know
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(public_authority(), None)
        .public_bytes(serialization.Encoding.PEM)
    )


def context(
    folder: Path, key: PrivateKeyTypes | None, *, server: bool = False, chain: bytes = b"", alpn: str = ALPN
) -> ssl.SSLContext:
    """A TLS context that checks nothing and shows a certificate of ``key``."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.set_alpn_protocols([alpn])
    if key is not None:
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / "attacker.pem").write_bytes(pem + certificate(key) + chain)
        made.load_cert_chain(folder / "attacker.pem")
    return made


async def refused(peer: TcpPeer, outcome: str, count: int = 1) -> None:
    """The peer has counted the attack, and nothing came of it."""
    await eventually(lambda: peer.metric("handshakes_total", outcome=outcome) >= count, f"outcome {outcome}")
    assert peer.metric("handshakes_total", outcome="ok") == 0
    assert peer.connections == []
    assert peer.received == []


async def attack(peer: TcpPeer, tls: ssl.SSLContext) -> None:
    """Connect, say something, and listen until the peer hangs up."""
    with anyio.fail_after(WAIT_S), contextlib.suppress(*ENDS):
        async with await anyio.connect_tcp(
            "127.0.0.1", peer.port, tls=True, ssl_context=tls, tls_standard_compatible=False, tls_hostname="x"
        ) as stream:
            await stream.send(b"let me in, please")
            while True:
                await stream.receive()


class TestWhoDials:
    async def test_a_certificate_of_another_key_is_refused(self, start: StartPeer) -> None:
        """The victim's certificate is easily made; what counts is the signature over the handshake."""
        peer, victim, attacker = await start(), Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        der = x509.load_pem_x509_certificate(certificate(victim)).public_bytes(serialization.Encoding.DER)
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            await log_in(stream, certificate=der, signing_key=attacker, alpn=ALPN.encode())
            await hang_up(stream)
        await refused(peer, "tls")

    async def test_the_forger_gets_in_with_the_right_key(self, start: StartPeer) -> None:
        """The counterpart of the test above: there it is the key alone that fails. Here it fails to say hello."""
        peer, key = await start(), Ed25519PrivateKey.generate()
        der = x509.load_pem_x509_certificate(certificate(key)).public_bytes(serialization.Encoding.DER)
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            await log_in(stream, certificate=der, signing_key=key, alpn=ALPN.encode())
            assert len(await stream.receive()) > 50  # the peer's own hello
        await refused(peer, "closed")

    @pytest.mark.parametrize("kind", ["rsa", "ec"])
    async def test_other_kinds_of_keys_are_refused(self, start: StartPeer, tmp_path: Path, kind: str) -> None:
        peer = await start()
        key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
        await attack(peer, context(tmp_path, key))
        await refused(peer, "key")

    async def test_no_certificate_is_refused(self, start: StartPeer, tmp_path: Path) -> None:
        peer = await start()
        await attack(peer, context(tmp_path, None))
        await refused(peer, "tls")

    async def test_a_self_issued_certificate_is_refused(self, start: StartPeer, tmp_path: Path) -> None:
        peer, key = await start(), Ed25519PrivateKey.generate()
        tls = context(tmp_path, key)
        text = (tmp_path / "attacker.pem").read_bytes().split(b"-----BEGIN CERTIFICATE-----")[0]
        (tmp_path / "attacker.pem").write_bytes(text + certificate(key, issuer="somebody else"))
        tls.load_cert_chain(tmp_path / "attacker.pem")
        await attack(peer, tls)
        await refused(peer, "tls")

    async def test_extra_chain_members_mean_nothing(self, start: StartPeer, tmp_path: Path) -> None:
        """The leaf's key counts, not the victim's that is shown behind it: the attacker is known as itself."""
        peer, key, victim = await start(handshake_timeout_s=0.5), KeyPair.generate(), Ed25519PrivateKey.generate()
        ed25519 = serialization.load_pem_private_key(key.private_pem(), None)
        tls = context(tmp_path, ed25519, chain=certificate(victim, name="y"))
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = tls.wrap_bio(incoming, outgoing)
        server = Credentials(peer.keys, NETWORK).accept()
        assert pump(client, incoming, outgoing, server) == key.peer_id
        await attack(peer, tls)
        await refused(peer, "hello")

    async def test_long_chains_are_refused(self, start: StartPeer, tmp_path: Path) -> None:
        peer = await start()
        chain = b"".join(certificate(Ed25519PrivateKey.generate(), name=f"member {n}") for n in range(80))
        await attack(peer, context(tmp_path, Ed25519PrivateKey.generate(), chain=chain))
        await refused(peer, "bytes")

    async def test_tls_1_2_is_refused(self, start: StartPeer, tmp_path: Path) -> None:
        peer = await start()
        tls = context(tmp_path, Ed25519PrivateKey.generate())
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        await attack(peer, tls)
        await refused(peer, "tls")

    async def test_other_networks_are_refused(self, start: StartPeer, tmp_path: Path) -> None:
        peer = await start()
        for alpn in ("fluvial/1/elsewhere", "h2"):
            await attack(peer, context(tmp_path, Ed25519PrivateKey.generate(), alpn=alpn))
        await refused(peer, "network", 2)

    async def test_plain_text_is_refused(self, start: StartPeer) -> None:
        peer = await start()
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            await stream.send(b"GET / HTTP/1.1\r\nHost: peer\r\n\r\n")
            await hang_up(stream)
        await refused(peer, "tls")

    async def test_who_says_nothing_is_cut_off(self, start: StartPeer) -> None:
        peer = await start(handshake_timeout_s=0.2)
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            await hang_up(stream)
        await refused(peer, "timeout")

    async def test_who_says_it_slowly_is_cut_off(self, start: StartPeer) -> None:
        """Every byte in time, but not all of them."""
        peer = await start(handshake_timeout_s=0.3)
        session = Credentials(KeyPair.generate(), NETWORK).dial(peer.id)
        session.handshake()
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            with anyio.fail_after(WAIT_S), contextlib.suppress(anyio.BrokenResourceError):
                for byte in session.outgoing():
                    await stream.send(bytes([byte]))
                    await anyio.sleep(0.02)
                pytest.fail("all of it was taken")
        await refused(peer, "timeout")

    async def test_who_proves_its_key_but_says_no_hello_is_cut_off(self, start: StartPeer, tmp_path: Path) -> None:
        peer = await start(handshake_timeout_s=0.3)
        tls = context(tmp_path, Ed25519PrivateKey.generate())
        async with await anyio.connect_tcp(
            "127.0.0.1", peer.port, tls=True, ssl_context=tls, tls_standard_compatible=False, tls_hostname="x"
        ) as stream:
            await hang_up(stream)
        await refused(peer, "timeout")

    async def test_slow_handshakes_do_not_keep_others_out(self, start: StartPeer) -> None:
        """The oldest of them makes room."""
        peer, honest = await start(handshakes_max=2), await start()
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(5):
                await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", peer.port))
            assert await honest.request(peer, b"hello") == b"hello"
            await eventually(lambda: peer.metric("handshakes_total", outcome="crowded") >= 3, "three had to go")

    async def test_a_peer_does_not_connect_to_its_own_key(self, start: StartPeer) -> None:
        peer = await start()
        twin = await start(keys=peer.keys)
        with pytest.raises(HandshakeFailed, match="own key"):
            async with stranger(peer.contact, keys=twin.keys):
                pass
        await refused(peer, "self")


class TestWhoIsDialled:
    async def test_another_peer_than_the_dialled_one_is_refused(self, start: StartPeer) -> None:
        peer, other = await start(), await start()
        somebody = KeyPair.generate().peer_id
        with pytest.raises(Unreachable, match=f"{other.id} answers there, not {somebody}"):
            await peer.request(Contact(somebody, (Address.parse(f"/ip4/127.0.0.1/tcp/{other.port}"),)), b"hello")
        await refused(peer, "wrong_peer")
        assert other.connections == []

    @pytest.mark.parametrize(
        ("kind", "outcome"), [("rsa", "key"), ("ec", "key"), ("tls 1.2", "closed"), ("alpn", "network")]
    )
    async def test_impostors_are_refused(self, start: StartPeer, tmp_path: Path, kind: str, outcome: str) -> None:
        """Whatever a server shows, the dialler goes by the key, the version and the network."""
        peer, keys = await start(), KeyPair.generate()
        key = serialization.load_pem_private_key(keys.private_pem(), None)
        if kind == "rsa":
            key = rsa.generate_private_key(65537, 2048)
        elif kind == "ec":
            key = ec.generate_private_key(ec.SECP256R1())
        tls = context(tmp_path, key, server=True, alpn="h2" if kind == "alpn" else ALPN)
        if kind == "tls 1.2":
            tls.maximum_version = ssl.TLSVersion.TLSv1_2
        async with impostor(tls) as port:
            with pytest.raises(Unreachable):
                await peer.request(Contact(keys.peer_id, (Address.parse(f"/ip4/127.0.0.1/tcp/{port}"),)), b"hello")
        await refused(peer, outcome)


def test_sessions_are_never_resumed() -> None:
    """A server gives no tickets, and a client that kept its session would have to prove its key again."""
    one, other = Credentials(KeyPair.generate(), NETWORK), Credentials(KeyPair.generate(), NETWORK)
    client, server = one.dial(other.peer_id), other.accept()
    assert shake(client, server) == (other.peer_id, one.peer_id)
    sent = server.outgoing()
    assert sent == b"", "a ticket"


@pytest.mark.parametrize("network", ["", "n" * 250, "Brücke"])
def test_networks_whose_name_does_not_fit_are_refused(network: str) -> None:
    with pytest.raises(ConfigError, match="network"):
        Credentials(KeyPair.generate(), network)


@contextlib.asynccontextmanager
async def impostor(tls: ssl.SSLContext) -> AsyncIterator[int]:
    """A TLS server that is not fluvial's; its port."""

    async def serve(stream: SocketStream) -> None:
        async with stream:
            with contextlib.suppress(*ENDS):
                await hang_up(await TLSStream.wrap(stream, ssl_context=tls, standard_compatible=False))

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, serve)
        yield listener.extra(SocketAttribute.local_port)
        group.cancel_scope.cancel()


async def hang_up(stream: ByteStream) -> None:
    """Wait until the other side closes the connection."""
    with anyio.fail_after(WAIT_S), contextlib.suppress(*ENDS):
        while True:
            await stream.receive()


def shake(client: Session, server: Session) -> tuple[str | None, str | None]:
    """Both sessions' handshake; whom each saw."""
    seen: list[str | None] = [None, None]
    for _ in range(4):
        for number, (here, there) in enumerate(((client, server), (server, client))):
            if seen[number] is None:
                seen[number] = here.handshake()
            there.feed(here.outgoing())
    return seen[0], seen[1]


def pump(client: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, server: Session) -> str | None:
    """A foreign client's handshake with a session; whom the session saw."""
    seen = None
    for _ in range(4):
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        server.feed(outgoing.read())
        seen = seen or server.handshake()
        incoming.write(server.outgoing())
    return seen
