"""From names to numeric hosts, in threads: names that others told have few of their own, so that slow ones delay nobody else."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial
from threading import BoundedSemaphore, Event, Lock
from typing import Final

import anyio
from fluvial.addresses import Address
from fluvial.virtual.threads import in_thread

TOLD_MAX: Final = 4
"""Told names that are looked up at one time; one that was given up counts until the system's resolver has ended it."""
CONFIGURED_MAX: Final = 16
LOOK_UP_S: Final = 8.0
"""For one name; less than a dial has by default, so that its error says what it waited for."""
_FAMILIES: Final = {"dns4": socket.AF_INET, "dns6": socket.AF_INET6}


class Resolver:
    """Looks names up with the system's resolver."""

    def __init__(self) -> None:
        self._told = BoundedSemaphore(TOLD_MAX)
        self._limiter = anyio.CapacityLimiter(TOLD_MAX + CONFIGURED_MAX)

    async def hosts(self, address: Address) -> Sequence[str]:
        """The numeric hosts of an address, each once; a numeric address has itself.

        Raises:
            OSError: there are none, they are not told in time, or too many told names are being looked up. ValueError: this is no name.
        """
        if address.host_kind.startswith("ip"):
            return (address.host,)
        try:
            with anyio.fail_after(LOOK_UP_S):
                found = await self._looked_up(address)
        except TimeoutError:
            raise OSError(
                f"the name {address.host} was not resolved within {LOOK_UP_S:g} s: does this machine's DNS answer?"
            ) from None
        if not found:
            raise OSError(f"{address.host} has no address")
        return found

    async def _looked_up(self, address: Address) -> Sequence[str]:
        if address.configured:
            return await in_thread(partial(_look_up, address), limiter=self._limiter, abandon_on_cancel=True)
        return await self._look_up_told(address)

    async def _look_up_told(self, address: Address) -> Sequence[str]:
        if not self._told.acquire(blocking=False):
            raise OSError("too many names are being looked up")
        ended, began = Lock(), Event()

        def end() -> None:
            if ended.acquire(blocking=False):
                self._told.release()

        def work() -> Sequence[str]:
            began.set()
            try:
                return _look_up(address)
            finally:
                end()

        try:
            return await in_thread(work, limiter=self._limiter, abandon_on_cancel=True)
        finally:
            if not began.is_set():  # it was cancelled before a thread had it
                end()


def _look_up(address: Address) -> Sequence[str]:
    family = _FAMILIES.get(address.host_kind, socket.AF_UNSPEC)
    found = socket.getaddrinfo(address.host, address.port, family, socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(one[4][0]) for one in found))
