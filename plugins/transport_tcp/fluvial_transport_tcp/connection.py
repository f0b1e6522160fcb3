"""One connection between two peers: several protocols, many requests at once, bounded both ways.

What waits where, and for what:

- *Credit.* Each side announces a window in its Hello: the bytes of requests and one-way messages that may be under way to it or
  being handled there. A message is charged its size and a fixed cost, so the window bounds their number too. The sender waits
  for credit; an answer gives back its request's, a CREDIT message those of one-way messages. So a side that keeps to it never
  makes the other stop reading, and answers pass by messages that must wait. From one that does not keep to it no more is read
  until there is room.
- *Intake.* What all connections of a node hold of other peers' messages is bounded in bytes (``intake.py``). A connection whose next
  frame finds no room is not read until there is some.
- *Pace.* From peers without weight no more is read than their rate allows (``pacing.py``).
- *Queue.* What is to be written waits in a queue (``writing.py``); when it is full, senders wait.
- *Goodbye.* ``closing.py`` has the phases of a connection, and how it ends.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio
import structlog
from anyio import CancelScope
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.seats import Receive
from fluvial.throttling import ThrottledLog

from fluvial_transport_tcp.closing import Closing
from fluvial_transport_tcp.credit import CreditClosed, CreditWindow
from fluvial_transport_tcp.framing import Kind, Message, encode_frame
from fluvial_transport_tcp.handling import MESSAGE_COST_BYTES, TEXT_BYTES_MAX, MessageHandler
from fluvial_transport_tcp.handshake import FAREWELL_S, GONE, Link
from fluvial_transport_tcp.intake import Intake, IntakeShare
from fluvial_transport_tcp.keepalive import KeepAlive
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.pacing import ReadingPace, ReadingRates
from fluvial_transport_tcp.prefix import Prefix
from fluvial_transport_tcp.reading import WORK, FrameReader
from fluvial_transport_tcp.requests import Requests
from fluvial_transport_tcp.standing import Rank
from fluvial_transport_tcp.waiting import take_credit
from fluvial_transport_tcp.writing import FrameWriter

DRAIN_SLACK_S: Final = 5.0
"""A leaving connection is given the time that handling a message may take, and this."""
ENDED_BY_US: Final = frozenset(
    {"protocol", "silent", "slow", "crowded", "stalled", "stopping", "disconnected", "evicted"}
)
"""Reasons of which the other side is told when a connection is cut."""
TOLD_TO_THE_OPERATOR: Final = frozenset({"protocol", "silent", "slow", "crowded", "stalled", "evicted"})
"""Reasons that are logged."""


class NotSent(Exception):
    """The connection took no more messages before this one was in its queue: use another connection."""


class Connection:
    """A link in use; the holder of its share of the intake, and an entry of the table of connections.

    Args:
        link: what the handshake made.
        options: the limits.
        intake: what all connections of the node hold together.
        rates: how fast this peer reads.
        metrics: where things are counted.
        log: bound to this peer.
        throttled: for what the other side can make us log.
        receive: handles what comes in.
        rank: of the peer, now.
        on_left: called once when the connection takes no more messages, because it ended or is about to.
    """

    def __init__(
        self,
        link: Link,
        *,
        options: Options,
        intake: Intake,
        rates: ReadingRates,
        metrics: Metrics,
        log: structlog.stdlib.BoundLogger,
        throttled: ThrottledLog,
        receive: Receive,
        rank: Callable[[Connection], Rank],
        on_left: Callable[[Connection], None],
    ) -> None:
        self.peer: Final[PeerId] = link.peer
        self.prefix: Final[Prefix | None] = link.prefix
        self.dialled: Final = link.dialled
        self.addresses: Final = link.addresses
        self.opened_at: Final = anyio.current_time()
        self.left: Final = anyio.Event()
        self.ended: Final = anyio.Event()
        self._link = link
        self._metrics = metrics
        self._log = log
        self._throttled = throttled
        self._rank = rank
        self._on_left = on_left
        self._frame_bytes_max = min(options.frame_bytes_max, link.hello.frame_bytes_max)
        self._credit = CreditWindow(link.hello.window_bytes)
        self._share = IntakeShare(intake, self)
        self._requests = Requests()
        self._life = KeepAlive(
            self.opened_at,
            keepalive_s=options.keepalive_s,
            silence_max_s=options.silence_max_s,
            frame_max_s=options.frame_timeout_s,
            leaving_max_s=options.handling_timeout_s + DRAIN_SLACK_S,
        )
        self._writer = FrameWriter(link, queue_bytes_max=options.queue_bytes_max, life=self._life, metrics=metrics)
        pace = ReadingPace(rates.buckets(link.prefix, self.opened_at))
        self._reader = FrameReader(link, share=self._share, life=self._life, metrics=metrics, pace=pace)
        self._handler = MessageHandler(
            link.peer,
            receive=receive,
            writer=self._writer,
            share=self._share,
            life=self._life,
            options=options,
            frame_bytes_max=self._frame_bytes_max,
            metrics=metrics,
            log=log,
            throttled=throttled,
        )
        self._reading = CancelScope()
        self._written = anyio.Event()
        self._one_way_charge = 0  # sent and not credited yet
        self._answered = False
        self._closing = Closing()
        self._reason = self._text = ""
        self._tell = False  # the other side, why it was cut

    @property
    def usable(self) -> bool:
        """Whether it takes messages."""
        return self._closing.usable

    @property
    def exchanged(self) -> bool:
        """Whether messages were exchanged: one that it sent was handled, or one that it got answered."""
        return self._answered or self._handler.answered

    @property
    def superseded(self) -> bool:
        """Whether it was left because another connection with the same peer is used."""
        return self._reason == "superseded"

    @property
    def frame_bytes_max(self) -> int:
        """The largest frame that both sides allow."""
        return self._frame_bytes_max

    @property
    def queued_bytes(self) -> int:
        """What waits to be written."""
        return self._writer.queued_bytes

    @property
    def rank(self) -> Rank:
        """The class of its peer."""
        return self._rank(self)

    @property
    def incomplete(self) -> bool:
        """Whether a frame has begun to arrive and is not complete."""
        return self._life.frame != 0

    def frame_s(self, now: float) -> float:
        """How long that has been so, in seconds."""
        return self._life.frame_s(now)

    def idle_s(self, now: float) -> float:
        """Seconds since the last message other than signs of life, 0 while one is under way; as of the last tick."""
        busy = self._requests.waiting or self._handler.busy or self._writer.queued_bytes
        return 0.0 if busy else self._life.idle_s(now)

    async def run(self) -> None:
        """Read and write until the connection ends, and then until everything received is handled; never raises for the other side."""
        async with anyio.create_task_group() as group:
            self._handler.start(group)
            group.start_soon(self._write)
            try:
                await self._read()
            finally:
                self.cut("stopping", "this peer stops")
                self._handler.close()
                if not self._written.is_set():
                    with CancelScope(shield=True):
                        await self._written.wait()
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
        self._writer.put(Message(Kind.REQUEST, pending.id, protocol, payload))
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
        self._writer.put(Message(Kind.ONE_WAY, 0, protocol, payload))

    def post(self, protocol: str, payload: bytes, *, size: int) -> bool:
        """As :meth:`send`, if nothing has to be waited for; False if it has, or the connection takes no more messages, or none so large."""
        charge = MESSAGE_COST_BYTES + size
        if not self.usable or size > self._frame_bytes_max or not self._credit.free(charge):
            return False
        if not self._writer.reserve_now(size):
            return False
        self._credit.take(charge)
        self._life.active = True
        self._one_way_charge += charge
        self._writer.put(Message(Kind.ONE_WAY, 0, protocol, payload))
        return True

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

    def tick(self, now: float) -> None:
        """Look after the connection: signs of life and deadlines.

        Args:
            now: ``anyio.current_time()``; call it every second or so.
        """
        self._handler.tick(now)
        verdict = self._life.judge(now)
        if verdict.reason:
            self.cut(verdict.reason, verdict.text)
        elif verdict.ask:
            self._writer.ping()

    # --- reading ------------------------------------------------------------------------------------------------------

    async def _read(self) -> None:
        try:
            with self._reading:
                while True:
                    message, counted = self._reader.ready_message(), 0
                    if message is None:
                        message, counted = await self._reader.next_message()
                    if message.kind not in WORK:
                        self._take(message)
                    elif self._closing.goodbye_heard:
                        self._share.give(counted)
                        raise RemoteProtocolError("it begins something new after its goodbye")
                    elif counted or not self._handler.take_now(message):
                        await self._handler.take(message, counted)
        except RemoteProtocolError as error:
            self.cut("protocol", error.message)
        except GONE:
            self.cut("lost", "the connection broke")

    def _take(self, message: Message) -> None:
        match message.kind:
            case Kind.ANSWER | Kind.ERROR:
                self._take_answer(message)
            case Kind.CREDIT:
                if not 0 < message.id <= self._one_way_charge:
                    raise RemoteProtocolError("it gives back more credit than was used")
                self._one_way_charge -= message.id
                self._credit.give(message.id)
            case Kind.PING:
                self._writer.pong(message.id)
            case Kind.PONG:
                pass  # any byte is a sign of life
            case Kind.GOODBYE:
                self._take_goodbye(message)
            case _:
                raise RemoteProtocolError("it says hello again")

    def _take_answer(self, message: Message) -> None:
        pending = self._requests.settle(message)
        self._credit.give(pending.charge)
        self._life.active = self._answered = True
        if pending.abandoned:
            self._metrics.dropped["late"] += 1

    def _take_goodbye(self, message: Message) -> None:
        self._closing.hear()
        text = message.body[:TEXT_BYTES_MAX].decode(errors="replace")
        self._log.debug("the other side says goodbye", remote=self.peer, reason=message.label, text=text)
        if not self._reason:
            self._reason, self._text = "goodbye", f"the other side said goodbye: {text}"
        self._leave()
        self._writer.wake()

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _admitted(self, size: int) -> int:
        """Wait for credit and for room in the queue; the charge."""
        charge = MESSAGE_COST_BYTES + size
        try:
            if not self._credit.take(charge):
                await take_credit(self._credit, charge)
            try:
                if not self._writer.reserve_now(size):
                    await self._writer.reserve(size)
            except BaseException:
                self._credit.give(charge)
                raise
        except CreditClosed:
            raise NotSent from None
        if not self.usable:
            self._writer.unreserve(size)
            raise NotSent
        self._life.active = True
        return charge

    async def _write(self) -> None:
        try:
            await self._writer.run(self._closing)
            self.cut(self._reason, self._text)
        except RemoteProtocolError as error:
            self.cut("protocol", error.message)
        except GONE:
            self.cut("lost", "the connection broke")
        finally:
            self._written.set()

    # --- the end ------------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        self._closing.retire()
        if not self.left.is_set():
            self._life.leaving_at = anyio.current_time()
            self._credit.close()
            self.left.set()
            self._on_left(self)
        self._say_goodbye_if_due()

    def _say_goodbye_if_due(self) -> None:
        if self._closing.owes_goodbye and not self._requests.waiting:
            self._closing.say()
            self._writer.put_control(self._goodbye())

    def _goodbye(self) -> Message:
        return Message(Kind.GOODBYE, 0, self._reason, self._text.encode()[:TEXT_BYTES_MAX])

    def cut(self, reason: str, text: str) -> None:
        """Cut the connection; the first call counts."""
        if self.ended.is_set():
            return
        self.ended.set()
        between_records = self._life.writing_at is None
        self._tell = reason in ENDED_BY_US and between_records and not self._closing.goodbye_said
        self._reason, self._text = reason, text
        self._closing.end()
        self._leave()
        self._writer.close()
        self._requests.fail_all(text)
        self._metrics.closed[reason] += 1
        self._log.debug("connection ended", remote=self.peer, reason=reason, text=text)
        if reason in TOLD_TO_THE_OPERATOR:
            self._throttled.note("connections_cut", reason, remote=self.peer, error=text)
        if not self._tell:
            self._link.stream.close()  # whoever reads or writes finds out
        if self._tell or self._life.paused:
            self._reading.cancel()

    async def _farewell(self) -> None:
        """Say why, if this side cut the connection and the stream is between two records, and close it."""
        try:
            if self._tell:
                with anyio.move_on_after(FAREWELL_S, shield=True), suppress(*GONE, RemoteProtocolError):
                    if alert := self._link.session.outgoing():
                        await self._link.stream.send(alert)
                    await self._link.stream.send(self._link.session.seal(b"".join(encode_frame(self._goodbye()))))
        finally:
            self._link.stream.close()
