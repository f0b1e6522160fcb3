"""What becomes of the messages that come in over one connection: handled by the node, each within a time, and answered."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from logging import ERROR
from typing import Final

import msgspec
from fluvial.errors import FluvialError, ResourceLimit
from fluvial.identity import PeerId
from fluvial.seats import ContinuingAnswer, RefusingAnswer

from fluvial_transport_tcp.accounts import WorkAccount
from fluvial_transport_tcp.boundary import contained, note_failure
from fluvial_transport_tcp.credit import CreditClosed, CreditWindow
from fluvial_transport_tcp.framing import HEADER_BYTES, TEXT_BYTES_MAX, Kind, Message, frame_bytes
from fluvial_transport_tcp.intake import IntakeShare
from fluvial_transport_tcp.keepalive import KeepAlive
from fluvial_transport_tcp.reading import Withdraw
from fluvial_transport_tcp.shared import Shared
from fluvial_transport_tcp.workers import USEFUL, Handled, Workers
from fluvial_transport_tcp.writing import FrameWriter

MESSAGE_COST_BYTES: Final = 32_768
"""Charged per message besides its size: bounds a window of 16 MiB to 512 messages being handled at once."""
WAITING_MAX: Final = 256
"""Messages of one connection that have not begun; with so many it is not read until half of them have. Each takes up to half a kilobyte besides its bytes,
and a window has a thousand of them: hundreds of connections that send more than is handled would have hundreds of megabytes. It is read though where its answers wait
for the other side to read them: else two that ask each other much would wait for each other. ``leftovers.py`` bounds how many do so."""
ANSWERS_WAITING_MAX: Final = 16
"""Of one connection, until nothing more of it is handled: who asks and does not read would have this peer keep a task and an answer for each question."""


class _Work(msgspec.Struct, gc=False):
    """A message to be handled.

    Attributes:
        message: as it came; without its body when it has been given up.
        frame_bytes: of its frame; the window has these until it is answered.
        held_bytes: what of the node's memory is counted for it.
    """

    message: Message
    frame_bytes: int
    held_bytes: int


def _protocol_of(work: _Work) -> str:
    return work.message.label


class MessageHandler:
    """Hands messages to the node, several at once, as many as fit into the window.

    Args:
        peer: whose messages.
        shared: what all connections of the node have in common.
        writer: takes the answers.
        share: what the connection holds of the node's memory.
        life: marked when there is a message.
        frame_bytes_max: the largest frame that both sides take.
        account: what is done for the connection.
        on_answer: called with the size of each answer that is in the queue now, or has to wait for room there.
        on_idle: called whenever all is handled, and by :meth:`close` if it is.

    Attributes:
        answered: whether a message has been handled.
        unread_bytes: of answers that wait for room in the queue.
    """

    __slots__ = (
        "_account",
        "_answers_waiting",
        "_credit_owed",
        "_frame_bytes_max",
        "_go_on",
        "_life",
        "_on_answer",
        "_peer",
        "_share",
        "_shared",
        "_window",
        "_workers",
        "_writer",
        "answered",
        "unread_bytes",
    )

    def __init__(
        self,
        peer: PeerId,
        shared: Shared,
        *,
        writer: FrameWriter,
        share: IntakeShare,
        life: KeepAlive,
        frame_bytes_max: int,
        account: WorkAccount,
        on_answer: Callable[[int], None],
        on_idle: Callable[[], None],
    ) -> None:
        self.answered = False
        self.unread_bytes = 0
        self._on_answer = on_answer
        self._peer = peer
        self._shared = shared
        self._writer = writer
        self._share = share
        self._life = life
        self._frame_bytes_max = frame_bytes_max
        self._account = account
        self._window = CreditWindow(shared.options.window_bytes)
        self._credit_owed = 0  # handled and not told yet
        self._answers_waiting = 0  # for room in the queue
        self._go_on: Callable[[], None] | None = None  # has the connection read when fewer messages wait
        self._workers: Workers[_Work] = Workers(
            shared.pool,
            handle=self._handle,
            give_up=self._give_up,
            timeout_s=shared.options.handling_timeout_s,
            rounds=shared.rounds,
            account=account,
            kind=_protocol_of,
            held_up=self._is_held_up,
            on_idle=on_idle,
        )

    @property
    def busy(self) -> bool:
        """Whether a message is not handled yet."""
        return self._workers.busy

    @property
    def under_way(self) -> int:
        """How many messages are not handled yet."""
        return self._workers.jobs

    def drop(self) -> None:
        """Forget what has not begun: the sender has gone, and what it did not see answered it has to say again."""
        for work in self._workers.drop():
            self._give_back(work)

    def close(self) -> None:
        """No more messages will come; those that are here are handled."""
        self._workers.close()

    def tick(self, now: float) -> None:
        """Give up what takes too long; call it every second or so."""
        self._workers.tick(now)
        self._account.tick()

    def take(self, message: Message, counted: int, then: Callable[[], None]) -> Withdraw | None:
        """Take over a message as soon as there is room for it among what the node holds and in the window.

        Args:
            message: a request or one-way message.
            counted: what of the share is already counted for it: nothing or all.
            then: called when the next one may come, if that is not at once.

        Returns:
            None if the next one may come, else what must be called if none will.
        """
        size = frame_bytes(message.label, message.body)
        work = _Work(message, size, size)
        if not counted and not self._share.take(work.frame_bytes, solicited=False):
            return _Entrance(self, work, self._share, self._window, then).wait_for_room()
        if not self._window.take(MESSAGE_COST_BYTES + work.frame_bytes):
            return _Entrance(self, work, self._share, self._window, then).wait_for_window()
        return self.begin(work, then)

    def begin(self, work: _Work, then: Callable[[], None]) -> Withdraw | None:
        """Handle a message for which there is room; as :meth:`take`."""
        self._life.active = True
        self._workers.add(work)
        if self._workers.waiting < WAITING_MAX or self._is_held_up():
            return None
        self._go_on = then
        return self._read_no_more

    def _read_no_more(self) -> None:
        self._go_on = None

    def _look_at_line(self) -> None:
        """Have the connection read when its line has become short enough, or nothing of it begins until the other side has read."""
        if self._go_on is not None and (self._workers.waiting <= WAITING_MAX // 2 or self._is_held_up()):
            go_on, self._go_on = self._go_on, None
            go_on()

    async def _handle(self, work: _Work) -> Handled:
        message, useful = work.message, False
        if self._go_on is not None:
            self._look_at_line()
        try:
            body = await self._shared.receive(self._peer, message.label, message.body)
            if HEADER_BYTES + len(body) > self._frame_bytes_max:
                raise ResourceLimit(f"the answer of {len(body)} bytes is larger than a frame may be")
            reply = Message(Kind.ANSWER, message.id, body=body)
            self.answered, useful = True, not isinstance(body, RefusingAnswer)
        except FluvialError as error:
            reply = self._error(message, error)
        except Exception as error:  # noqa: BLE001 - a bug of whoever handles it costs this message, not the node
            reply = self._failed(message, error)
        try:
            if not self._finish(work, reply):
                await self._finish_later(work, reply)
        except Exception as error:  # noqa: BLE001 - the boundary: everything expected was caught inside
            note_failure("handling", self._shared.throttled, error)
            return Handled(work.frame_bytes)
        if not useful:
            return Handled(work.frame_bytes)
        if isinstance(reply.body, ContinuingAnswer):
            return Handled(payer=self._shared.payer(reply.body.begun_by))
        return USEFUL

    async def _give_up(self, work: _Work) -> None:
        reply = self._error(
            work.message, ResourceLimit(f"not done within {self._shared.options.handling_timeout_s:g} s")
        )
        with contained("handling", self._shared.throttled):
            self._let_go(work)
            if not self._finish(work, reply):
                await self._finish_later(work, reply)

    def _finish(self, work: _Work, reply: Message) -> bool:
        """Answer at once, and give back what the message has used; False if there is no room for the answer now."""
        waits = False
        try:
            if work.message.kind is not Kind.REQUEST:
                self._credit(work, refused=reply.kind is Kind.ERROR)
            else:
                waits = not self._writer.offer(reply)
                if not waits:
                    self._on_answer(len(reply.body))
        except CreditClosed:
            pass  # the connection is gone, and with it whoever waits for the answer
        finally:
            if not waits:
                self._give_back(work)
        return not waits

    async def _finish_later(self, work: _Work, reply: Message) -> None:
        """Answer when there is room, and give back what the message has used; not if it is cancelled: whoever gives the message up answers it then."""
        try:
            await self._reserve(frame_bytes(reply.label, reply.body))
            self._writer.put(reply)
        except CreditClosed:
            pass
        except Exception:
            self._give_back(work)
            raise
        self._give_back(work)

    def _give_back(self, work: _Work) -> None:
        """Once for each message."""
        self._window.give(MESSAGE_COST_BYTES + work.frame_bytes)
        self._share.give(work.held_bytes)

    def _let_go(self, work: _Work) -> None:
        """Free the memory of a message that nobody handles any more: its answer may wait for long."""
        message = work.message
        work.message = Message(message.kind, message.id, message.label)
        self._share.give(work.held_bytes)
        work.held_bytes = 0

    async def _reserve(self, size: int) -> None:
        self._share.overdraw(size)
        self.unread_bytes += size
        self._answers_waiting += 1
        self._look_at_line()
        try:
            self._on_answer(size)
            await self._writer.reserve(size)
        finally:
            self._share.give(size)
            self.unread_bytes -= size
            self._answers_waiting -= 1
            if self._answers_waiting == ANSWERS_WAITING_MAX - 1:
                self._workers.go_on()

    def _is_held_up(self) -> bool:
        return self._answers_waiting >= ANSWERS_WAITING_MAX

    def _credit(self, work: _Work, *, refused: bool) -> None:
        self._shared.metrics.dropped["refused"] += refused
        self._credit_owed += MESSAGE_COST_BYTES + work.frame_bytes
        # Credit below a quarter of the window can wait: what is left admits the largest frame.
        if self._credit_owed * 4 >= self._shared.options.window_bytes:
            self._writer.give_credit(self._credit_owed)
            self._credit_owed = 0

    def _failed(self, message: Message, error: Exception) -> Message:
        self._shared.throttled.note(
            "message_failed", type(error).__name__, level=ERROR, remote=self._peer, exc_info=error
        )
        return Message(
            Kind.ERROR, message.id, FluvialError.code, b"it could not be handled; the log over there says why"
        )

    def _error(self, message: Message, error: FluvialError) -> Message:
        self._shared.log.debug(
            "a message failed", remote=self._peer, protocol=message.label, code=error.code, error=error.message
        )
        return Message(Kind.ERROR, message.id, error.code, error.message.encode()[:TEXT_BYTES_MAX])


class _Entrance:
    """A message that waits: for room among what the node holds, then for the window."""

    __slots__ = ("_handler", "_share", "_then", "_waits", "_window", "_withdraw", "_work")

    def __init__(
        self,
        handler: MessageHandler,
        work: _Work,
        share: IntakeShare,
        window: CreditWindow,
        then: Callable[[], None],
    ) -> None:
        self._handler = handler
        self._work = work
        self._share = share
        self._window = window
        self._then = then
        self._waits = False
        self._withdraw: Withdraw = _nothing  # of what it waits for now

    def wait_for_room(self) -> Withdraw | None:
        """As :meth:`MessageHandler.take`."""
        claim = self._share.queue(self._work.frame_bytes, solicited=False, on_turn=self._has_room)
        if claim.granted:
            return self.wait_for_window()
        self._waits = True
        self._withdraw = partial(self._share.withdraw, claim)
        return self.withdraw

    def wait_for_window(self) -> Withdraw | None:
        """As :meth:`MessageHandler.take`; room is taken for it."""
        size = MESSAGE_COST_BYTES + self._work.frame_bytes
        if self._window.take(size):
            return self._enter()
        claim = self._window.queue(size, self._has_window)
        self._waits = True

        def withdraw() -> None:
            self._window.withdraw(claim)
            self._share.give(self._work.frame_bytes)

        self._withdraw = withdraw
        return self.withdraw

    def withdraw(self) -> None:
        """It is not to be handled."""
        self._withdraw()

    def _has_room(self) -> None:
        if self._waits and self.wait_for_window() is None:  # else it was granted at once
            self._then()

    def _has_window(self) -> None:
        if self._enter() is None:
            self._then()

    def _enter(self) -> Withdraw | None:
        withdraw = self._handler.begin(self._work, self._then)
        self._withdraw = withdraw or _nothing
        return withdraw


def _nothing() -> None:
    """It is being handled, or was never counted."""
