"""From a fresh TCP stream to a link: TLS, then one Hello from each side, under one limit of time and one of bytes.

====== ================================== ================================ ==============
state  what is here                       next                             else
====== ================================== ================================ ==============
tls    the other side's part of TLS       proven                           tls, network
proven its id, network and key are right  refused by ``refuse``, or: hello wrong_peer …
hello  its Hello, of the right form       refused by ``admit``, or: link   hello, refused
====== ================================== ================================ ==============

In every state the time (``timeout``), the bytes (``bytes``) or the connection (``closed``) may end. The last column has the outcomes
that are counted when the handshake ends there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_address
from typing import Final, Generic, Protocol, TypeVar

import anyio
import msgspec
from fluvial.addresses import Address
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId

from fluvial_transport_tcp.framing import TEXT_BYTES_MAX, Decoder, Kind, Message, encode_frame
from fluvial_transport_tcp.newest_first import NewestFirst
from fluvial_transport_tcp.options import ADDRESSES_MAX, FRAME_BYTES_MIN
from fluvial_transport_tcp.prefix import Prefix
from fluvial_transport_tcp.secure import HandshakeFailed, Session

HANDSHAKE_BYTES_MAX: Final = 16_384
"""What a peer may send until its Hello is complete; ours send 1 KB and at most 4 KB of addresses."""
HELLO_FRAME_BYTES_MAX: Final = 8_192
FAREWELL_S: Final = 1.0
"""Time to tell the other side why it is refused, before it is cut off."""

GONE: Final = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
"""What a stream raises when the connection is no more."""


class DuplexStream(Protocol):
    """What the transport needs of a connection; raises what is in ``GONE``."""

    async def receive(self, max_bytes: int = ..., /) -> bytes:
        """At least one byte."""
        ...

    async def send(self, item: bytes, /) -> None:
        """Hand bytes over to be sent."""
        ...

    def close(self) -> None:
        """Close it at once; whoever waits for it is woken."""
        ...


class Hello(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What each side says first.

    Attributes:
        addresses: multiaddrs under which the sender can be dialled; none for a client.
        frame_bytes_max: largest frame that it takes.
        window_bytes: how much may be on its way to it or being handled there.
    """

    addresses: tuple[str, ...]
    frame_bytes_max: int
    window_bytes: int


StreamT = TypeVar("StreamT", bound=DuplexStream)


class Link(msgspec.Struct, Generic[StreamT], frozen=True, kw_only=True):
    """A stream whose other end has proven to be ``peer``; ``decoder`` and ``session`` may hold what it sent behind its Hello.

    ``prefix`` is the network that it came from, None if this side dialled it.
    """

    stream: StreamT
    session: Session
    decoder: Decoder
    peer: PeerId
    dialled: bool
    hello: Hello
    addresses: tuple[Address, ...]
    prefix: Prefix | None = None


async def shake_hands(
    stream: StreamT,
    session: Session,
    hello: Hello,
    *,
    host: str,
    prefix: Prefix | None = None,
    timeout_s: float,
    refuse: Callable[[PeerId], str] = lambda peer: "",
    admit: Callable[[PeerId], str] = lambda peer: "",
    on_bytes: Callable[[], None] = lambda: None,
    thread: NewestFirst | None = None,
) -> Link[StreamT]:
    """Authenticate the other end of a stream; the stream stays the caller's to close.

    Args:
        stream: connected, nothing sent or received yet.
        session: of the side that dialled, or of the one that accepted.
        hello: what to say.
        host: the numeric address of the other end.
        prefix: its network, if it was accepted.
        timeout_s: for all of it.
        refuse: asked with the proven id before this side says hello; a text is told to the other side instead, and ends it.
        admit: asked in the same way when all else is done.
        on_bytes: called when the other side has sent something.
        thread: for what the one that was dialled shows; one of its own by default.

    Raises:
        HandshakeFailed: whatever went wrong; the other side has been told, as far as it listens.
    """
    exchange = _Exchange(stream, session, on_bytes, thread)
    try:
        with anyio.fail_after(timeout_s):
            peer = await exchange.authenticate()
            _check_refusal(peer, refuse(peer))
            await exchange.say(Message(Kind.HELLO, body=encode(hello)))
            theirs = await exchange.hear_hello()
            addresses = _announced(theirs, peer, host)
            _check_refusal(peer, admit(peer))
    except HandshakeFailed as error:
        await exchange.tell(error)
        raise
    except RemoteProtocolError as error:
        failure = HandshakeFailed(f"no proper hello: {error.message}", outcome="hello")
        await exchange.tell(failure)
        raise failure from error
    except TimeoutError as error:
        raise HandshakeFailed(f"no handshake within {timeout_s:g} s", outcome="timeout") from error
    except GONE as error:
        raise HandshakeFailed("the other side closed the connection during the handshake", outcome="closed") from error
    exchange.decoder.frame_bytes_max = hello.frame_bytes_max
    return Link(
        stream=stream,
        session=session,
        decoder=exchange.decoder,
        peer=peer,
        dialled=session.dialled,
        hello=theirs,
        addresses=addresses,
        prefix=prefix,
    )


async def prove_key(
    stream: DuplexStream, session: Session, *, timeout_s: float, thread: NewestFirst | None = None
) -> PeerId:
    """The id that the other end of a stream proves to have; nothing more is said, and the stream stays the caller's to close.

    Raises:
        HandshakeFailed: it did not prove the key that was dialled.
    """
    try:
        with anyio.fail_after(timeout_s):
            return await _Exchange(stream, session, lambda: None, thread).authenticate()
    except TimeoutError as error:
        raise HandshakeFailed(f"no handshake within {timeout_s:g} s", outcome="timeout") from error
    except GONE as error:
        raise HandshakeFailed("the other side closed the connection during the handshake", outcome="closed") from error


def _check_refusal(peer: PeerId, refusal: str) -> None:
    if refusal:
        raise HandshakeFailed(f"{peer} is refused: {refusal}", outcome="full")


class _Exchange:
    """The bytes that go to and fro, counted."""

    def __init__(
        self, stream: DuplexStream, session: Session, on_bytes: Callable[[], None], thread: NewestFirst | None
    ) -> None:
        self._stream = stream
        self._session = session
        self._on_bytes = on_bytes
        self._thread = thread
        self._received = 0
        self.decoder = Decoder(HELLO_FRAME_BYTES_MAX)

    async def authenticate(self) -> PeerId:
        """The proven id; what TLS has left to say then leaves together with the first message."""
        while (peer := await self._step()) is None:
            if data := self._session.outgoing():
                await self._stream.send(data)
            await self._more()
        return peer

    async def _step(self) -> PeerId | None:
        """Go on with what is here. A certificate may hold a key that takes OpenSSL a third of a second to decode, and meanwhile the event loop goes on."""
        step = self._session.handshake
        if self._session.dialled and self._received:
            return await (self._thread or NewestFirst()).call(step)
        return step()

    async def say(self, message: Message) -> None:
        await self._stream.send(self._session.seal(b"".join(encode_frame(message))))

    async def hear_hello(self) -> Hello:
        while (message := self.decoder.next_message()) is None:
            if data := self._session.read():
                self.decoder.feed(data)
            else:
                await self._more()
        if message.kind is Kind.GOODBYE:
            raise HandshakeFailed(f"the other side refused: {message.body.decode(errors='replace')}", outcome="refused")
        if message.kind is not Kind.HELLO:
            raise RemoteProtocolError(f"it begins with a {message.kind.name}")
        return _checked(decode(message.body, Hello, what="hello"))

    async def tell(self, error: HandshakeFailed) -> None:
        """Send the TLS alert that a failure left, or a goodbye; whether it arrives does not matter."""
        with anyio.move_on_after(FAREWELL_S, shield=True), suppress(*GONE, RemoteProtocolError):
            if error.outcome in ("full", "network", "hello", "self"):
                await self.say(Message(Kind.GOODBYE, label=error.outcome, body=error.message.encode()[:TEXT_BYTES_MAX]))
            elif data := self._session.outgoing():
                await self._stream.send(data)

    async def _more(self) -> None:
        room = HANDSHAKE_BYTES_MAX - self._received
        if room <= 0:
            raise HandshakeFailed(f"no handshake within {HANDSHAKE_BYTES_MAX} bytes", outcome="bytes")
        data = await self._stream.receive(room)
        self._on_bytes()
        self._received += len(data)
        self._session.feed(data)


def _checked(hello: Hello) -> Hello:
    if len(hello.addresses) > ADDRESSES_MAX:
        raise RemoteProtocolError(f"it announces more than {ADDRESSES_MAX} addresses")
    if hello.frame_bytes_max < FRAME_BYTES_MIN or hello.window_bytes < 2 * hello.frame_bytes_max:
        raise RemoteProtocolError(
            f"it takes frames of {hello.frame_bytes_max} bytes in a window of {hello.window_bytes}; "
            f"{FRAME_BYTES_MIN} and twice the frame are the least"
        )
    return hello


def _announced(hello: Hello, peer: PeerId, seen_host: str) -> tuple[Address, ...]:
    """The addresses in a Hello; who listens on all interfaces (0.0.0.0, ::) is given the host that is seen here."""
    addresses = []
    for text in hello.addresses:
        try:
            address = Address.parse(text)
        except ValueError as error:
            raise HandshakeFailed(f"{peer} announces what is no address: {error}", outcome="hello") from error
        if address.peer not in (None, peer):
            raise HandshakeFailed(f"{peer} announces an address of {address.peer}", outcome="hello")
        if address.relay is None and address.host_kind.startswith("ip") and ip_address(address.host).is_unspecified:
            kind = f"ip{ip_address(seen_host).version}"
            address = Address(host_kind=kind, host=seen_host, port=address.port)
        addresses.append(address.with_peer(peer))
    return tuple(addresses)
