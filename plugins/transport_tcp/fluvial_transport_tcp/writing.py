"""The writing half of a connection: a bounded queue of frames, encrypted piece by piece."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from anyio.lowlevel import checkpoint
from fluvial.waiting import Event, now_s

from fluvial_transport_tcp.closing import Closing, ConnectionPhase
from fluvial_transport_tcp.credit import CreditWindow
from fluvial_transport_tcp.framing import Kind, Message, SendQueue, frame_bytes
from fluvial_transport_tcp.handshake import Link
from fluvial_transport_tcp.keepalive import KeepAlive
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.waiting import take_credit

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
        link: where to.
        queue_bytes_max: what waits before senders wait.
        life: marked while a write takes time.
        metrics: counts bytes and messages.
    """

    def __init__(self, link: Link, *, queue_bytes_max: int, life: KeepAlive, metrics: Metrics) -> None:
        self._stream = link.stream
        self._session = link.session
        self._life = life
        self._metrics = metrics
        self._room = CreditWindow(queue_bytes_max)
        self._queue = SendQueue()
        self._wake = Event()
        self._ping = False
        self._pong: int | None = None
        self._credit = 0

    @property
    def queued_bytes(self) -> int:
        """What waits to be written."""
        return self._queue.size

    def reserve_now(self, size: int) -> bool:
        """As :meth:`reserve`, if there is room; False if not."""
        return self._room.take(size)

    async def reserve(self, size: int) -> None:
        """Wait for room in the queue, to be used by :meth:`put`; raises CreditClosed when there will be none."""
        await take_credit(self._room, size)

    def unreserve(self, size: int) -> None:
        """Give back what :meth:`reserve` gave."""
        self._room.give(size)

    def put(self, message: Message) -> None:
        """Into the queue, in which room for it was reserved."""
        self._queue.put(message)
        self._metrics.messages_out[message.kind] += 1
        self._wake.set()

    def put_control(self, message: Message) -> None:
        """Into the queue without waiting for room; for small messages of which there are few."""
        self._room.overdraw(frame_bytes(message.label, message.body))
        self.put(message)

    def ping(self) -> None:
        """Ask for a sign of life."""
        self._ping = True
        self._wake.set()

    def pong(self, number: int) -> None:
        """Give a sign of life; of several that are due only the last is given."""
        self._pong = number
        self._wake.set()

    def give_credit(self, size: int) -> None:
        """Give credit back to the other side; what is due is added up."""
        self._credit += size
        self._wake.set()

    def wake(self) -> None:
        """Look whether writing is over; see :meth:`run`."""
        self._wake.set()

    def close(self) -> None:
        """Refuse all who wait for room and all who will ask; :meth:`run` returns."""
        self._room.close()
        self._wake.set()

    async def run(self, closing: Closing, under_way: Callable[[], int]) -> None:
        """Write until the queue is empty and both sides have said goodbye, or until the connection is cut.

        Args:
            closing: the phases of the connection.
            under_way: how many messages wait for answers, of either side.

        Raises:
            RemoteProtocolError: the other side has ended the session.
            OSError, anyio's errors of streams: the connection broke.
        """
        while closing.phase is not ConnectionPhase.ENDED:
            self._put_due_control()
            piece = self._queue.take(WRITE_BYTES)
            sealed = self._session.seal(piece)
            if sealed:
                self._life.writing_at = now_s()
                await self._stream.send(sealed)
                self._life.writing_at = None
                self._metrics.bytes_out += len(sealed)
                self._room.give(len(piece))
            elif closing.phase is ConnectionPhase.DONE:
                return
            else:
                self._wake = Event()
                await self._wake.wait()
                if under_way() >= CROWD:
                    for _ in range(GATHER_TURNS):
                        await checkpoint()

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
