"""Staying connected: dial, and dial again after every loss."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import structlog
from fluvial.addresses import Contact
from fluvial.errors import FluvialError

from fluvial_transport_tcp.connection import Connection

STABLE_S: Final = 10.0
"""A connection that stood for so long makes the pauses begin anew; a shorter one may be a peer that refuses us."""


def pause_s(failures: int, *, shortest_s: float, longest_s: float, rng: random.Random) -> float:
    """How long to wait before dialling after so many failures in a row.

    Exponential, with the upper half of the pause at random ("equal jitter"), so that the many clients of a relay that restarts do not
    come back all at once.
    """
    return min(longest_s, shortest_s * 2.0 ** min(failures, 32)) * rng.uniform(0.5, 1.0)


class Reconnector:
    """Keeps one peer connected.

    Args:
        contact: whom; may be replaced when its addresses change.
        connect: returns a connection in use, dialling if need be.
        pause_s: seconds to wait after that many failures in a row.
        log: bound to this peer.
    """

    def __init__(
        self,
        contact: Contact,
        *,
        connect: Callable[[Contact], Awaitable[Connection]],
        pause_s: Callable[[int], float],
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self.contact = contact
        self._connect = connect
        self._pause_s = pause_s
        self._log = log.bind(remote=contact.peer)
        self._scope = anyio.CancelScope()

    def stop(self) -> None:
        """Stop keeping; an open connection stays as it is."""
        self._scope.cancel()

    async def run(self) -> None:
        """Keep until stopped or cancelled."""
        failures = 0
        with self._scope:
            while True:
                try:
                    connection = await self._connect(self.contact)
                except FluvialError as error:
                    pause = self._pause_s(failures)
                    failures += 1
                    self._log.info("kept_peer_unreachable", error=error.message, next_try_s=round(pause, 2))
                    await anyio.sleep(pause)
                    continue
                await connection.until_left()
                if connection.superseded:
                    continue
                failures = 0 if anyio.current_time() - connection.opened_at > STABLE_S else failures + 1
                await anyio.sleep(self._pause_s(failures))
