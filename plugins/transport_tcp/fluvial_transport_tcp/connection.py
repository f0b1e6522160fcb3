"""One connection between two peers: several protocols, many requests at once, bounded both ways.

What waits where, and for what:

- *Credit.* Each side announces a window in its Hello: the bytes of requests and one-way messages that may be under way to it or
  being handled there. A message is charged its size and a fixed cost, so the window bounds their number too. The sender waits
  for credit; an answer gives back its request's, a CREDIT message those of one-way messages. So a side that keeps to it never
  makes the other stop reading, and answers pass by messages that must wait. From one that does not keep to it no more is read
  until there is room.
- *Queue.* What is to be written waits in an outbox; when it is full, senders wait. Small messages leave together in one TLS
  record, long ones in slices.
- *Goodbye.* Who wants to end a connection begins nothing new, waits for the answers it is owed, and says goodbye; the other side
  does the same, and when both have, the connection is closed. So nothing under way is lost. After an error it is closed at once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

import anyio
import structlog
from anyio import CancelScope
from fluvial.errors import FluvialError, RemoteProtocolError, ResourceLimit
from fluvial.identity import PeerId
from fluvial.seats import Receive

from fluvial_transport_tcp.allowance import Allowance, AllowanceClosed
from fluvial_transport_tcp.framing import Kind, Message, Outbox, encode_frame, frame_bytes
from fluvial_transport_tcp.handshake import FAREWELL_S, GONE, Link
from fluvial_transport_tcp.liveness import Liveness
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.requests import Requests
from fluvial_transport_tcp.workers import Workers

MESSAGE_COST_BYTES: Final = 32_768
"""Charged per message besides its size: bounds a window of 16 MiB to 512 messages being handled at once."""
READ_BYTES: Final = 262_144
"""What the event loop reads at once at most; asking for less would make it copy."""
WRITE_BYTES: Final = 65_536
"""Encrypted and written at once: four full TLS records; bounds the copies that are made of a long message."""
TEXT_BYTES_MAX: Final = 1024
"""Of an error's or a goodbye's text."""
DRAIN_SLACK_S: Final = 5.0
"""A leaving connection is given the time that handling a message may take, and this."""
ENDED_BY_US: Final = frozenset({"protocol", "silent", "stalled", "stopping", "disconnected", "evicted"})
"""Reasons of which the other side is told when a connection is cut."""


class NotSent(Exception):
    """The connection took no more messages before this one was in its queue: use another connection."""


class _Work(NamedTuple):
    """A message to be handled, and the share of our window that it takes until it is."""

    message: Message
    charge: int


class Connection:
    """A link in use.

    Args:
        link: what the handshake made.
        options: the limits.
        metrics: where things are counted.
        log: bound to this peer.
        receive: handles what comes in.
        on_left: called once when the connection takes no more messages, because it ended or is about to.
    """

    def __init__(
        self,
        link: Link,
        *,
        options: Options,
        metrics: Metrics,
        log: structlog.stdlib.BoundLogger,
        receive: Receive,
        on_left: Callable[[Connection], None],
    ) -> None:
        self.peer: Final[PeerId] = link.peer
        self.dialled: Final = link.dialled
        self.addresses: Final = link.addresses
        self.opened_at: Final = anyio.current_time()
        self.left: Final = anyio.Event()
        self.ended: Final = anyio.Event()
        self._link = link
        self._options = options
        self._metrics = metrics
        self._log = log.bind(remote=link.peer)
        self._receive = receive
        self._on_left = on_left
        self._frame_bytes_max = min(options.frame_bytes_max, link.hello.frame_bytes_max)
        self._credit = Allowance(link.hello.window_bytes)
        self._window = Allowance(options.window_bytes)
        self._room = Allowance(options.queue_bytes_max)
        self._outbox = Outbox()
        self._wake = anyio.Event()
        self._requests = Requests()
        self._workers: Workers[_Work] = Workers(
            handle=self._handle, give_up=self._give_up, timeout_s=options.handling_timeout_s
        )
        self._wire: CancelScope | None = None
        self._one_way_charge = 0  # sent and not credited yet
        self._credit_owed = 0  # handled and not told yet
        self._pong: int | None = None  # to be sent
        self._ping = False  # to be sent
        self._life = Liveness(
            self.opened_at,
            keepalive_s=options.keepalive_s,
            silence_max_s=options.silence_max_s,
            leaving_max_s=options.handling_timeout_s + DRAIN_SLACK_S,
        )
        self._reason = self._text = ""
        self._goodbye_sent = self._goodbye_heard = False

    @property
    def usable(self) -> bool:
        """Whether it takes messages."""
        return not self.left.is_set()

    @property
    def superseded(self) -> bool:
        """Whether it was left because another connection with the same peer is used."""
        return self._reason == "superseded"

    @property
    def frame_bytes_max(self) -> int:
        """The largest frame that both sides allow."""
        return self._frame_bytes_max

    async def run(self) -> None:
        """Read and write until the connection ends, and then until everything received is handled; never raises for the other side."""
        async with anyio.create_task_group() as group:
            self._workers.start(group)
            try:
                async with anyio.create_task_group() as wire:
                    self._wire = wire.cancel_scope
                    if self.ended.is_set():
                        self._wire.cancel()
                    wire.start_soon(self._write)
                    wire.start_soon(self._read)
            finally:
                self.cut("stopping", "this peer stops")
                self._workers.close()
                await self._farewell()

    async def request(self, protocol: str, payload: bytes, *, size: int) -> bytes:
        """Send and wait for the answer; the caller sets the deadline.

        Args:
            protocol: at most 255 bytes.
            payload: what to send.
            size: of the frame, at most ``frame_bytes_max``.

        Raises:
            NotSent: the connection takes no more messages.
            RemoteProtocolError: the answer is an error.
            Unreachable: the connection broke before the answer.
        """
        charge = await self._admitted(size)
        pending = self._requests.open(protocol, charge)
        self._put(Message(Kind.REQUEST, pending.id, protocol, payload))
        try:
            return await pending.wait(self.peer)
        finally:
            self._requests.abandon(pending)
            self._say_goodbye_if_due()

    async def send(self, protocol: str, payload: bytes, *, size: int) -> None:
        """Put a one-way message into the queue; arguments and deadline as for :meth:`request`.

        Raises:
            NotSent: the connection takes no more messages.
        """
        self._one_way_charge += await self._admitted(size)
        self._put(Message(Kind.ONE_WAY, 0, protocol, payload))

    def retire(self, reason: str, text: str) -> None:
        """Begin nothing new and close when nothing is under way any more."""
        if not self._reason:
            self._reason, self._text = reason, text
        self._leave()

    async def close(self, reason: str, text: str, *, within_s: float) -> None:
        """Retire, and cut the connection if that takes too long."""
        self.retire(reason, text)
        with anyio.move_on_after(within_s):
            await self.ended.wait()
        self.cut(reason, text)

    def idle_s(self, now: float) -> float:
        """Seconds since the last message other than signs of life, 0 while one is under way; as of the last tick."""
        return 0.0 if self._requests.waiting or self._workers.busy or self._outbox else self._life.idle_s(now)

    @property
    def queued_bytes(self) -> int:
        """What waits to be written."""
        return self._outbox.size

    def tick(self, now: float) -> None:
        """Look after the connection: signs of life and deadlines.

        Args:
            now: ``anyio.current_time()``; call it every second or so.
        """
        self._workers.tick(now)
        verdict = self._life.judge(now)
        if verdict.reason:
            self.cut(verdict.reason, verdict.text)
        elif verdict.ask:
            self._ping = True
            self._wake.set()

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        link = self._link
        try:
            while True:
                await self._take_messages()
                data = await link.stream.receive(READ_BYTES)
                self._life.heard = True
                self._metrics.bytes_in += len(data)
                link.session.feed(data)
        except RemoteProtocolError as error:
            self.cut("protocol", error.message)
        except GONE:
            self.cut("lost", "the connection broke")

    async def _take_messages(self) -> None:
        session, decoder, counters = self._link.session, self._link.decoder, self._metrics.messages_in
        while True:
            while (message := decoder.next_message()) is not None:
                counters[message.kind] += 1
                await self._take(message)
            if not (data := session.read()):
                return
            decoder.feed(data)

    async def _take(self, message: Message) -> None:
        match message.kind:
            case Kind.REQUEST | Kind.ONE_WAY:
                await self._take_work(message)
            case Kind.ANSWER | Kind.ERROR:
                self._take_answer(message)
            case Kind.CREDIT:
                if not 0 < message.id <= self._one_way_charge:
                    raise RemoteProtocolError("it gives back more credit than was used")
                self._one_way_charge -= message.id
                self._credit.give(message.id)
            case Kind.PING:
                self._pong = message.id
                self._wake.set()
            case Kind.PONG:
                pass  # any byte is a sign of life
            case Kind.GOODBYE:
                self._take_goodbye(message)
            case Kind.HELLO:
                raise RemoteProtocolError("it says hello again")

    async def _take_work(self, message: Message) -> None:
        if self._goodbye_heard:
            raise RemoteProtocolError("it begins something new after its goodbye")
        charge = MESSAGE_COST_BYTES + frame_bytes(message.label, message.body)
        if not self._window.free(charge):
            self._life.paused = True
        await self._window.take(charge)
        self._life.paused = False
        self._life.heard = self._life.active = True
        self._workers.add(_Work(message, charge))

    def _take_answer(self, message: Message) -> None:
        pending = self._requests.settle(message)
        self._credit.give(pending.charge)
        self._life.active = True
        if pending.abandoned:
            self._metrics.dropped["late"] += 1

    def _take_goodbye(self, message: Message) -> None:
        if self._goodbye_heard:
            raise RemoteProtocolError("it says goodbye again")
        self._goodbye_heard = True
        text = message.body[:TEXT_BYTES_MAX].decode(errors="replace")
        self._log.debug("the other side says goodbye", reason=message.label, text=text)
        self.retire("goodbye", f"the other side said goodbye: {text}")
        self._wake.set()

    async def _handle(self, work: _Work) -> None:
        await self._finish(work, await self._reply(work.message))

    async def _give_up(self, work: _Work) -> None:
        late = ResourceLimit(f"not done within {self._options.handling_timeout_s:g} s")
        await self._finish(work, self._error(work.message, late))

    async def _finish(self, work: _Work, reply: Message) -> None:
        if work.message.kind is Kind.REQUEST:
            with suppress(AllowanceClosed):  # the connection is gone, and with it whoever waits for the answer
                await self._room.take(frame_bytes(reply.label, reply.body))
                self._put(reply)
        else:
            self._metrics.dropped["refused"] += reply.kind is Kind.ERROR
            self._credit_owed += work.charge
            self._wake.set()
        self._window.give(work.charge)

    async def _reply(self, message: Message) -> Message:
        try:
            body = await self._receive(self.peer, message.label, message.body)
        except FluvialError as error:
            return self._error(message, error)
        if frame_bytes("", body) > self._frame_bytes_max:
            return self._error(message, ResourceLimit(f"the answer of {len(body)} bytes is larger than a frame may be"))
        return Message(Kind.ANSWER, message.id, body=body)

    def _error(self, message: Message, error: FluvialError) -> Message:
        self._log.debug("a message failed", protocol=message.label, code=error.code, error=error.message)
        return Message(Kind.ERROR, message.id, error.code, error.message.encode()[:TEXT_BYTES_MAX])

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _admitted(self, size: int) -> int:
        """Wait for credit and for room in the queue; the charge."""
        charge = MESSAGE_COST_BYTES + size
        try:
            await self._credit.take(charge)
            try:
                await self._room.take(size)
            except BaseException:
                self._credit.give(charge)
                raise
        except AllowanceClosed:
            raise NotSent from None
        if not self.usable:
            self._room.give(size)
            raise NotSent
        self._life.active = True
        return charge

    def _put(self, message: Message) -> None:
        """Into the queue, in which there is room."""
        self._outbox.put(message)
        self._metrics.messages_out[message.kind] += 1
        self._wake.set()

    def _put_control(self, message: Message) -> None:
        self._room.overdraw(frame_bytes(message.label, message.body))
        self._put(message)

    async def _write(self) -> None:
        stream, session = self._link.stream, self._link.session
        try:
            while True:
                self._put_due_control()
                piece = self._outbox.take(WRITE_BYTES)
                sealed = session.seal(piece)
                if sealed:
                    self._life.writing_at = anyio.current_time()
                    await stream.send(sealed)
                    self._life.writing_at = None
                    self._metrics.bytes_out += len(sealed)
                    self._room.give(len(piece))
                elif self._goodbye_sent and self._goodbye_heard:
                    return self.cut(self._reason, self._text)
                else:
                    self._wake = anyio.Event()
                    await self._wake.wait()
        except RemoteProtocolError as error:
            self.cut("protocol", error.message)
        except GONE:
            self.cut("lost", "the connection broke")

    def _put_due_control(self) -> None:
        """Signs of life and credit have one slot each, so that no flood of pings fills the queue."""
        if self._ping:
            self._put_control(Message(Kind.PING))
        if self._pong is not None:
            self._put_control(Message(Kind.PONG, self._pong))
        self._ping, self._pong = False, None
        # Credit below a quarter of the window can wait: what is left admits the largest frame.
        if self._credit_owed * 4 >= self._options.window_bytes:
            self._put_control(Message(Kind.CREDIT, self._credit_owed))
            self._credit_owed = 0

    # --- the end ------------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        if self.usable:
            self._life.leaving_at = anyio.current_time()
            self._credit.close()
            self.left.set()
            self._on_left(self)
        self._say_goodbye_if_due()

    def _say_goodbye_if_due(self) -> None:
        if not self.usable and not self._goodbye_sent and not self._requests.waiting and not self.ended.is_set():
            self._goodbye_sent = True
            self._put_control(Message(Kind.GOODBYE, 0, self._reason, self._text.encode()[:TEXT_BYTES_MAX]))

    def cut(self, reason: str, text: str) -> None:
        """Cut the connection; the first call counts."""
        if self.ended.is_set():
            return
        self.ended.set()
        self._reason, self._text = reason, text
        self._leave()
        self._room.close()
        self._requests.fail_all(text)
        self._metrics.closed[reason] += 1
        self._log.debug("connection ended", reason=reason, text=text)
        if self._wire is not None:
            self._wire.cancel()

    async def _farewell(self) -> None:
        """Say why, if this side cut the connection and the stream is between two records, and close it."""
        with anyio.move_on_after(FAREWELL_S, shield=True), suppress(*GONE, RemoteProtocolError):
            if self._reason in ENDED_BY_US and self._life.writing_at is None and not self._goodbye_sent:
                if alert := self._link.session.outgoing():
                    await self._link.stream.send(alert)
                goodbye = Message(Kind.GOODBYE, 0, self._reason, self._text.encode()[:TEXT_BYTES_MAX])
                await self._link.stream.send(self._link.session.seal(b"".join(encode_frame(goodbye))))
        with anyio.CancelScope(shield=True):
            await self._link.stream.aclose()
