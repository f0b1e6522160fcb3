"""What the tests of the TCP transport share: real peers, and strangers who speak its protocol as they like."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup
from fluvial.addresses import Contact
from fluvial.identity import KeyPair, PeerId
from fluvial.seats import Receive
from fluvial.testing.closed import closed_context
from fluvial.testing.ports import WeightsTrust
from fluvial.testing.transport import WAIT_S, TransportPeer
from fluvial_transport_tcp.framing import Message, encode_frame
from fluvial_transport_tcp.handshake import Hello, Link, shake_hands
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.secure import Credentials
from fluvial_transport_tcp.transport import TcpTransport
from prometheus_client import CollectorRegistry

NETWORK = "test"
LOOPBACK = "/ip4/127.0.0.1/tcp/0"
SMALL: dict[str, Any] = {"frame_bytes_max": 65_536, "window_bytes": 131_072}
"""The smallest limits: two messages of 30 KB fill a window."""

QUIET = structlog.make_filtering_bound_logger(logging.WARNING)


class TcpPeer(TransportPeer):
    """A peer whose transport is TCP, with its metrics."""

    def __init__(self, transport: TcpTransport, keys: KeyPair, receive: Receive | None, metrics: CollectorRegistry):
        super().__init__(transport, keys.peer_id, receive)
        self.keys = keys
        self.metrics = metrics

    def metric(self, name: str, **labels: str) -> float:
        return self.metrics.get_sample_value(f"fluvial_transport_{name}", labels) or 0.0

    @property
    def port(self) -> int:
        return self.transport.addresses[0].port


class StartPeer:
    """Starts peers that listen on this machine, unless told otherwise; keyword arguments are options of the transport."""

    def __init__(self, group: TaskGroup, base_dir: Path) -> None:
        self._group = group
        self._base_dir = base_dir

    async def __call__(
        self,
        *,
        keys: KeyPair | None = None,
        receive: Receive | None = None,
        network: str = NETWORK,
        quiet: bool = False,
        weights: Mapping[PeerId, int] | None = None,
        **options: Any,
    ) -> TcpPeer:
        keys = keys or KeyPair.generate()
        log = structlog.wrap_logger(structlog.PrintLogger(), wrapper_class=QUIET if quiet else None)
        trust = WeightsTrust()
        trust.set(weights or {})
        context = closed_context(
            "transport tcp",
            keys=keys,
            network=network,
            base_dir=self._base_dir,
            seed=1,
            log=log,
            trust=trust,
        )
        transport = TcpTransport(context, Options(**{"listen": (LOOPBACK,), **options}))
        peer = TcpPeer(transport, keys, receive, context.metrics)
        with anyio.fail_after(WAIT_S):
            await self._group.start(peer.run)
        return peer


class Stranger:
    """The other end of an authenticated connection, in the hands of a test."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.ended = False

    async def say(self, *messages: Message) -> None:
        with anyio.fail_after(WAIT_S):
            for message in messages:
                await self.link.stream.send(self.link.session.seal(b"".join(encode_frame(message))))

    async def say_bytes(self, data: bytes) -> None:
        with anyio.fail_after(WAIT_S):
            await self.link.stream.send(self.link.session.seal(data))

    async def hear(self) -> Message | None:
        """The next message; None when the connection has ended."""
        link = self.link
        with anyio.fail_after(WAIT_S):
            while (message := link.decoder.next_message()) is None:
                if data := link.session.read():
                    link.decoder.feed(data)
                    continue
                try:
                    link.session.feed(await link.stream.receive())
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    return None
            return message


@asynccontextmanager
async def stranger(
    to: Contact,
    *,
    keys: KeyPair | None = None,
    frame_bytes_max: int = 2**23,
    window_bytes: int = 2**24,
    host: str | None = None,
) -> AsyncIterator[Stranger]:
    """Dial a peer, perhaps from a given host of ours, and say hello as it must be; what comes then is the test's."""
    keys = keys or KeyPair.generate()
    async with await anyio.connect_tcp(to.addresses[0].host, to.addresses[0].port, local_host=host) as stream:
        link = await shake_hands(
            stream,
            Credentials(keys, NETWORK).dial(to.peer),
            Hello((), frame_bytes_max, window_bytes),
            host=to.addresses[0].host,
            timeout_s=WAIT_S,
        )
        yield Stranger(link)
