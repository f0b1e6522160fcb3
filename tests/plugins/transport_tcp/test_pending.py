"""Handshakes that take long make room for others: the silent first, then the oldest of the largest crowd."""

from __future__ import annotations

import anyio
from fluvial_transport_tcp.pending import HandshakePlace, PendingHandshakes
from fluvial_transport_tcp.prefix import Prefix

HERE, THERE = Prefix("192.0.2.0/24", True), Prefix("198.51.100.0/24", True)


async def displaced(*comers: tuple[str, Prefix, bool], most: int) -> list[str]:
    """Who had to go, in order; each comer has a name, a network and whether it says something."""
    pending, gone = PendingHandshakes(most), list[str]()

    async def shake(name: str, prefix: Prefix, speaks: bool) -> None:
        place: HandshakePlace
        with pending.place(prefix) as place:
            if speaks:
                place.heard()
            await anyio.sleep_forever()
        if place.scope.cancelled_caught and not over:
            gone.append(name)

    over = False
    async with anyio.create_task_group() as group:
        for name, prefix, speaks in comers:
            group.start_soon(shake, name, prefix, speaks)
            await anyio.wait_all_tasks_blocked()
        over = True
        pending.cancel_all()
    return gone


async def test_the_oldest_goes_first() -> None:
    assert await displaced(*((name, HERE, True) for name in "abcd"), most=2) == ["a", "b"]


async def test_who_has_said_nothing_goes_before_who_has() -> None:
    comers = [("a", HERE, True), ("b", HERE, False), ("c", HERE, True), ("d", HERE, True)]
    assert await displaced(*comers, most=3) == ["b"]


async def test_the_network_with_the_most_of_them_displaces_its_own() -> None:
    comers = [("a", THERE, True), *((name, HERE, True) for name in "bcdef")]
    assert await displaced(*comers, most=3) == ["b", "c", "d"]
