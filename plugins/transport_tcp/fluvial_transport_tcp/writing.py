"""The writing half of a connection: a bounded queue of frames, encrypted piece by piece.

There is no task for it. A message that is put into the queue is written at once if little is under way; else in a turn or two of the event loop,
together with what comes until then; and if the system does not take it all, what remains follows when it has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from fluvial.errors import RemoteProtocolError
from fluvial.waiting import now_s, soon

from fluvial_transport_tcp.credit import CreditWindow
from fluvial_transport_tcp.framing import Kind, Message, SendQueue, encode_frame, frame_bytes
from fluvial_transport_tcp.handshake import GONE
from fluvial_transport_tcp.keepalive import KeepAlive
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.secure import Session
from fluvial_transport_tcp.waiting import Deadline, take_credit
from fluvial_transport_tcp.wire import Wire

WRITE_BYTES: Final = 65_536
"""Encrypted and written at once: four full TLS records; bounds the copies that are made of a long message."""
CROWD: Final = 8
"""With so many messages under way, those that are written wait :data:`GATHER_TURNS` for others: one call of the system has them all."""
GATHER_TURNS: Final = 2
"""Turns of the event loop."""


class FrameWriter:
    """What is to be written waits here in order; small messages leave together in one TLS record, long ones in slices.

    Signs of life and credit have one slot each, so that no flood of pings fills the queue.

    Args:
        wire: where to; its ``on_writable`` is to be :meth:`go_on`.
        session: encrypts.
        queue_bytes_max: what waits before senders wait.
        life: marked while a write takes time.
        metrics: counts bytes and messages.
        under_way: how many messages wait for answers, of either side.
        on_empty: called whenever all is written.
        on_error: called with what ended the writing: the session, or the connection.
    """

    __slots__ = (
        "_closed",
        "_credit",
        "_in_hand",
        "_life",
        "_metrics",
        "_on_empty",
        "_on_error",
        "_ping",
        "_pong",
        "_queue",
        "_room",
        "_session",
        "_turns",
        "_under_way",
        "_wire",
        "_writing",
    )

    def __init__(
        self,
        wire: Wire,
        session: Session,
        *,
        queue_bytes_max: int,
        life: KeepAlive,
        metrics: Metrics,
        under_way: Callable[[], int],
        on_empty: Callable[[], None],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._wire = wire
        self._session = session
        self._life = life
        self._metrics = metrics
        self._under_way = under_way
        self._on_empty = on_empty
        self._on_error = on_error
        self._room = CreditWindow(queue_bytes_max)
        self._queue = SendQueue()
        self._ping = False
        self._pong: int | None = None
        self._credit = 0
        self._turns = 0  # until what is in the queue is written; 0 if that is not to come by itself
        self._writing = False
        self._in_hand = 0  # bytes of the queue that the system has not taken yet
        self._closed = False

    @property
    def queued_bytes(self) -> int:
        """What waits to be written."""
        return self._queue.size

    def reserve_now(self, size: int) -> bool:
        """As :meth:`reserve`, if there is room; False if not."""
        return self._room.take(size)

    async def reserve(self, size: int, deadline: Deadline | None = None) -> None:
        """Wait for room in the queue, to be used by :meth:`put`; raises CreditClosed when there will be none, and TimeoutError."""
        await take_credit(self._room, size, deadline)

    def unreserve(self, size: int) -> None:
        """Give back what :meth:`reserve` gave."""
        self._room.give(size)

    def put(self, message: Message) -> None:
        """Into the queue, in which room for it was reserved."""
        self._put(message.kind, encode_frame(message))

    def _put(self, kind: Kind, pieces: Sequence[bytes]) -> None:
        self._queue.put(pieces)
        self._metrics.messages_out[kind] += 1
        self.wake()

    def offer(self, message: Message) -> bool:
        """As :meth:`put`, if there is room in the queue; False if not.

        Raises:
            CreditClosed: there will be none.
        """
        pieces = encode_frame(message)
        if not self._room.take(sum(map(len, pieces))):
            return False
        self._put(message.kind, pieces)
        return True

    def put_control(self, message: Message) -> None:
        """Into the queue without waiting for room; for small messages of which there are few."""
        self._room.overdraw(frame_bytes(message.label, message.body))
        self.put(message)

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._ping = True
        self._wake_later()

    def pong(self, number: int) -> None:
        """Give a sign of life; of several that are due only the last is given."""
        self._pong = number
        self._wake_later()

    def give_credit(self, size: int) -> None:
        """Give credit back to the other side; what is due is added up."""
        self._credit += size
        self._wake_later()

    def wake(self) -> None:
        """See to it that what is due is written, or that ``on_empty`` is called."""
        if self._turns or self._writing or self._closed or self._wire.full:
            return
        under_way = self._under_way()
        if under_way > 1:
            self._wake_later(GATHER_TURNS if under_way >= CROWD else 1)
        else:
            self._write()

    def go_on(self) -> None:
        """The system has taken what was written, or the connection broke."""
        self._life.writing_at = None
        in_hand, self._in_hand = self._in_hand, 0
        if in_hand:
            self._room.give(in_hand)
        if not (self._turns or self._writing or self._closed):
            self._write()

    def close(self) -> None:
        """Write nothing more; refuse all who wait for room and all who will ask."""
        self._closed = True
        self._room.close()

    def _wake_later(self, turns: int = 1) -> None:
        """As :meth:`wake`, together with what is due until then."""
        if not (self._turns or self._writing or self._wire.full or self._closed):
            self._turns = turns
            soon(self._turn)

    def _turn(self) -> None:
        self._turns -= 1
        if self._turns:
            soon(self._turn)
        elif not (self._wire.full or self._closed):
            self._write()

    def _write(self) -> None:
        self._writing = True
        try:
            while not (self._wire.full or self._closed):
                self._put_due_control()
                piece = self._queue.take(WRITE_BYTES)
                sealed = self._session.seal(piece)
                if not sealed:
                    break
                taken = self._wire.write(sealed)
                self._metrics.bytes_out += len(sealed)
                if taken:
                    self._room.give(len(piece))
                else:
                    self._in_hand, self._life.writing_at = len(piece), now_s()
        except (RemoteProtocolError, *GONE) as error:
            self._on_error(error)
            return
        finally:
            self._writing = False
        if not (self._wire.full or self._closed):
            self._on_empty()

    def _put_due_control(self) -> None:
        if self._ping:
            self._ping = False
            self.put_control(Message(Kind.PING))
        if self._pong is not None:
            self.put_control(Message(Kind.PONG, self._pong))
            self._pong = None
        if self._credit:
            self.put_control(Message(Kind.CREDIT, self._credit))
            self._credit = 0
