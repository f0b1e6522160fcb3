"""Ten thousand random inputs at a listening port: each ends in a counted error, none of them in more.

Half as many again come into the channel of a peer that has proven its key; all of it runs alone with
``pytest tests/plugins/transport_tcp/test_random_bytes.py``.
"""

from __future__ import annotations

import random
import resource
from contextlib import suppress

import anyio
import pytest
from fluvial.errors import RemoteProtocolError
from fluvial.testing.transport import eventually
from fluvial_transport_tcp.framing import Kind, Message, encode_frame

from tests.plugins.transport_tcp.peers import SMALL, StartPeer, TcpPeer, stranger

AT_THE_PORT = 10_000
IN_THE_CHANNEL = 5000
AT_ONCE = 20
BYTES_MAX = 2000
GROWTH_KB_MAX = 65_536
ENDS = (anyio.EndOfStream, anyio.BrokenResourceError)


@pytest.mark.long
async def test_random_bytes_at_the_port(start: StartPeer) -> None:
    peer, friend = await start(quiet=True, handshakes_max=2 * AT_ONCE, handshake_timeout_s=5), await start()
    await friend.request(peer, b"before")
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with anyio.create_task_group() as group:
        for worker in range(AT_ONCE):
            group.start_soon(_knock, peer, random.Random(worker), AT_THE_PORT // AT_ONCE)
    await eventually(lambda: failed_handshakes(peer) == AT_THE_PORT, "each is counted")
    assert peer.metric("handshakes_total", outcome="ok") == 1
    assert peer.metric("connections") == 1
    assert await friend.request(peer, b"after") == b"after"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < GROWTH_KB_MAX


async def test_random_bytes_in_the_channel(start: StartPeer) -> None:
    """Whole frames that look almost right; who errs is cut off and comes again."""
    peer, friend, rng = await start(quiet=True, **SMALL), await start(), random.Random(7)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    inputs = errors = 0
    with anyio.fail_after(60):
        while inputs < IN_THE_CHANNEL:
            async with stranger(peer.contact) as other:
                with suppress(*ENDS):
                    for _ in range(100):
                        inputs += 1
                        await other.say_bytes(almost_a_frame(rng))
                    await other.say_bytes(b"\xff" * 2 * SMALL["frame_bytes_max"])  # no frame is so long
                with suppress(RemoteProtocolError):
                    while await other.hear() is not None:
                        pass
            errors += 1
    await eventually(lambda: peer.metric("connections") == 0, "all of them are gone")
    assert sum(peer.metric("closed_total", reason=reason) for reason in ("protocol", "goodbye", "lost")) == errors
    assert peer.metric("closed_total", reason="protocol") > 0
    assert await friend.request(peer, b"after") == b"after"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < GROWTH_KB_MAX


async def _knock(peer: TcpPeer, rng: random.Random, times: int) -> None:
    for _ in range(times):
        data = rng.randbytes(rng.randrange(1, BYTES_MAX))
        if rng.random() < 0.5:  # past the first check: a TLS handshake record
            data = b"\x16\x03\x01" + (len(data) & 0x3FFF).to_bytes(2, "big") + data
        with suppress(*ENDS):
            async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
                await stream.send(data)
                await stream.send_eof()
                while True:
                    await stream.receive()


def failed_handshakes(peer: TcpPeer) -> int:
    outcomes = ("tls", "closed", "timeout", "bytes", "crowded", "hello")
    return int(sum(peer.metric("handshakes_total", outcome=outcome) for outcome in outcomes))


def almost_a_frame(rng: random.Random) -> bytes:
    """A frame of a random kind with random contents; now and then a byte of it is changed."""
    kind = rng.choice([Kind.ONE_WAY, Kind.REQUEST, Kind.PING, Kind.PONG, Kind.ONE_WAY, Kind.REQUEST])
    label = rng.choice(["", "x", "some/protocol"]) if kind in (Kind.ONE_WAY, Kind.REQUEST) else ""
    body = rng.randbytes(rng.randrange(200)) if label else b""
    number = 0 if kind is Kind.ONE_WAY else rng.getrandbits(32)
    data = bytearray(b"".join(encode_frame(Message(kind, number, label, body))))
    if rng.random() < 0.03:
        data[rng.randrange(min(len(data), 10))] ^= rng.randrange(1, 256)
    return bytes(data)
