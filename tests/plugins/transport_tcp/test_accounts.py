"""What comes to nothing is paid for: a flood of it is not read beyond an allowance, and costs those nothing who are of use."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress

import anyio
import pytest
from fluvial.errors import Refused
from fluvial.identity import KeyPair, PeerId
from fluvial.seats import RefusingAnswer
from fluvial_transport_tcp.accounts import EACH_US_PER_S, TOGETHER_US_PER_S, WasteRates, WorkAccount, metered
from fluvial_transport_tcp.framing import Kind, Message, encode_frame
from fluvial_transport_tcp.prefix import Prefix
from fluvial_transport_tcp.standing import Rank
from fluvial_transport_tcp.work_clock import WorkClock

from tests.plugins.transport_tcp.peers import StartPeer, stranger

PUBLIC = Prefix("203.0.113.0/24", public=True)
REFUSED, REFUSED_POLITELY, USEFUL = "refused/1", "politely/1", "useful/1"
WORK_S = 0.001
FLOOD = 3_000


class Judge:
    """Works a millisecond of the processor for each message, and says what it was good for."""

    def __init__(self) -> None:
        self.worked_s = 0.0
        self.useful = 0

    async def receive(self, sender: PeerId, protocol: str, payload: bytes) -> bytes:
        began = time.thread_time()
        while time.thread_time() - began < WORK_S:
            pass
        if protocol == USEFUL:
            self.useful += 1
            return payload
        self.worked_s += WORK_S
        if protocol == REFUSED:
            raise Refused("no", reason="no")
        return RefusingAnswer(b"no")


@pytest.mark.parametrize("protocol", [REFUSED, REFUSED_POLITELY])
async def test_a_flood_of_what_is_refused_is_not_handled_beyond_its_allowance(start: StartPeer, protocol: str) -> None:
    judge = Judge()
    peer, friend = await start(quiet=True, receive=judge.receive), await start()
    flood = b"".join(
        b"".join(encode_frame(Message(Kind.REQUEST, number, protocol, bytes(500)))) for number in range(FLOOD)
    )
    began = anyio.current_time()
    async with stranger(peer.contact) as other, anyio.create_task_group() as group:
        group.start_soon(other.say_bytes, flood)
        for _ in range(100):
            assert await friend.request(peer, b"?", protocol=USEFUL) == b"?"
        allowed_s = EACH_US_PER_S / 1e6 * (1 + anyio.current_time() - began)
        assert 0 < judge.worked_s <= allowed_s + 4 * WORK_S
        group.cancel_scope.cancel()
    assert judge.useful == 100


async def test_who_has_weight_may_be_refused_as_often_as_they_like(start: StartPeer) -> None:
    judge, keys = Judge(), KeyPair.generate()
    peer = await start(quiet=True, receive=judge.receive, weights={keys.peer_id: 1})
    friend = await start(keys=keys)
    for _ in range(100):
        with suppress(Refused):
            await friend.request(peer, b"?", protocol=REFUSED_POLITELY)
    assert judge.worked_s >= 4 * EACH_US_PER_S / 1e6


# --- accounts ---------------------------------------------------------------------------------------------------------


def stranger_account(rates: WasteRates, prefix: Prefix | None = None) -> WorkAccount:
    return rates.account(prefix, lambda: Rank.STRANGER, 0.0)


def waste_until_rest(account: WorkAccount, now: float) -> float:
    """Milliseconds of waste before it has to rest."""
    count = 0
    while account.rest_s(now) == 0.0 and count < 1_000:
        account.waste(0.001, 0, now)
        count += 1
    return count


def test_an_allowance_comes_back() -> None:
    account = stranger_account(WasteRates())
    assert 20 <= waste_until_rest(account, 0.0) <= 22
    assert account.rest_s(10.0) == 0.0
    assert 20 <= waste_until_rest(account, 10.0) <= 22


def test_many_connections_have_one_allowance_together_and_one_that_hardly_wastes_is_not_held_up() -> None:
    rates = WasteRates()
    wasted = sum(waste_until_rest(stranger_account(rates), 0.0) for _ in range(100))
    assert wasted <= TOGETHER_US_PER_S / 1_000 + 100 * EACH_US_PER_S / 2_000 + 200
    honest = stranger_account(rates)
    honest.waste(0.002, 0, 0.0)
    assert honest.rest_s(0.0) == 0.0


def test_a_public_prefix_has_one_allowance() -> None:
    rates = WasteRates()
    for _ in range(5):
        waste_until_rest(stranger_account(rates, PUBLIC), 0.0)
    late = stranger_account(rates, PUBLIC)
    late.waste(0.000_1, 0, 0.0)
    assert late.rest_s(0.0) > 0


def test_what_was_read_for_nothing_is_charged_too() -> None:
    account = stranger_account(WasteRates())
    account.read(0.01, 1_000_000)
    for _ in range(6):
        account.waste(0.0, 400_000, 0.0)
    assert account.rest_s(0.0) == pytest.approx((6 * 0.004 - 0.02) / 0.02, abs=0.01)
    assert account.tag == pytest.approx(0.01)


def test_one_message_is_not_charged_what_only_this_side_makes_slow() -> None:
    account = stranger_account(WasteRates())
    account.waste(60.0, 0, 0.0)
    assert account.rest_s(0.0) == 0.0


# --- metering ---------------------------------------------------------------------------------------------------------


def ticking() -> Callable[[], float]:
    """A clock that goes on by one with each look."""
    now = 0.0

    def look() -> float:
        nonlocal now
        now += 1.0
        return now

    return look


async def test_each_step_of_the_work_is_charged_and_what_others_do_meanwhile_is_not() -> None:
    account = stranger_account(WasteRates())

    async def work() -> str:
        for _ in range(4):
            await anyio.lowlevel.checkpoint()
        return "done"

    found, spent = await metered(work(), account, WorkClock(ticking(), ticking()))
    assert found == "done"
    assert spent == account.tag
    assert spent >= 5


async def test_failures_and_cancellations_pass() -> None:
    account = stranger_account(WasteRates())
    seen = []

    async def fails() -> None:
        await anyio.lowlevel.checkpoint()
        raise KeyError("here")

    async def waits() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            seen.append("cleaned up")

    with pytest.raises(KeyError, match="here"):
        await metered(fails(), account, WorkClock(ticking(), ticking()))
    with anyio.move_on_after(0.01) as scope:
        await metered(waits(), account, WorkClock(ticking(), ticking()))
    assert scope.cancelled_caught
    assert seen == ["cleaned up"]
    assert account.tag >= 4
