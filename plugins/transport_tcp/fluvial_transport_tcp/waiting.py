"""Waiting for what a pure room grants through a callback."""

from __future__ import annotations

from functools import partial

import msgspec
from fluvial.timer_wheel import TimerWheel
from fluvial.waiting import Future, future

from fluvial_transport_tcp.credit import CreditClosed, CreditWindow


class Deadline(msgspec.Struct, frozen=True):
    """Until when something is waited for.

    Attributes:
        wheel: keeps the time.
        until: seconds of the loop's clock.
    """

    wheel: TimerWheel
    until: float


async def take_credit(window: CreditWindow, amount: int, deadline: Deadline | None = None) -> None:
    """Take ``amount`` of a window, waiting for it if need be; a cancelled wait takes nothing.

    Raises:
        CreditClosed: the window was closed before it was granted.
        TimeoutError: the deadline has passed.
    """
    if window.take(amount):
        return
    turn: Future[bool] = future()
    claim = window.queue(amount, partial(_tell, turn, True))
    timer = None if deadline is None else deadline.wheel.at(deadline.until, partial(_tell, turn, False))
    try:
        if not await turn:
            raise TimeoutError
    except BaseException:
        window.withdraw(claim)
        raise
    finally:
        if timer is not None:
            timer.cancel()
    if not claim.granted:
        raise CreditClosed


def _tell(turn: Future[bool], in_time: bool) -> None:
    if not turn.done():
        turn.set_result(in_time)
