"""Nobody gets in who does not prove an Ed25519 key of the right network, and nobody stays on the doorstep for long."""

from __future__ import annotations

import contextlib
import datetime
import ssl
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.x509.oid import NameOID
from fluvial.addresses import Address, Contact
from fluvial.encoding import encode
from fluvial.errors import ConfigError, Unreachable
from fluvial.identity import KeyPair, PeerId
from fluvial.testing.transport import WAIT_S, eventually
from fluvial_transport_tcp.framing import Kind, Message, encode_frame
from fluvial_transport_tcp.handshake import Hello
from fluvial_transport_tcp.secure import Credentials, HandshakeFailed, Session

from tests.plugins.transport_tcp.forger import ALERT, APPLICATION_DATA, X25519, RecordKeys, client_hello, log_in, show
from tests.plugins.transport_tcp.peers import NETWORK, StartPeer, TcpPeer, stranger
from tests.plugins.transport_tcp.slow_keys import slow_certificate

ALPN = f"fluvial/2/{NETWORK}"
SLOW_S = 0.1
"""A third of what one slow key takes."""
PING = b"".join(encode_frame(Message(Kind.PING)))
ENDS = (anyio.EndOfStream, anyio.BrokenResourceError, ssl.SSLError)


def certificate(key: PrivateKeyTypes) -> bytes:
    """A self-issued certificate for any key."""
    now = datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    digest = None if isinstance(key, Ed25519PrivateKey) else hashes.SHA256()
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())  # type: ignore[arg-type]  # never one of the kinds X.509 does not know
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, digest)  # type: ignore[arg-type]  # as above
        .public_bytes(serialization.Encoding.PEM)
    )


def context(
    folder: Path, key: PrivateKeyTypes | None = None, *, server: bool = False, chain: bytes = b"", alpn: str = ALPN
) -> ssl.SSLContext:
    """A TLS context that checks nothing and shows a certificate of ``key``, if there is one."""
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
    async def test_another_key_than_that_which_signs_is_refused(self, start: StartPeer) -> None:
        """The victim's key is known to all; what counts is the signature over the handshake."""
        peer, victim, attacker = await start(), Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            await log_in(stream, accepting=peer.id, alpn=ALPN.encode(), key=attacker, shown=victim)
            await hang_up(stream)
        await refused(peer, "key")

    async def test_a_signature_for_another_peer_is_refused(self, start: StartPeer) -> None:
        """So whoever is dialled cannot use it to be taken for the dialler elsewhere."""
        peer, other = await start(), await start()
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            await log_in(stream, accepting=other.id, alpn=ALPN.encode(), key=Ed25519PrivateKey.generate())
            await hang_up(stream)
        await refused(peer, "key")

    async def test_the_forger_gets_in_with_the_right_key(self, start: StartPeer) -> None:
        """The counterpart of the tests above: there it is the signature alone that fails. Here it fails to say hello."""
        peer, key = await start(), Ed25519PrivateKey.generate()
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            await log_in(stream, accepting=peer.id, alpn=ALPN.encode(), key=key)
            assert len(await stream.receive()) > 50  # the peer's own hello
        await refused(peer, "closed")

    async def test_no_proof_is_refused(self, start: StartPeer, tmp_path: Path) -> None:
        peer = await start()
        await attack(peer, context(tmp_path))
        await refused(peer, "key")

    async def test_a_proof_is_of_no_use_a_second_time(self) -> None:
        """Not even on another connection between the same two."""
        peer, keys = KeyPair.generate(), KeyPair.generate()
        proofs = []
        for _ in range(2):
            client, server = Credentials(keys, NETWORK).dial(peer.peer_id), Credentials(peer, NETWORK).accept()
            shake(client, server)
            proofs.append(Credentials(keys, NETWORK).proof(peer.peer_id, server._finished()))
        assert proofs[0] != proofs[1]

    @pytest.mark.parametrize(("count", "outcome"), [(1, "tls"), (20, "bytes")])
    async def test_certificates_are_not_looked_at(self, start: StartPeer, count: int, outcome: str) -> None:
        """OpenSSL would decode their keys, which may take seconds."""
        peer, key = await start(), Ed25519PrivateKey.generate()
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            shown = (slow_certificate(),) * count
            began = time.thread_time()
            await log_in(stream, accepting=peer.id, alpn=ALPN.encode(), key=key, certificates=shown)
            await hang_up(stream)
        assert time.thread_time() - began < SLOW_S
        await refused(peer, outcome)

    @pytest.mark.parametrize(("group", "size"), [(256, 256), (257, 384)])
    async def test_keys_in_finite_fields_are_not_exchanged(self, start: StartPeer, group: int, size: int) -> None:
        """ffdhe2048 and ffdhe3072 (RFC 7919); with the longest one, OpenSSL would take a tenth of a second."""
        peer = await start()
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            await stream.send(client_hello(group, b"\1" * size, ALPN.encode()))
            await hang_up(stream)
        await refused(peer, "tls")

    async def test_a_handshake_in_crumbs_is_refused(self, start: StartPeer) -> None:
        peer = await start()
        hello = client_hello(X25519, bytes(range(32)), ALPN.encode())
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            await stream.send(b"".join(hello[:3] + b"\0\1" + bytes([byte]) for byte in hello[5:]))
            await hang_up(stream)
        await refused(peer, "bytes")

    async def test_tls_1_2_is_refused(self, start: StartPeer, tmp_path: Path) -> None:
        peer = await start()
        tls = context(tmp_path)
        tls.maximum_version = ssl.TLSVersion.TLSv1_2
        await attack(peer, tls)
        await refused(peer, "tls")

    async def test_other_networks_are_refused(self, start: StartPeer, tmp_path: Path) -> None:
        peer = await start()
        for alpn in ("fluvial/1/elsewhere", "h2"):
            await attack(peer, context(tmp_path, alpn=alpn))
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
        tls = context(tmp_path)
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
        ("kind", "outcome"),
        [("rsa", "bytes"), ("chain", "bytes"), ("ec", "key"), ("tls 1.2", "closed"), ("alpn", "network")],
    )
    async def test_impostors_are_refused(self, start: StartPeer, tmp_path: Path, kind: str, outcome: str) -> None:
        """Whatever a server shows, the dialler goes by the key, the version and the network."""
        peer, keys = await start(), KeyPair.generate()
        key = serialization.load_pem_private_key(keys.private_pem(), None)
        if kind == "rsa":
            key = rsa.generate_private_key(65537, 2048)
        elif kind == "ec":
            key = ec.generate_private_key(ec.SECP256R1())
        chain = certificate(Ed25519PrivateKey.generate()) * 2 if kind == "chain" else b""
        tls = context(tmp_path, key, server=True, chain=chain, alpn="h2" if kind == "alpn" else ALPN)
        if kind == "tls 1.2":
            tls.maximum_version = ssl.TLSVersion.TLSv1_2
        async with impostor(tls) as port:
            with pytest.raises(Unreachable):
                await peer.request(Contact(keys.peer_id, (Address.parse(f"/ip4/127.0.0.1/tcp/{port}"),)), b"hello")
        await refused(peer, outcome)

    async def test_what_it_shows_is_looked_at_in_a_thread(
        self, start: StartPeer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What comes back first holds its certificate; the key in it may take a third of a second to decode."""
        peer, other = await start(), await start()
        done, step = [], Session.handshake

        def noted(session: Session) -> PeerId | None:
            proven = step(session)
            done.append((session.dialled, proven is not None, threading.current_thread() is threading.main_thread()))
            return proven

        monkeypatch.setattr(Session, "handshake", noted)
        assert await peer.request(other, b"hello") == b"hello"
        assert (True, True, False) in done
        assert (True, True, True) not in done
        assert (False, True, True) in done

    async def test_a_slow_key_does_not_stop_the_event_loop(self, start: StartPeer) -> None:
        peer, keys = await start(), KeyPair.generate()

        async def serve(stream: SocketStream) -> None:
            async with stream:
                await show(stream, slow_certificate(), ALPN.encode())

        async with listening(serve) as port:
            began, all_began = time.thread_time(), time.process_time()
            with pytest.raises(Unreachable):
                await peer.request(Contact(keys.peer_id, (Address.parse(f"/ip4/127.0.0.1/tcp/{port}"),)), b"hello")
            assert time.thread_time() - began < SLOW_S
            assert time.process_time() - all_began > SLOW_S, "the key is not slow any more"
        await refused(peer, "closed")

    async def test_who_shakes_hands_and_hangs_up_is_dialled_a_few_times(self, start: StartPeer) -> None:
        """And not until the time of the message is over."""
        peer, keys = await start(), KeyPair.generate()
        credentials, count = Credentials(keys, NETWORK), 0
        last_words = (Message(Kind.HELLO, body=encode(Hello((), 65_536, 131_072))), Message(Kind.GOODBYE, label="bye"))

        async def serve(stream: SocketStream) -> None:
            nonlocal count
            count += 1
            session = credentials.accept()
            async with stream:
                while session.handshake() is None:
                    if data := session.outgoing():
                        await stream.send(data)
                    session.feed(await stream.receive())
                await stream.send(session.seal(b"".join(b"".join(encode_frame(message)) for message in last_words)))
                await hang_up(stream)

        async with listening(serve) as port:
            contact = Contact(keys.peer_id, (Address.parse(f"/ip4/127.0.0.1/tcp/{port}"),))
            with pytest.raises(Unreachable, match="3 dials in a row"):
                await peer.request(contact, b"hello")
        assert count == 3


IDLE: Final[dict[str, Callable[[RecordKeys], bytes]]] = {
    "new keys": lambda keys: keys.update(),
    "new keys for one side": lambda keys: keys.update(0),
    "nothing": lambda keys: keys.seal(b"", APPLICATION_DATA),
    "padding": lambda keys: keys.seal(PING + bytes([APPLICATION_DATA]) + bytes(600), 0),
    "new keys among data": lambda keys: keys.update() + keys.seal(PING, APPLICATION_DATA),
    "warnings": lambda keys: keys.seal(b"\1\x5a", ALERT),
}
"""One piece of what carries no data, by what it is."""


class TestRecordsWithoutData:
    @pytest.mark.parametrize("kind", IDLE)
    async def test_who_sends_many_is_cut_off(self, start: StartPeer, kind: str) -> None:
        """Each costs time, and each request for new keys leaves an answer in memory."""
        peer = await start()
        async with logged_in(peer) as (stream, keys):
            await stream.send(b"".join(IDLE[kind](keys) for _ in range(40)))
            await eventually(lambda: peer.metric("closed_total", reason="protocol") == 1, "it is cut off")

    @pytest.mark.parametrize("kind", ["new keys", "new keys for one side", "nothing", "new keys among data"])
    async def test_some_do_no_harm(self, start: StartPeer, kind: str) -> None:
        peer = await start()
        async with logged_in(peer) as (stream, keys):
            for _ in range(10):
                await stream.send(IDLE[kind](keys))
            await stream.send(keys.seal(PING, APPLICATION_DATA))
            await eventually(lambda: peer.metric("messages_total", direction="in", kind="ping") > 0, "it is heard")
            assert peer.transport.connected()


@contextlib.asynccontextmanager
async def logged_in(peer: TcpPeer) -> AsyncIterator[tuple[SocketStream, RecordKeys]]:
    """A connection that the peer has taken, in the hands of the forger."""
    async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
        keys = await log_in(stream, accepting=peer.id, alpn=ALPN.encode(), key=Ed25519PrivateKey.generate())
        hello = encode_frame(Message(Kind.HELLO, body=encode(Hello((), 65_536, 131_072))))
        await stream.send(keys.seal(b"".join(hello), APPLICATION_DATA))
        await eventually(lambda: bool(peer.transport.connected()), "it is connected")
        yield stream, keys


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

    async with listening(serve) as port:
        yield port


@contextlib.asynccontextmanager
async def listening(serve: Callable[[SocketStream], Awaitable[None]]) -> AsyncIterator[int]:
    """A server of one's own; its port."""
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
