"""What becomes of the messages that come in over one connection: handled by the node, each within a time, and answered."""

from __future__ import annotations

from contextlib import suppress
from logging import ERROR
from typing import Final, NamedTuple

import structlog
from anyio.abc import TaskGroup
from fluvial.errors import FluvialError, ResourceLimit
from fluvial.identity import PeerId
from fluvial.seats import Receive
from fluvial.throttling import ThrottledLog

from fluvial_transport_tcp.credit import CreditClosed, CreditWindow
from fluvial_transport_tcp.framing import Kind, Message, frame_bytes
from fluvial_transport_tcp.intake import IntakeShare
from fluvial_transport_tcp.keepalive import KeepAlive
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.rounds import WorkRounds
from fluvial_transport_tcp.waiting import make_room, take_credit
from fluvial_transport_tcp.workers import Workers
from fluvial_transport_tcp.writing import FrameWriter

MESSAGE_COST_BYTES: Final = 32_768
"""Charged per message besides its size: bounds a window of 16 MiB to 512 messages being handled at once."""
TEXT_BYTES_MAX: Final = 1024
"""Of an error's or a goodbye's text."""


class _Work(NamedTuple):
    """A message to be handled, and the bytes of its frame."""

    message: Message
    frame_bytes: int


class MessageHandler:
    """Hands messages to the node, several at once, as many as fit into the window.

    Args:
        peer: whose messages.
        receive: the node.
        writer: takes the answers.
        share: what the connection holds of the node's memory.
        rounds: how much is begun at once.
        life: marked while the window is full.
        options: the limits.
        frame_bytes_max: the largest frame that both sides take.
        metrics: counts what came to nothing.
        log: for what the sender is told anyway.
        throttled: for bugs of the node, which others may know how to cause.
    """

    def __init__(
        self,
        peer: PeerId,
        *,
        receive: Receive,
        writer: FrameWriter,
        share: IntakeShare,
        rounds: WorkRounds,
        life: KeepAlive,
        options: Options,
        frame_bytes_max: int,
        metrics: Metrics,
        log: structlog.stdlib.BoundLogger,
        throttled: ThrottledLog,
    ) -> None:
        self.answered = False
        self._peer = peer
        self._receive = receive
        self._writer = writer
        self._share = share
        self._life = life
        self._timeout_s = options.handling_timeout_s
        self._window_bytes = options.window_bytes
        self._frame_bytes_max = frame_bytes_max
        self._metrics = metrics
        self._log = log
        self._throttled = throttled
        self._window = CreditWindow(options.window_bytes)
        self._credit_owed = 0  # handled and not told yet
        self._workers: Workers[_Work] = Workers(
            handle=self._handle, give_up=self._give_up, timeout_s=options.handling_timeout_s, rounds=rounds
        )

    @property
    def busy(self) -> bool:
        """Whether a message is not handled yet."""
        return self._workers.busy

    @property
    def under_way(self) -> int:
        """How many messages are not handled yet."""
        return self._workers.jobs

    def start(self, group: TaskGroup) -> None:
        """Handle messages from now on; the group ends after :meth:`close`, when the last one is done."""
        self._workers.start(group)

    def close(self) -> None:
        """No more messages will come; those that are here are handled."""
        self._workers.close()

    def tick(self, now: float) -> None:
        """Give up what takes too long; call it every second or so."""
        self._workers.tick(now)

    def take_now(self, message: Message) -> bool:
        """Take over a short request or one-way message if there is room for it; if not: :meth:`take`."""
        size = frame_bytes(message.label, message.body)
        if not self._share.take(size, solicited=False):
            return False
        if not self._window.take(MESSAGE_COST_BYTES + size):
            self._share.give(size)
            return False
        self._life.active = True
        self._workers.add(_Work(message, size))
        return True

    async def take(self, message: Message, counted: int) -> None:
        """Take over a message as soon as there is room for it in the window and among what the node holds.

        Args:
            message: a request or one-way message.
            counted: what of the share is already counted for it: nothing or all.
        """
        size = frame_bytes(message.label, message.body)
        if not counted:
            await make_room(self._share, size, solicited=False, life=self._life)
        try:
            with self._life.pause():
                await take_credit(self._window, MESSAGE_COST_BYTES + size)
        except BaseException:
            self._share.give(size)
            raise
        self._life.active = True
        self._workers.add(_Work(message, size))

    async def _handle(self, work: _Work) -> None:
        await self._finish(work, await self._reply(work.message))

    async def _give_up(self, work: _Work) -> None:
        await self._finish(work, self._error(work.message, ResourceLimit(f"not done within {self._timeout_s:g} s")))

    async def _finish(self, work: _Work, reply: Message) -> None:
        charge = MESSAGE_COST_BYTES + work.frame_bytes
        try:
            if work.message.kind is Kind.REQUEST:
                await self._answer(reply)
            else:
                self._metrics.dropped["refused"] += reply.kind is Kind.ERROR
                self._credit_owed += charge
                # Credit below a quarter of the window can wait: what is left admits the largest frame.
                if self._credit_owed * 4 >= self._window_bytes:
                    self._writer.give_credit(self._credit_owed)
                    self._credit_owed = 0
        finally:
            self._window.give(charge)
            self._share.give(work.frame_bytes)

    async def _answer(self, reply: Message) -> None:
        size = frame_bytes(reply.label, reply.body)
        with suppress(CreditClosed):  # the connection is gone, and with it whoever waits for the answer
            if not self._writer.reserve_now(size):
                self._share.overdraw(size)
                try:
                    await self._writer.reserve(size)
                finally:
                    self._share.give(size)
            self._writer.put(reply)

    async def _reply(self, message: Message) -> Message:
        try:
            body = await self._receive(self._peer, message.label, message.body)
            too_large = frame_bytes("", body) > self._frame_bytes_max
        except FluvialError as error:
            return self._error(message, error)
        except Exception as error:  # noqa: BLE001 - a bug of whoever handles it costs this message, not the node
            self._throttled.note("message_failed", type(error).__name__, level=ERROR, remote=self._peer, exc_info=error)
            text = b"it could not be handled; the log over there says why"
            return Message(Kind.ERROR, message.id, FluvialError.code, text)
        if too_large:
            return self._error(message, ResourceLimit(f"the answer of {len(body)} bytes is larger than a frame may be"))
        self.answered = True
        return Message(Kind.ANSWER, message.id, body=body)

    def _error(self, message: Message, error: FluvialError) -> Message:
        self._log.debug(
            "a message failed", remote=self._peer, protocol=message.label, code=error.code, error=error.message
        )
        return Message(Kind.ERROR, message.id, error.code, error.message.encode()[:TEXT_BYTES_MAX])
