"""Waiting for what a pure room grants through a callback."""

from __future__ import annotations

import anyio

from fluvial_transport_tcp.credit import CreditClosed, CreditWindow
from fluvial_transport_tcp.intake import IntakeShare
from fluvial_transport_tcp.keepalive import KeepAlive
from fluvial_transport_tcp.pacing import ReadingPace
from fluvial_transport_tcp.standing import Rank


async def take_credit(window: CreditWindow, amount: int) -> None:
    """Take ``amount`` of a window, waiting for it if need be; a cancelled wait takes nothing.

    Raises:
        CreditClosed: the window was closed before it was granted.
    """
    if window.take(amount):
        return
    turn = anyio.Event()
    claim = window.queue(amount, turn.set)
    try:
        await turn.wait()
    except BaseException:
        window.withdraw(claim)
        raise
    if not claim.granted:
        raise CreditClosed


async def make_room(share: IntakeShare, frame_bytes: int, *, solicited: bool, life: KeepAlive) -> None:
    """Count a frame among what the node holds, waiting until there is room for it; a cancelled wait takes nothing."""
    if share.take(frame_bytes, solicited=solicited):
        return
    turn = anyio.Event()
    claim = share.queue(frame_bytes, solicited=solicited, on_turn=turn.set)
    try:
        with life.pause():
            await turn.wait()
    except BaseException:
        share.withdraw(claim)
        raise


async def keep_pace(pace: ReadingPace, share: IntakeShare, *, life: KeepAlive) -> None:
    """Account for what was read, and wait until more may be. A frame that arrives meanwhile is still under way: its time goes on."""

    def is_vouched() -> bool:
        return share.holder.rank >= Rank.TRUSTED

    wait_s = pace.settle(vouched=is_vouched(), now=anyio.current_time())
    while wait_s > 0:
        await anyio.sleep(wait_s)
        life.heard = True  # it may have said a lot that was not read
        wait_s = pace.owed_s(vouched=is_vouched(), now=anyio.current_time())
