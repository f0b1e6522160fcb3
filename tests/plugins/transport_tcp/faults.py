"""A wire between two peers that breaks where a test wants it to: at any TLS record, in either direction, in three ways."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal

import anyio

Direction = Literal["to the listener", "to the dialler"]
Break = Literal["close", "reset", "half-close"]
DIRECTIONS: tuple[Direction, ...] = ("to the listener", "to the dialler")
BREAKS: tuple[Break, ...] = ("close", "reset", "half-close")
RECORD_HEADER_BYTES = 5


@dataclass(frozen=True)
class Fault:
    """Break the wire when this much of a record has passed.

    Attributes:
        direction: of the record.
        record: which one in its direction, from 0.
        share: how much of it passes: 0 nothing, 1 all of it.
        how: both ends are closed, both are reset, or only the receiver sees an end of what it receives.
    """

    direction: Direction
    record: int
    share: float
    how: Break


@dataclass
class Wire:
    """A listening port that leads to another one; ``records`` counts what has passed."""

    port: int
    target: int
    fault: Fault | None
    records: dict[Direction, int] = field(default_factory=lambda: dict.fromkeys(DIRECTIONS, 0))
    broken: anyio.Event = field(default_factory=anyio.Event)

    async def serve(self, listener: socket.socket) -> None:
        """Pass on one connection until it ends or breaks."""
        await anyio.wait_readable(listener)
        dialler, _ = listener.accept()
        with dialler, socket.create_connection(("127.0.0.1", self.target)) as onward:
            for end in (dialler, onward):
                end.setblocking(False)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with anyio.create_task_group() as group:
                group.start_soon(self._pass, "to the listener", dialler, onward, group.cancel_scope)
                group.start_soon(self._pass, "to the dialler", onward, dialler, group.cancel_scope)

    async def _pass(
        self, direction: Direction, source: socket.socket, sink: socket.socket, scope: anyio.CancelScope
    ) -> None:
        waiting = bytearray()
        with suppress(OSError):
            while True:
                await anyio.wait_readable(source)
                if not (data := source.recv(65_536)):
                    sink.shutdown(socket.SHUT_WR)
                    return
                waiting += data
                while (size := record_bytes(waiting)) and len(waiting) >= size:
                    fault = self.fault
                    if fault and (fault.direction, fault.record) == (direction, self.records[direction]):
                        # In one go: the receiver's loop finds the last bytes and the end together.
                        sink.send(waiting[: round(size * fault.share)])
                        self._break(fault.how, source, sink)
                        if fault.how != "half-close":
                            scope.cancel()
                        return
                    await send(sink, bytes(waiting[:size]))
                    del waiting[:size]
                    self.records[direction] += 1

    def _break(self, how: Break, source: socket.socket, sink: socket.socket) -> None:
        self.broken.set()
        if how == "half-close":  # the other direction goes on until somebody ends it
            sink.shutdown(socket.SHUT_WR)
            return
        if how == "reset":
            for end in (source, sink):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        source.close()
        sink.close()


def record_bytes(data: bytes | bytearray) -> int:
    """The size of the TLS record that begins here with its header; 0 if the header is not complete."""
    if len(data) < RECORD_HEADER_BYTES:
        return 0
    return RECORD_HEADER_BYTES + int.from_bytes(data[3:5], "big")


async def send(sink: socket.socket, data: bytes) -> None:
    while data:
        await anyio.wait_writable(sink)
        data = data[sink.send(data) :]


@asynccontextmanager
async def wire(target: int, fault: Fault | None) -> AsyncIterator[Wire]:
    """A wire to a port of this machine, for one connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        made = Wire(listener.getsockname()[1], target, fault)
        async with anyio.create_task_group() as group:
            group.start_soon(made.serve, listener)
            yield made
            group.cancel_scope.cancel()
