"""The reading half of a connection: bytes from the socket to messages, counted among what the node holds."""

from __future__ import annotations

from typing import Final

import anyio

from fluvial_transport_tcp.framing import FrameHead, Kind, Message
from fluvial_transport_tcp.handshake import Link
from fluvial_transport_tcp.intake import IntakeShare
from fluvial_transport_tcp.keepalive import KeepAlive
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.waiting import take_intake

READ_BYTES: Final = 262_144
"""What the event loop reads at once at most; asking for less would make it copy."""
DECRYPT_BYTES: Final = 65_536
"""Handed to TLS at once; OpenSSL keeps buffers of this size for as long as the connection stands."""
MESSAGES_AT_ONCE: Final = 256
"""Taken one after the other before other connections get their turn."""
_ANSWERS: Final = frozenset({Kind.ANSWER, Kind.ERROR})


class FrameReader:
    """Yields the other side's messages.

    Args:
        link: where from.
        share: a message's frame is counted there; whoever gets the message gives it back.
        life: marked while a frame is incomplete and while this side does not read.
        metrics: counts bytes and messages.
    """

    def __init__(self, link: Link, *, share: IntakeShare, life: KeepAlive, metrics: Metrics) -> None:
        self._stream = link.stream
        self._session = link.session
        self._decoder = link.decoder
        self._share = share
        self._life = life
        self._metrics = metrics
        self._received = memoryview(b"")  # read from the socket, not decrypted yet
        self._frames = 0
        self._in_a_row = 0

    async def next_message(self) -> Message:
        """The next message.

        Raises:
            RemoteProtocolError: the bytes are no frame, or no TLS.
            OSError, anyio's errors of streams: the connection broke.
        """
        self._in_a_row += 1
        if self._in_a_row > MESSAGES_AT_ONCE:
            self._in_a_row = 0
            await anyio.lowlevel.checkpoint()
        while (head := self._decoder.head()) is None:
            await self._more()
        await self._make_room(head)
        try:
            message = self._decoder.next_message() or await self._rest_of_message()
        except BaseException:
            self._share.give(head.frame_bytes)
            raise
        self._metrics.messages_in[message.kind] += 1
        return message

    async def _make_room(self, head: FrameHead) -> None:
        solicited = head.kind in _ANSWERS
        if not self._share.take(head.frame_bytes, solicited=solicited):
            with self._life.pause():
                await take_intake(self._share, head.frame_bytes, solicited=solicited)

    async def _rest_of_message(self) -> Message:
        self._frames += 1
        self._life.frame = self._frames
        try:
            while (message := self._decoder.next_message()) is None:
                await self._more()
        finally:
            self._life.frame = 0
        return message

    async def _more(self) -> None:
        """Feed the decoder with at least one byte."""
        while not (data := self._session.read()):
            if not self._received:
                self._in_a_row = 0
                chunk = await self._stream.receive(READ_BYTES)
                self._life.heard = True
                self._metrics.bytes_in += len(chunk)
                self._received = memoryview(chunk)
            self._session.feed(self._received[:DECRYPT_BYTES])
            self._received = self._received[DECRYPT_BYTES:]
        self._decoder.feed(data)
