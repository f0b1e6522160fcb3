"""Bytes over one TCP connection: in order, none lost, and no more of them held than was agreed."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest
from fluvial.testing.transport import WAIT_S
from fluvial_transport_tcp.wire import BUFFERED_BYTES_MAX, READ_BYTES, Wire

RESET = b"\1\0\0\0\0\0\0\0"


@asynccontextmanager
async def wires() -> AsyncIterator[tuple[Wire, socket.socket]]:
    """A wire and the socket at its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        wire = await Wire.connect("127.0.0.1", listener.getsockname()[1])
        other, _ = listener.accept()
        other.setblocking(False)
        try:
            with other, anyio.fail_after(WAIT_S):
                yield wire, other
        finally:
            wire.close()


async def test_bytes_arrive_in_order_and_as_much_at_once_as_wanted() -> None:
    async with wires() as (wire, other):
        other.send(b"hello, world")
        assert await wire.receive(5) == b"hello"
        assert await wire.receive() == b", world"
        await wire.send(b"and back")
        await anyio.wait_readable(other)
        assert other.recv(100) == b"and back"


async def test_a_cancelled_receive_loses_nothing() -> None:
    async with wires() as (wire, other):
        for number in range(20):
            async with anyio.create_task_group() as group:
                group.start_soon(wire.receive)
                await anyio.lowlevel.checkpoint()
                if number % 2:
                    await anyio.sleep(0.001)
                group.cancel_scope.cancel()
        other.send(b"still here")
        with anyio.move_on_after(0):
            await wire.receive()
        assert await wire.receive() == b"still here"


async def test_what_is_not_taken_is_not_read() -> None:
    """A sender of 8 MB fills this side's buffer and those of the system; then it has to wait."""
    async with wires() as (wire, other):
        data, sent = bytes(2**23), 0
        for _ in range(100):
            with anyio.move_on_after(0.01):
                await anyio.wait_writable(other)
                sent += other.send(data[sent : sent + 65_536])
        await anyio.sleep(0.05)
        assert wire.buffered < BUFFERED_BYTES_MAX + READ_BYTES
        taken = 0
        while taken < sent:
            taken += len(await wire.receive())
        assert taken == sent


async def test_a_sender_waits_until_the_other_side_reads() -> None:
    async with wires() as (wire, other):
        sent = False

        async def send_all() -> None:
            nonlocal sent
            await wire.send(bytes(2**24))
            sent = True

        async with anyio.create_task_group() as group:
            group.start_soon(send_all)
            await anyio.sleep(0.05)
            assert not sent
            received = 0
            while received < 2**24:
                await anyio.wait_readable(other)
                received += len(other.recv(2**20))
        assert sent


async def test_what_came_before_the_end_can_still_be_read_and_answered() -> None:
    async with wires() as (wire, other):
        other.send(b"last words")
        other.shutdown(socket.SHUT_WR)
        await anyio.sleep(0.01)
        assert await wire.receive() == b"last words"
        with pytest.raises(anyio.EndOfStream):
            await wire.receive()
        await wire.send(b"heard")
        await anyio.wait_readable(other)
        assert other.recv(100) == b"heard"


async def test_a_reset_is_told_to_reader_and_writer() -> None:
    async with wires() as (wire, other):
        other.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        other.close()
        with pytest.raises(anyio.BrokenResourceError):
            await wire.receive()
        with pytest.raises(anyio.BrokenResourceError):
            await wire.send(b"?")


@pytest.mark.parametrize("waits", ["receive", "send"])
async def test_closing_wakes_whoever_waits(waits: str) -> None:
    async with wires() as (wire, _), anyio.create_task_group() as group:

        async def wait() -> None:
            with pytest.raises(anyio.ClosedResourceError):
                await (wire.receive() if waits == "receive" else wire.send(bytes(2**24)))

        group.start_soon(wait)
        await anyio.sleep(0.01)
        wire.close()


async def test_nobody_listening_is_an_error_of_the_system() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await Wire.connect("127.0.0.1", port)


async def test_a_socket_that_is_reset_before_it_becomes_a_wire_has_no_remote_host() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as dialler:
            accepted, _ = listener.accept()
            dialler.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        wire = await Wire.accepted(accepted)
        assert wire.remote_host is None
        with pytest.raises(anyio.BrokenResourceError):
            await wire.receive()
        wire.close()
