"""What a message uses is given back once, however it ends."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import anyio
from fluvial.identity import PeerId
from fluvial.testing.nodes import keys_of
from fluvial.testing.transport import ECHO, eventually
from fluvial_transport_tcp.accounts import WasteRates
from fluvial_transport_tcp.credit import CreditWindow
from fluvial_transport_tcp.framing import Kind, Message
from fluvial_transport_tcp.handling import MESSAGE_COST_BYTES, MessageHandler
from fluvial_transport_tcp.intake import OWN_BYTES, Intake, IntakeShare
from fluvial_transport_tcp.rounds import WorkRounds
from fluvial_transport_tcp.standing import Rank
from fluvial_transport_tcp.waiting import take_credit
from fluvial_transport_tcp.workers import WorkerPool

LONG = 1_000_000
WINDOW = 2 * (LONG + MESSAGE_COST_BYTES) + MESSAGE_COST_BYTES
"""Two long messages fit, and not a third."""
TIMEOUT_S = 10.0


class FullQueue:
    """The queue of a connection whose other side does not read until it is told to."""

    def __init__(self) -> None:
        self.room = CreditWindow(LONG)
        self.room.overdraw(LONG)
        self.said: list[Message] = []

    def offer(self, message: Message) -> bool:
        taken = self.room.take(1)
        if taken:
            self.put(message)
        return taken

    async def reserve(self, size: int) -> None:
        await take_credit(self.room, size)

    def put(self, message: Message) -> None:
        self.said.append(message)


async def receive(sender: PeerId, protocol: str, payload: bytes) -> bytes:
    return b"done"


class Served:
    """The messages of one connection."""

    def __init__(self, pool: WorkerPool) -> None:
        self.queue = FullQueue()
        self.intake = Intake(16 * LONG, frame_bytes_max=2 * LONG)
        shared: Any = SimpleNamespace(
            options=SimpleNamespace(window_bytes=WINDOW, handling_timeout_s=TIMEOUT_S),
            pool=pool,
            rounds=WorkRounds(),
            receive=receive,
            log=MagicMock(),
            throttled=MagicMock(),
        )
        holder: Any = SimpleNamespace(rank=Rank.STRANGER, incomplete=False)
        writer: Any = self.queue
        life: Any = SimpleNamespace(active=False)
        self.handler = MessageHandler(
            keys_of("stranger").peer_id,
            shared,
            writer=writer,
            share=IntakeShare(self.intake, holder),
            life=life,
            frame_bytes_max=2 * LONG,
            account=WasteRates().account(None, lambda: Rank.STRANGER, 0.0),
            on_answer=lambda size: None,
            on_idle=lambda: None,
        )

    def take(self, number: int, body: bytes) -> bool:
        """Take a request, or leave it."""
        withdraw = self.handler.take(Message(Kind.REQUEST, number, ECHO, body), 0, lambda: None)
        if withdraw is not None:
            withdraw()
        return withdraw is None

    async def give_up(self) -> None:
        """All that is under way has taken too long."""
        self.handler.tick(0.0)
        self.handler.tick(TIMEOUT_S + 1)
        await turn()


@asynccontextmanager
async def serving() -> AsyncIterator[Served]:
    pool = WorkerPool()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            pool.start(group)
            yield Served(pool)
            group.cancel_scope.cancel()


async def turn() -> None:
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


async def test_what_is_given_up_while_its_answer_waits_gives_its_window_back_once() -> None:
    async with serving() as served:
        body = bytes(LONG)
        assert served.take(1, body)
        await turn()
        await served.give_up()
        assert served.take(2, body)
        assert not served.take(3, body), "the first is not answered yet"
        await turn()
        served.queue.room.give(LONG)
        await eventually(lambda: not served.handler.busy, "all is answered")
        assert [(one.kind, one.id) for one in served.queue.said] == [(Kind.ERROR, 1), (Kind.ANSWER, 2)]
        served.queue.room.overdraw(LONG)
        assert [served.take(number, body) for number in (4, 5, 6)] == [True, True, False]


async def test_what_is_given_up_is_neither_kept_nor_counted_and_what_comes_next_is() -> None:
    async with serving() as served:
        body = bytes(LONG)
        kept = sys.getrefcount(body)
        assert served.take(1, body)
        await turn()
        assert served.intake.used >= LONG - OWN_BYTES
        assert sys.getrefcount(body) > kept
        await served.give_up()
        assert served.intake.used == 0
        assert sys.getrefcount(body) == kept
        assert served.take(2, body)
        await turn()
        assert served.intake.used >= LONG - OWN_BYTES
