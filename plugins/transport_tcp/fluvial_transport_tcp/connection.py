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

A connection has no task. It is called by its wire when bytes have come or gone, by those who grant it room, and by the upkeep of the node every
second; messages are handled by workers that all connections share. So one that is idle costs its encryption and little else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import anyio
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.waiting import Event, Future, TimerHandle, future, later, now_s

from fluvial_transport_tcp.admission import MessageAdmission, NotSent
from fluvial_transport_tcp.boundary import note_failure
from fluvial_transport_tcp.closing import Closing, ConnectionPhase
from fluvial_transport_tcp.framing import TEXT_BYTES_MAX, Kind, Message, encode_frame
from fluvial_transport_tcp.handling import MessageHandler
from fluvial_transport_tcp.handshake import FAREWELL_S, GONE, Link
from fluvial_transport_tcp.intake import IntakeShare
from fluvial_transport_tcp.pacing import ReadingPace
from fluvial_transport_tcp.prefix import Prefix
from fluvial_transport_tcp.reading import ANSWERS, WORK, FrameReader, Withdraw
from fluvial_transport_tcp.requests import Found, Pending, Requests
from fluvial_transport_tcp.shared import Shared
from fluvial_transport_tcp.standing import Rank
from fluvial_transport_tcp.waiting import Deadline
from fluvial_transport_tcp.wire import Wire
from fluvial_transport_tcp.writing import FrameWriter

ENDED_BY_US: Final = frozenset(
    {"protocol", "silent", "slow", "crowded", "stalled", "stopping", "disconnected", "evicted", "failed"}
)
"""Reasons of which the other side is told when a connection is cut."""
TOLD_TO_THE_OPERATOR: Final = frozenset({"protocol", "silent", "slow", "crowded", "stalled", "evicted"})
"""Reasons that are logged."""


class Connection:
    """A link in use; the holder of its share of the intake, and an entry of the table of connections.

    Args:
        link: what the handshake made.
        shared: what all connections of the node have in common.
        rank: of the peer, now.
        on_left: called once when the connection takes no more messages, because it ended or is about to.
        on_gone: called once when it has ended, is closed, and everything that it received is handled.
    """

    def __init__(
        self,
        link: Link[Wire],
        shared: Shared,
        *,
        rank: Callable[[Connection], Rank],
        on_left: Callable[[Connection], None],
        on_gone: Callable[[Connection], None],
    ) -> None:
        self.peer: Final[PeerId] = link.peer
        self.prefix: Final[Prefix | None] = link.prefix
        self.dialled: Final = link.dialled
        self.addresses: Final = link.addresses
        self.opened_at: Final = now_s()
        self.ended = False
        self._wire = link.stream
        self._session = link.session
        self._shared = shared
        self._rank = rank
        self._on_left = on_left
        self._on_gone = on_gone
        self._frame_bytes_max = min(shared.options.frame_bytes_max, link.hello.frame_bytes_max)
        self._requests = Requests()
        self._life = shared.keep_alive(self.opened_at)
        self._share = IntakeShare(shared.intake, self)
        self._writer = FrameWriter(
            self._wire,
            self._session,
            queue_bytes_max=shared.options.queue_bytes_max,
            life=self._life,
            metrics=shared.metrics,
            under_way=lambda: self._requests.waiting + self._handler.under_way,
            on_empty=self._written,
            on_error=self._broken,
        )
        self.account: Final = shared.waste.account(link.prefix, lambda: self.rank, self.opened_at)
        self._admission = MessageAdmission(link.hello.window_bytes, self._writer, self._life)
        self._reader = FrameReader(
            self._wire,
            self._session,
            link.decoder,
            share=self._share,
            life=self._life,
            metrics=shared.metrics,
            pace=ReadingPace(shared.rates.buckets(link.prefix, self.opened_at)),
            account=self.account,
            rounds=shared.rounds,
            made=self._requests.__contains__,
            take=self._take,
            resume=self.read,
        )
        self._handler = MessageHandler(
            link.peer,
            shared,
            writer=self._writer,
            share=self._share,
            life=self._life,
            frame_bytes_max=self._frame_bytes_max,
            account=self.account,
            on_answer=lambda size: shared.leftovers.answered(self, size),
            on_idle=self._all_handled,
        )
        self._one_way_charge = 0  # sent and not credited yet
        self._answered = self._closed = self._handled = False
        self._closing = Closing()
        self._reason = self._text = ""
        self._left: Event | None = None  # made for those who wait, as the next
        self._end: Event | None = None
        self._farewell: TimerHandle | None = None  # closes the wire if the other side does not take it
        self._wire.attend(self.read, self._wrote)

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
    def unread_bytes(self) -> int:
        """The same, and answers that wait for room in the queue."""
        return self._writer.queued_bytes + self._handler.unread_bytes

    @property
    def silent(self) -> bool:
        """Whether nothing has come over it so far."""
        return self._life.silent_since(self.opened_at)

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

    async def request(self, protocol: str, payload: bytes, *, size: int, until: float) -> bytes:
        """Send and wait for the answer.

        Args:
            protocol: at most 255 bytes.
            payload: what to send.
            size: of the frame, at most ``frame_bytes_max``.
            until: the deadline, of the loop's clock.

        Raises:
            NotSent: the connection takes no more messages.
            RemoteProtocolError: the answer is an error.
            Unreachable: the connection broke before the answer.
            TimeoutError: there was none in time.
        """
        if (charge := self._admission.at_once(size)) is None:
            charge = await self._admitted(size, Deadline(self._shared.wheel, until))
        answered: Future[Found] = future()

        def tell(found: Found) -> None:
            if not answered.done():
                answered.set_result(found)

        take_back = self._ask(protocol, payload, charge, until, tell)
        try:
            found = await answered
        except BaseException:
            take_back()
            raise
        if isinstance(found, bytes):
            return found
        try:
            raise found
        finally:
            del found  # in a circle with this frame it would keep all that was sent, until garbage is collected

    def ask(
        self, protocol: str, payload: bytes, *, size: int, until: float, tell: Callable[[Found], object]
    ) -> Callable[[], None] | None:
        """As :meth:`request`, if nothing has to be waited for before it is sent; None if it has, or it cannot be sent.

        Args:
            protocol: as for :meth:`request`, as the next.
            payload: what to send.
            size: of the frame.
            until: the deadline.
            tell: called once with the answer, or with what :meth:`request` would raise.

        Returns:
            What is to be called if nobody wants the answer any more.
        """
        if not self.usable or size > self._frame_bytes_max:
            return None
        charge = self._admission.at_once(size)
        return None if charge is None else self._ask(protocol, payload, charge, until, tell)

    def _ask(
        self, protocol: str, payload: bytes, charge: int, until: float, tell: Callable[[Found], object]
    ) -> Callable[[], None]:
        pending = self._requests.open(self.peer, protocol, charge, tell)
        pending.expire_at(self._shared.wheel, until, lambda: self._abandon(pending, TimeoutError()))
        self._writer.put(Message(Kind.REQUEST, pending.id, protocol, payload))
        return lambda: self._abandon(pending, None)

    def _abandon(self, pending: Pending, found: Found | None) -> None:
        self._requests.abandon(pending, found)
        if not self.ended:
            self._shared.leftovers.look(self)
            self._say_goodbye_if_due()

    async def send(self, protocol: str, payload: bytes, *, size: int) -> None:
        """Put a one-way message into the queue; arguments as for :meth:`request`, and the caller sets the deadline.

        Raises:
            NotSent: the connection takes no more messages.
        """
        if (charge := self._admission.at_once(size)) is None:
            charge = await self._admitted(size)
        self._one_way_charge += charge
        self._writer.put(Message(Kind.ONE_WAY, 0, protocol, payload))

    def post(self, protocol: str, payload: bytes, *, size: int) -> bool:
        """As :meth:`send`, if nothing has to be waited for; False if it has, or the connection takes no more messages, or none so large."""
        if not self.usable or size > self._frame_bytes_max:
            return False
        charge = self._admission.at_once(size)
        if charge is None:
            return False
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
        if not self.ended:
            self._end = self._end or Event()
            with anyio.move_on_after(within_s):
                await self._end.wait()
            self.cut(reason, text)

    async def until_left(self) -> None:
        """Wait until the connection takes no more messages."""
        if self.usable:
            self._left = self._left or Event()
            await self._left.wait()

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

    def read(self) -> None:
        """Take what has come; for the host when the connection is welcome, and for the wire; never raises for the other side."""
        try:
            self._reader.read()
        except RemoteProtocolError as error:
            self.cut("protocol", error.message)
        except GONE:
            self.cut("lost", "the connection broke")
        except Exception as error:  # noqa: BLE001 - the boundary: a bug costs this connection
            self._fail(error)

    def _take(self, message: Message, counted: int, then: Callable[[], None]) -> Withdraw | None:
        kind = message.kind
        if kind in WORK:
            if self._closing.goodbye_heard:
                self._share.give(counted)
                raise RemoteProtocolError("it begins something new after its goodbye")
            return self._handler.take(message, counted, then)
        if kind in ANSWERS:
            self._take_answer(message)
        else:
            self._take_control(message)
        return None

    def _take_control(self, message: Message) -> None:
        match message.kind:
            case Kind.CREDIT:
                if not 0 < message.id <= self._one_way_charge:
                    raise RemoteProtocolError("it gives back more credit than was used")
                self._one_way_charge -= message.id
                self._admission.give(message.id)
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
        self._admission.give(pending.charge)
        self._life.active = self._answered = True
        if pending.abandoned:
            self._shared.metrics.dropped["late"] += 1
        self._say_goodbye_if_due()

    def _take_goodbye(self, message: Message) -> None:
        self._closing.hear()
        text = message.body.decode(errors="replace")
        self._shared.log.debug("the other side says goodbye", remote=self.peer, reason=message.label, text=text)
        if not self._reason:
            self._reason, self._text = "goodbye", f"the other side said goodbye: {text}"
        self._leave()
        self._writer.wake()

    # --- writing ------------------------------------------------------------------------------------------------------

    async def _admitted(self, size: int, deadline: Deadline | None = None) -> int:
        """Wait until a frame may go into the queue; its charge."""
        charge = await self._admission.wait(size, deadline)
        if not self.usable:
            self._writer.unreserve(size)
            raise NotSent
        return charge

    def _wrote(self) -> None:
        """For the wire: the system has taken what was written, or never will."""
        if self.ended:
            self.drop()
            return
        try:
            self._writer.go_on()
        except Exception as error:  # noqa: BLE001 - the boundary: a bug costs this connection
            self._fail(error)

    def _written(self) -> None:
        """All that was to be written is; after both goodbyes that is the end, unless there are answers to come."""
        self._shared.leftovers.remove(self)
        if self._closing.phase is ConnectionPhase.DONE and not self._handler.busy:
            self.cut(self._reason, self._text)

    def _broken(self, error: Exception) -> None:
        if isinstance(error, RemoteProtocolError):
            self.cut("protocol", error.message)
        else:
            self.cut("lost", "the connection broke")

    # --- the end ------------------------------------------------------------------------------------------------------

    def _leave(self) -> None:
        self._closing.retire()
        if self._life.leaving_at is None:
            self._life.leaving_at = now_s()
            self._admission.close()
            if self._left is not None:
                self._left.set()
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
        if self.ended:
            return
        self.ended = True
        between_records = not self._wire.full
        tell = reason in ENDED_BY_US and between_records and not self._closing.goodbye_said
        self._reason, self._text = reason, text
        self._closing.end()
        self._shared.leftovers.remove(self)
        self._leave()
        self._writer.close()
        self._reader.end()
        self._requests.fail_all(text)
        self._shared.metrics.closed[reason] += 1
        self._shared.log.debug("connection ended", remote=self.peer, reason=reason, text=text)
        if reason in TOLD_TO_THE_OPERATOR:
            self._shared.throttled.note("connections_cut", reason, remote=self.peer, error=text)
        if self._end is not None:
            self._end.set()
        if not tell or self._told():
            self.drop()
        if reason == "lost" or reason in TOLD_TO_THE_OPERATOR:  # who asks for much and goes leaves no work behind
            self._handler.drop()
        self._handler.close()

    def drop(self) -> None:
        """Close the wire of a connection that was cut."""
        if self._closed:
            return
        self._closed = True
        if self._farewell is not None:
            self._farewell.cancel()
        self._wire.detach()
        self._wire.close()
        self._look_whether_gone()

    def _told(self) -> bool:
        """Say why this side cut the connection; whether the system has taken it, or never will."""
        try:
            if alert := self._session.outgoing():  # first: after it nothing may be sealed
                self._wire.write(alert)
            taken = self._wire.write(self._session.seal(b"".join(encode_frame(self._goodbye()))))
        except (RemoteProtocolError, *GONE):
            return True
        if not taken:
            self._farewell = later(FAREWELL_S, self.drop)
        return taken

    def _all_handled(self) -> None:
        if self.ended:
            self._handled = True
            self._look_whether_gone()
        elif self._closing.phase is ConnectionPhase.DONE:
            self._writer.wake()

    def _look_whether_gone(self) -> None:
        if self._closed and self._handled:
            self._on_gone(self)

    def _fail(self, error: Exception) -> None:
        note_failure("connection", self._shared.throttled, error)
        self.cut("failed", "a bug of this side; its log says more")
