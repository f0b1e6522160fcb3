"""Time, locks and events for what is done many times for each particle: asyncio's own, since Fluvial runs on its loops.

anyio finds out with each of its calls on which kind of loop it runs; with a dozen of them for each particle that was a tenth of what a peer
computes. These do what anyio's do: who waits can be cancelled by a scope, and taking a free lock does not go through the loop.
"""

from __future__ import annotations

from asyncio import Event as Event
from asyncio import Future as Future
from asyncio import Lock as Lock
from asyncio import TimerHandle as TimerHandle
from asyncio import get_running_loop
from asyncio import sleep as _sleep
from collections.abc import Callable
from typing import Any


def now_s() -> float:
    """Seconds of the running loop's clock, which never goes back; the same as ``anyio.current_time()``."""
    return get_running_loop().time()


def clock() -> Callable[[], float]:
    """What :func:`now_s` asks: for those who ask it many times for each particle, and stay on one loop."""
    return get_running_loop().time


def soon(happen: Callable[[], object]) -> None:
    """Call something in the next turn of the running loop."""
    get_running_loop().call_soon(happen)


def later(seconds: float, happen: Callable[[], object]) -> TimerHandle:
    """Call something after a while, unless what this gives is cancelled before."""
    return get_running_loop().call_later(seconds, happen)


def at(when_s: float, happen: Callable[[], object]) -> TimerHandle:
    """Call something at a time of the running loop's clock, unless what this gives is cancelled before."""
    return get_running_loop().call_at(when_s, happen)


def future() -> Future[Any]:
    """A result that is not there yet, of the running loop; whoever awaits it can be cancelled, and it is cancelled with them."""
    return get_running_loop().create_future()


async def others_have_a_turn() -> None:
    """Returns in the next turn of the running loop; the same as ``anyio.lowlevel.checkpoint()``."""
    await _sleep(0)
