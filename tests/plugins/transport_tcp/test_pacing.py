"""How fast is read from peers whom nobody vouches for: the rates by themselves, and over real sockets."""

from __future__ import annotations

from contextlib import suppress

import anyio
import pytest
from fluvial.identity import KeyPair
from fluvial.testing.transport import ECHO, eventually
from fluvial_transport_tcp.framing import Kind, Message
from fluvial_transport_tcp.handshake import GONE
from fluvial_transport_tcp.pacing import PORTION_BYTES, PREFIXES_MAX, PrefixRates, ReadingPace
from fluvial_transport_tcp.prefix import Prefix
from hypothesis import given
from hypothesis import strategies as st

from tests.plugins.transport_tcp.peers import StartPeer, Stranger, stranger

RATE = 150_000
PUBLIC = Prefix("203.0.113.0/24", public=True)
PRIVATE = Prefix("127.0.0.0/24", public=False)
AHEAD_BYTES = 2 * PORTION_BYTES
"""What can be read beyond the rate: a portion that was paid for, and one more that the socket had at once."""


def rates(each: int = RATE, together: int = 0) -> PrefixRates:
    return PrefixRates(each, together)


def read(pace: ReadingPace, size: int, now: float, *, vouched: bool = False) -> float:
    """Read some bytes and wait as long as is due; when that is over."""
    if pace.spend(size):
        wait_s = pace.settle(vouched=vouched, now=now)
        while wait_s > 0:
            now += wait_s
            wait_s = pace.owed_s(vouched=vouched, now=now)
    return now


@given(
    each=st.sampled_from((1_000, 300_000, 10_000_000)),
    together=st.sampled_from((0, 200_000, 5_000_000)),
    reads=st.lists(st.tuples(st.integers(0, 2), st.integers(1, PORTION_BYTES), st.floats(0, 2)), max_size=60),
)
def test_whoever_reads_as_it_is_told_stays_within_both_rates(
    each: int, together: int, reads: list[tuple[int, int, float]]
) -> None:
    shared = rates(each, together)
    paces = [ReadingPace(shared.buckets(PUBLIC, 0.0)) for _ in range(3)]
    clocks, sizes, now = [0.0] * 3, [0] * 3, 0.0
    for who, size, pause in reads:
        now = max(now, clocks[who]) + pause  # the world's time does not go back
        clocks[who] = read(paces[who], size, now)
        sizes[who] += size
        assert sizes[who] <= each * (clocks[who] + 1) + AHEAD_BYTES
    if together:
        assert sum(sizes) <= together * (max(clocks) + 1) + 3 * AHEAD_BYTES


def test_who_is_vouched_for_neither_pays_nor_waits() -> None:
    shared = rates(RATE, RATE)
    heavy, light = (ReadingPace(shared.buckets(PUBLIC, 0.0)) for _ in range(2))
    assert read(heavy, 100 * RATE, 0.0, vouched=True) == 0.0
    assert 0 < read(light, 1, 0.0) <= PORTION_BYTES / RATE


def test_fresh_keys_of_one_public_network_share_a_rate() -> None:
    shared = rates(RATE, RATE)
    ends = [read(ReadingPace(shared.buckets(PUBLIC, 0.0)), 1, 0.0) for _ in range(10)]
    assert ends == sorted(ends)
    assert ends[-1] >= (10 * PORTION_BYTES - RATE) / RATE
    assert max(read(ReadingPace(shared.buckets(PRIVATE, 0.0)), 1, 0.0) for _ in range(10)) == ends[0]


def test_what_is_remembered_of_networks_is_bounded() -> None:
    shared = rates(0, RATE)
    for number in range(2 * PREFIXES_MAX):
        assert len(shared.buckets(Prefix(f"network {number}", public=True), 0.0)) == 1
    assert len(shared.buckets(PRIVATE, 0.0)) == 0


# --- over real sockets ------------------------------------------------------------------------------------------------


async def flood(other: Stranger) -> None:
    with suppress(*GONE, TimeoutError):
        for _ in range(100):
            await other.say(Message(Kind.ONE_WAY, 0, ECHO, b"x" * 60_000))


@pytest.mark.parametrize("paced", [True, False])
async def test_a_stranger_is_read_no_faster_than_its_rate(start: StartPeer, paced: bool) -> None:
    peer = await start(unvouched_bytes_per_s=RATE if paced else 0, quiet=True)
    honest = await start()
    began = anyio.current_time()
    async with anyio.create_task_group() as group, stranger(peer.contact) as other:
        group.start_soon(flood, other)
        if not paced:
            await eventually(lambda: peer.metric("bytes_total", direction="in") > 6_000_000, "all of it is read")
        else:
            await anyio.sleep(1.5)
            taken = peer.metric("bytes_total", direction="in")
            assert 0 < taken <= RATE * (anyio.current_time() - began + 1) + AHEAD_BYTES < 6_000_000
            assert await honest.request(peer, b"one who keeps to it") == b"one who keeps to it"
        group.cancel_scope.cancel()


async def test_an_honest_peer_without_weight_is_slowed_down_and_loses_nothing(start: StartPeer) -> None:
    peer, client = await start(unvouched_bytes_per_s=5 * RATE), await start()
    for number in range(10):
        sent = bytes([number]) * 120_000
        assert await client.request(peer, sent) == sent
    assert peer.metric("bytes_total", direction="in") > 1_200_000
    assert client.id in peer.transport.connected()


async def test_a_peer_with_weight_is_read_as_fast_as_it_sends(start: StartPeer) -> None:
    heavy = KeyPair.generate()
    peer = await start(unvouched_bytes_per_s=1, weights={heavy.peer_id: 1})
    client = await start(keys=heavy)
    sent = b"x" * 1_000_000
    assert await client.request(peer, sent) == sent, "at its rate, the first portion alone would take three days"
