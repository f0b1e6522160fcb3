"""A TCP connection as the transport uses it: bytes in and out, with back-pressure both ways.

The only module that uses asyncio directly. ``anyio.SocketStream`` passes through the event loop once more for every send, and tells the
selector twice for every receive; that was a fifth of what a request costs. The contract is the same: one reader and one writer at a
time, the errors of anyio's streams, and nothing is lost by a cancelled ``receive``.

A handshake waits for bytes with :meth:`Wire.receive` and :meth:`Wire.send`. A connection that stands has no task to wait: it is called when there
is something to :meth:`Wire.take`, and when the system has taken what was left of a :meth:`Wire.write`; see :meth:`Wire.attend`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Final, cast

import anyio

READ_BYTES: Final = 65_536
"""Read at once at most. asyncio would read four times as much, and of a thousand connections whose turn it is not each keeps what was read."""
BUFFERED_BYTES_MAX: Final = 16_384
"""Received and not taken; with more than that no more is read, so at most one read lies above it."""
_CONNECTING: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR})


class Wire(asyncio.BufferedProtocol):
    """One end of a TCP connection; made by :meth:`accepted` and :meth:`connect`."""

    __slots__ = (
        "_broken",
        "_closed",
        "_data",
        "_ended",
        "_error",
        "_full",
        "_on_readable",
        "_on_writable",
        "_paused",
        "_reader",
        "_room",
        "_transport",
        "_writer",
        "remote_host",
    )

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._data = bytearray()  # received and not taken
        self._room = bytearray()  # for what is being read
        self._on_readable: Callable[[], None] | None = None
        self._on_writable: Callable[[], None] | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._paused = False  # this side does not read
        self._full = False  # the other side does not read
        self._ended = False  # nothing more will be received
        self._broken = False  # nothing more can be sent
        self._closed = False  # by this side
        self._error: Exception | None = None
        self.remote_host: str | None = None

    @classmethod
    async def accepted(cls, sock: socket.socket) -> Wire:
        """The wire of a socket that was accepted, which it owns from now on; raises OSError."""
        try:
            _prepare(sock)
            _, wire = await asyncio.get_running_loop().connect_accepted_socket(cls, sock)
        except BaseException:
            sock.close()
            raise
        return wire

    @classmethod
    async def connect(cls, host: str, port: int) -> Wire:
        """A wire to a numeric host; raises OSError."""
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            _prepare(sock)
            code = sock.connect_ex((host, port))
            if code in _CONNECTING:
                await anyio.wait_writable(sock)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
            _, wire = await asyncio.get_running_loop().create_connection(cls, sock=sock)
        except BaseException:
            sock.close()
            raise
        return wire

    @property
    def buffered(self) -> int:
        """Bytes that have been received and not taken."""
        return len(self._data)

    @property
    def full(self) -> bool:
        """Whether the system has not taken all of what was written."""
        return self._full

    def attend(self, on_readable: Callable[[], None], on_writable: Callable[[], None]) -> None:
        """From now on nobody waits in :meth:`receive` or :meth:`send`.

        Args:
            on_readable: called when there may be something to :meth:`take`, or its end.
            on_writable: called when the system has taken what was left of a :meth:`write`, or will never do so.
        """
        self._on_readable, self._on_writable = on_readable, on_writable

    def detach(self) -> None:
        """Call nobody any more."""
        self._on_readable = self._on_writable = None

    def take(self, max_bytes: int) -> bytearray:
        """The next bytes, at most ``max_bytes``; empty if none are here now.

        Raises:
            EndOfStream, BrokenResourceError, ClosedResourceError: there will be none, as for :meth:`receive`.
        """
        if not self._data:
            if self._ended:
                raise anyio.EndOfStream if self._error is None and not self._closed else self._failure()
            return bytearray()
        taken = self._data
        self._data = taken[max_bytes:]
        del taken[max_bytes:]
        if self._paused and len(self._data) < BUFFERED_BYTES_MAX:
            self._paused = False
            self._transport.resume_reading()
        return taken

    def write(self, data: bytes) -> bool:
        """Hand bytes to the system; whether it has taken them all.

        Raises:
            BrokenResourceError: the connection broke.
            ClosedResourceError: this side has closed it.
        """
        if self._broken:
            raise self._failure()
        self._transport.write(data)
        return not self._full

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """The next bytes, at most ``max_bytes``; whatever has arrived, without going through the event loop if something has.

        Raises:
            EndOfStream: the other side sends no more.
            BrokenResourceError: the connection broke.
            ClosedResourceError: this side has closed it.
        """
        while not (data := self.take(max_bytes)):
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        return bytes(data)

    async def send(self, item: bytes) -> None:
        """Hand bytes to the system; waits as long as it does not take them all.

        A cancelled ``send`` has handed over all of its bytes; they leave if the wire is not closed.

        Raises:
            BrokenResourceError: the connection broke.
            ClosedResourceError: this side has closed it.
        """
        taken = self.write(item)
        while not taken:
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None
            if self._broken:
                raise self._failure()
            taken = not self._full

    async def send_eof(self) -> None:
        """Say that no more will be sent."""
        self._transport.write_eof()

    def close(self) -> None:
        """Close it at once, without waiting for anything; what the system has not taken is dropped."""
        self._closed = self._ended = self._broken = True
        self._transport.abort()
        self._wake()

    def _failure(self) -> Exception:
        failure = anyio.ClosedResourceError() if self._closed else anyio.BrokenResourceError()
        failure.__cause__ = self._error
        return failure

    def _readable(self) -> None:
        if self._on_readable is not None:
            self._on_readable()
        elif self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _writable(self) -> None:
        if self._on_writable is not None:
            self._on_writable()
        elif self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    def _wake(self) -> None:
        self._readable()
        self._writable()

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The wire stands; its remote host may already be gone."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(0)
        if (address := transport.get_extra_info("peername")) is not None:
            self.remote_host = str(address[0])

    def get_buffer(self, sizehint: int) -> bytearray:
        """Bytes may have come: where to put them."""
        self._room = bytearray(READ_BYTES)
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes came."""
        data, self._room = self._room, bytearray()
        del data[nbytes:]
        if self._data:
            self._data += data
        else:
            self._data = data
        if len(self._data) >= BUFFERED_BYTES_MAX and not self._paused:
            self._paused = True
            self._transport.pause_reading()
        self._readable()

    def eof_received(self) -> bool:
        """The other side sends no more; what this side sends may still arrive."""
        self._ended = True
        self._readable()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is no more."""
        self._error = exc
        self._ended = self._broken = True
        self._wake()

    def pause_writing(self) -> None:
        """The system has not taken all."""
        self._full = True

    def resume_writing(self) -> None:
        """The system has taken all."""
        self._full = False
        self._writable()


def _prepare(sock: socket.socket) -> None:
    """As asyncio wants it, and without waiting for more to send (asyncio sees to that only where it has made the socket)."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
