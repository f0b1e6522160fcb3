"""Many ask about a peer, which gets one ping; whoever goes away meanwhile takes nothing from the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import pytest
from fluvial.addresses import Contact
from fluvial.errors import Unreachable
from fluvial.identity import PeerId
from fluvial.particles.life_signs import LifeSigns

from tests.support.nodes import id_of

PEER = id_of("peer")


class SlowTransport:
    """Connected to one peer, which answers pings when a test lets it, if at all."""

    def __init__(self) -> None:
        self.pings = 0
        self.answer = anyio.Event()
        self.silent = False

    def connected(self) -> frozenset[PeerId]:
        return frozenset([PEER])

    async def request(self, to: Contact, protocol: str, payload: bytes, *, timeout_s: float) -> bytes:
        self.pings += 1
        await self.answer.wait()
        if self.silent:
            raise Unreachable("it did not answer in time")
        return b""


def life_signs(transport: SlowTransport) -> LifeSigns:
    made: Any = transport
    routing: Any = None
    relays: Sequence[Contact] = ()
    return LifeSigns(made, routing, relays=lambda: relays)


@pytest.mark.parametrize("goes", [0, 1])
@pytest.mark.parametrize("silent", [False, True])
async def test_who_goes_away_takes_no_answer_from_others(goes: int, silent: bool) -> None:
    transport = SlowTransport()
    transport.silent = silent
    signs = life_signs(transport)
    told: list[str] = []

    async def ask(scope: anyio.CancelScope) -> None:
        with scope:
            told.append(await signs.ping(PEER))

    scopes = [anyio.CancelScope() for _ in range(4)]
    async with anyio.create_task_group() as group:
        for scope in scopes:
            group.start_soon(ask, scope)
        await anyio.wait_all_tasks_blocked()
        assert transport.pings == 1
        scopes[goes].cancel()
        await anyio.wait_all_tasks_blocked()
        transport.answer.set()
    assert told == ["silent" if silent else "answers"] * 3
    assert transport.pings == (1 if goes else 2), "who asks is one of those who are left"
    assert not group.cancel_scope.cancel_called
