"""The reading half of a connection: bytes from the socket to messages, counted among what the node holds."""

from __future__ import annotations

from typing import Final

from anyio.lowlevel import checkpoint

from fluvial_transport_tcp.framing import FrameHead, Kind, Message
from fluvial_transport_tcp.handshake import Link
from fluvial_transport_tcp.intake import IntakeShare
from fluvial_transport_tcp.keepalive import KeepAlive
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.pacing import ReadingPace
from fluvial_transport_tcp.waiting import keep_pace, make_room

READ_BYTES: Final = 262_144
"""What the event loop reads at once at most; asking for less would make it copy."""
DECRYPT_BYTES: Final = 65_536
"""Handed to TLS at once; OpenSSL keeps buffers of this size for as long as the connection stands."""
MESSAGES_AT_ONCE: Final = 32
"""Taken one after the other before other connections get their turn."""
WORK: Final = frozenset({Kind.REQUEST, Kind.ONE_WAY})
"""Kinds of messages that are held until they have been handled."""
_ANSWERS: Final = frozenset({Kind.ANSWER, Kind.ERROR})


class FrameReader:
    """Yields the other side's messages.

    Args:
        link: where from.
        share: long frames are counted there while they arrive; those of ``WORK`` until whoever gets the message gives it back.
        life: marked while a frame is incomplete and while this side does not read.
        metrics: counts bytes and messages.
        pace: how fast this side reads.
    """

    def __init__(self, link: Link, *, share: IntakeShare, life: KeepAlive, metrics: Metrics, pace: ReadingPace) -> None:
        self._stream = link.stream
        self._session = link.session
        self._decoder = link.decoder
        self._share = share
        self._life = life
        self._metrics = metrics
        self._pace = pace
        self._received = memoryview(b"")  # read from the socket, not decrypted yet
        self._frames = 0
        self._in_a_row = 0

    def ready_message(self) -> Message | None:
        """The next message if all of it is here; None if :meth:`next_message` is to be asked. It is short, and not counted."""
        if self._in_a_row >= MESSAGES_AT_ONCE or (message := self._decoder.next_message()) is None:
            return None
        self._in_a_row += 1
        self._metrics.messages_in[message.kind] += 1
        return message

    async def next_message(self) -> tuple[Message, int]:
        """The next message, and what of the share is counted for it.

        Raises:
            RemoteProtocolError: the bytes are no frame, or no TLS.
            OSError, anyio's errors of streams: the connection broke.
        """
        if self._in_a_row >= MESSAGES_AT_ONCE:
            self._in_a_row = 0
            await checkpoint()
        while (message := self.ready_message()) is None:
            if (head := self._decoder.head) is not None:
                return await self._rest_of_message(head)
            await self._more()
        return message, 0

    async def _rest_of_message(self, head: FrameHead) -> tuple[Message, int]:
        """A message of which only a part is here; there is room for all of it before more of it is read."""
        size, counted = head.frame_bytes, 0
        await make_room(self._share, size, solicited=head.kind in _ANSWERS, life=self._life)
        self._frames += 1
        self._life.frame = self._frames
        try:
            while (message := self._decoder.next_message()) is None:
                await self._more()
            counted = size if message.kind in WORK else 0
        except BaseException:
            self._decoder.discard()  # at once: whoever still refers to this connection must not hold on to megabytes
            self._received = memoryview(b"")
            raise
        finally:
            self._life.frame = 0
            self._share.give(size - counted)
        self._metrics.messages_in[message.kind] += 1
        return message, counted

    async def _more(self) -> None:
        """Feed the decoder with at least one byte."""
        while not (data := self._session.read()):
            if not self._received:
                self._in_a_row = 0
                chunk = await self._stream.receive(READ_BYTES)
                self._life.heard = True
                self._metrics.bytes_in += len(chunk)
                if self._pace.spend(len(chunk)):
                    await keep_pace(self._pace, self._share, life=self._life)
                if len(chunk) <= DECRYPT_BYTES:
                    self._session.feed(chunk)
                    continue
                self._received = memoryview(chunk)
            self._session.feed(self._received[:DECRYPT_BYTES])
            self._received = self._received[DECRYPT_BYTES:]
        self._decoder.feed(data)
