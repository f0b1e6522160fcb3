"""A TCP connection as the transport uses it: bytes in and out, with back-pressure both ways.

The only module that uses asyncio directly. ``anyio.SocketStream`` passes through the event loop once more for every send, and tells the
selector twice for every receive; that was a fifth of what a request costs. The contract is the same: one reader and one writer at a
time, the errors of anyio's streams, and nothing is lost by a cancelled ``receive``.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections import deque
from typing import Final, cast

import anyio

BUFFERED_BYTES_MAX: Final = 65_536
"""Received and not taken; with more than that no more is read, so at most one read of asyncio's (256 KiB) lies above it."""
_CONNECTING: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR})


class Wire(asyncio.Protocol):
    """One end of a TCP connection; made by :meth:`accepted` and :meth:`connect`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._chunks: deque[bytes] = deque()
        self._buffered = 0
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
        return self._buffered

    async def receive(self, max_bytes: int = 65_536) -> bytes:
        """The next bytes, at most ``max_bytes``; whatever has arrived, without going through the event loop if something has.

        Raises:
            EndOfStream: the other side sends no more.
            BrokenResourceError: the connection broke.
            ClosedResourceError: this side has closed it.
        """
        while not self._chunks:
            if self._ended:
                raise anyio.EndOfStream if self._error is None and not self._closed else self._failure()
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        chunk = self._chunks.popleft()
        if len(chunk) > max_bytes:
            self._chunks.appendleft(chunk[max_bytes:])
            chunk = chunk[:max_bytes]
        self._buffered -= len(chunk)
        if self._paused and self._buffered < BUFFERED_BYTES_MAX:
            self._paused = False
            self._transport.resume_reading()
        return chunk

    async def send(self, item: bytes) -> None:
        """Hand bytes to the system; waits as long as it does not take them all.

        A cancelled ``send`` has handed over all of its bytes; they leave if the wire is not closed.

        Raises:
            BrokenResourceError: the connection broke.
            ClosedResourceError: this side has closed it.
        """
        while True:
            if self._broken:
                raise self._failure()
            if item:
                self._transport.write(item)
                item = b""
            if not self._full:
                return
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None

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

    def _wake(self) -> None:
        for waiting in (self._reader, self._writer):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    # --- what asyncio calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The wire stands; its remote host may already be gone."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(0)
        if (address := transport.get_extra_info("peername")) is not None:
            self.remote_host = str(address[0])

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        self._chunks.append(data)
        self._buffered += len(data)
        if self._buffered >= BUFFERED_BYTES_MAX:
            self._paused = True
            self._transport.pause_reading()
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def eof_received(self) -> bool:
        """The other side sends no more; what this side sends may still arrive."""
        self._ended = True
        self._wake()
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
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)


def _prepare(sock: socket.socket) -> None:
    """As asyncio wants it, and without waiting for more to send (asyncio sees to that only where it has made the socket)."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
