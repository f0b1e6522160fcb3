"""Waiting for what a pure room grants through a callback."""

from __future__ import annotations

from fluvial.waiting import Event

from fluvial_transport_tcp.credit import CreditClosed, CreditWindow


async def take_credit(window: CreditWindow, amount: int) -> None:
    """Take ``amount`` of a window, waiting for it if need be; a cancelled wait takes nothing.

    Raises:
        CreditClosed: the window was closed before it was granted.
    """
    if window.take(amount):
        return
    turn = Event()
    claim = window.queue(amount, turn.set)
    try:
        await turn.wait()
    except BaseException:
        window.withdraw(claim)
        raise
    if not claim.granted:
        raise CreditClosed
