"""What the TCP transport does on this machine, between two real processes on loopback.

Round trips per second over the authenticated channel beside a raw anyio TCP echo of the same run and requests through a NATS server, time to
connect, and memory per idle connection. ``--json`` prints the figures for machines. Takes about 50 seconds; ``--quick`` a quarter of that.

Nothing of it is durable. Fluvial encrypts, and both sides have proven their keys; the raw echo does neither; NATS neither as well, in its default
configuration, and its server stands between the two processes (its CPU is not counted). NATS is left out unless ``nats-server`` (Debian) and
``nats-py`` (PyPI) are installed.

The figures depend on the machine and on what else it does: compare only those of one run, best by CPU per round trip.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import structlog
from anyio.abc import ByteStream, SocketAttribute, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream
from fluvial.addresses import Address, Contact
from fluvial.identity import KeyPair, PeerId
from fluvial.testing.closed import closed_context
from fluvial.testing.ports import WeightsTrust
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.secure import Credentials
from fluvial_transport_tcp.transport import TcpTransport

SIZES = (64, 1024, 16_384)
IN_FLIGHT = (1, 64)
SECONDS_PER_CASE = 2.0
CONNECTS = 200
IDLE_CONNECTIONS = 500
DEADLINE_S = 90
Ask = Callable[[bytes], Awaitable[Any]]


class Nobody:
    """A watcher that does not look."""

    def peer_connected(self, contact: Contact) -> None:
        """Of the watcher."""

    def peer_disconnected(self, peer: PeerId) -> None:
        """Of the watcher."""

    def address_proven(self, peer: PeerId, address: Address) -> None:
        """Of the watcher."""


async def echo(sender: PeerId, protocol: str, payload: bytes) -> bytes:
    return payload


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[TcpTransport]:
    log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(40)
    )
    context = closed_context("bench", network="bench", log=log, trust=WeightsTrust())
    transport = TcpTransport(context, Options(connections_max=2 * IDLE_CONNECTIONS, unvouched_bytes_per_s=0, **options))
    async with anyio.create_task_group() as group:
        await group.start(transport.run, echo, Nobody())
        yield transport
        group.cancel_scope.cancel()


# --- the other process ------------------------------------------------------------------------------------------------


async def serve(nats_url: str) -> None:
    """All echoes, until standard input ends; a line there is answered with this process's CPU time and memory."""
    async with (
        running(listen=("/ip4/127.0.0.1/tcp/0",)) as transport,
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        nats_client(nats_url) as nats,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, serve_raw)
        if nats is not None:

            async def answer(message: Any) -> None:
                await message.respond(message.data)

            await nats.subscribe("echo", cb=answer)
        print(json.dumps([str(transport.addresses[0]), listener.extra(SocketAttribute.local_port)]), flush=True)
        while await anyio.to_thread.run_sync(sys.stdin.readline):
            print(json.dumps([time.process_time(), resident_kb()]), flush=True)
        group.cancel_scope.cancel()


@asynccontextmanager
async def nats_client(url: str) -> AsyncIterator[Any]:
    """A client of a NATS server; None without one."""
    if not url:
        yield None
        return
    import nats

    client = await nats.connect(url)
    try:
        yield client
    finally:
        await client.close()


async def serve_raw(stream: ByteStream) -> None:
    buffered = BufferedByteReceiveStream(stream)
    with suppress(anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            head = await buffered.receive_exactly(4)
            await stream.send(head + await buffered.receive_exactly(struct.unpack(">I", head)[0]))


class Server:
    """The other process."""

    def __init__(self, nats_url: str) -> None:
        command = [sys.executable, __file__, "--serve", "--nats", nats_url]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        address, self.raw_port = self._line()
        self.contact = Contact.configured(address)

    def usage(self) -> tuple[float, int]:
        """CPU seconds and resident kilobytes."""
        assert self._process.stdin
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        cpu, rss = self._line()
        return cpu, rss

    def stop(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(10)

    def _line(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())


@contextmanager
def nats_server() -> Iterator[str]:
    """The address of a NATS server; empty if there is none on this machine."""
    program = shutil.which("nats-server") or shutil.which("/usr/sbin/nats-server")
    if program is None or importlib.util.find_spec("nats") is None:
        print("without NATS: nats-server (Debian) and nats-py (PyPI) are not both installed", file=sys.stderr)
        yield ""
        return
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen([program, "-a", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield f"nats://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def resident_kb() -> int:
    """Memory that this process holds now; where the system does not tell, the most it ever held."""
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# --- measurements -----------------------------------------------------------------------------------------------------


async def round_trips(server: Server, ask: Ask, size: int, in_flight: int, seconds: float) -> dict[str, float]:
    """As many as go in a time."""
    payload, done = bytes(size), 0
    await ask(payload)
    server_cpu, _ = server.usage()
    began, cpu = time.perf_counter(), time.process_time()
    end = began + seconds

    async def work() -> None:
        nonlocal done
        while time.perf_counter() < end:
            await ask(payload)
            done += 1

    async with anyio.create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(work)
    wall, client_cpu = time.perf_counter() - began, time.process_time() - cpu
    both_cpu = client_cpu + server.usage()[0] - server_cpu
    return {"per_s": round(done / wall), "cpu_us": round(1e6 * both_cpu / done, 1)}


async def raw_round_trips(server: Server, size: int, in_flight: int, seconds: float) -> dict[str, float]:
    """The same over plain TCP: one connection, frames answered in order."""
    async with await anyio.connect_tcp("127.0.0.1", server.raw_port) as stream:
        buffered, sending, receiving = BufferedByteReceiveStream(stream), anyio.Lock(), anyio.Lock()

        async def ask(payload: bytes) -> None:
            async with sending:
                await stream.send(struct.pack(">I", len(payload)) + payload)
            async with receiving:
                await buffered.receive_exactly(4 + len(payload))

        return await round_trips(server, ask, size, in_flight, seconds)


async def connects(server: Server, count: int) -> dict[str, float]:
    """TCP, TLS and hello to a first answer, one after the other."""
    async with running() as transport:

        async def once() -> None:
            await transport.request(server.contact, "bench", b"", timeout_s=10)
            await transport.disconnect(server.contact.peer)

        await once()
        server_cpu, _ = server.usage()
        began, cpu = time.perf_counter(), time.process_time()
        for _ in range(count):
            await once()
        wall, client_cpu = time.perf_counter() - began, time.process_time() - cpu
        both_cpu = client_cpu + server.usage()[0] - server_cpu
    return {"wall_ms": round(1e3 * wall / count, 2), "cpu_ms": round(1e3 * both_cpu / count, 2)}


def bare_handshake_cpu_ms(count: int) -> float:
    """The TLS handshake alone, both ends, without a network: what OpenSSL takes of the time to connect."""
    one, other = (Credentials(KeyPair.generate(), "bench") for _ in range(2))
    began = time.process_time()
    for _ in range(count):
        client, server = one.dial(other.peer_id), other.accept()
        for here, there in ((client, server), (server, client), (client, server), (server, client)):
            here.handshake()
            there.feed(here.outgoing())
    return round(1e3 * (time.process_time() - began) / count, 2)


async def idle_memory(server: Server, count: int) -> dict[str, float]:
    """Growth of the server's memory per connection that stands and does nothing; each comes from a peer of its own."""
    stop, at_once = anyio.Event(), anyio.CapacityLimiter(8)

    async def client(*, task_status: TaskStatus[None]) -> None:
        async with running() as transport:
            async with at_once:
                await transport.request(server.contact, "bench", b"", timeout_s=30)
            task_status.started()
            await stop.wait()

    _, before_kb = server.usage()
    async with anyio.create_task_group() as clients:
        async with anyio.create_task_group() as starting:
            for _ in range(count):
                starting.start_soon(clients.start, client)
        _, after_kb = server.usage()
        stop.set()
    return {"connections": count, "kb_per_connection": round((after_kb - before_kb) / count, 1)}


async def measure(quick: bool, nats_url: str) -> dict[str, Any]:
    scale = 0.2 if quick else 1.0
    server = Server(nats_url)
    try:
        with anyio.fail_after(DEADLINE_S):
            trips = []
            async with running() as transport, nats_client(nats_url) as nats:

                async def ask(payload: bytes) -> bytes:
                    return await transport.request(server.contact, "bench", payload, timeout_s=10)

                async def ask_nats(payload: bytes) -> None:
                    await nats.request("echo", payload, timeout=10)

                for in_flight in IN_FLIGHT:
                    for size in SIZES:
                        seconds = SECONDS_PER_CASE * scale
                        row: dict[str, Any] = {"size": size, "in_flight": in_flight}
                        row |= {"fluvial": await round_trips(server, ask, size, in_flight, seconds)}
                        row |= {"raw": await raw_round_trips(server, size, in_flight, seconds)}
                        if nats is not None:
                            row |= {"nats": await round_trips(server, ask_nats, size, in_flight, seconds)}
                        trips.append(row)
            connect = await connects(server, round(CONNECTS * scale))
            connect["bare_tls_cpu_ms"] = bare_handshake_cpu_ms(round(CONNECTS * scale))
            memory = await idle_memory(server, round(IDLE_CONNECTIONS * scale))
    finally:
        server.stop()
    return {"round_trips": trips, "connect": connect, "idle": memory}


def table(figures: dict[str, Any]) -> str:
    lines = [
        f"{'round trips':<22}{'fluvial/s':>12}{'CPU µs':>9}{'raw TCP/s':>12}{'CPU µs':>9}{'NATS/s':>12}{'CPU µs':>9}"
    ]
    for row in figures["round_trips"]:
        what = f"{row['size']:>6} B, {row['in_flight']:>2} in flight"
        columns = (row[name] for name in ("fluvial", "raw", "nats") if name in row)
        lines.append(f"{what:<22}" + "".join(f"{one['per_s']:>12}{one['cpu_us']:>9}" for one in columns))
    connect, idle = figures["connect"], figures["idle"]
    lines.append(
        f"connect, request, goodbye: {connect['wall_ms']} ms, {connect['cpu_ms']} ms CPU on both ends together; "
        f"the bare TLS handshake: {connect['bare_tls_cpu_ms']} ms CPU"
    )
    lines.append(f"memory: {idle['kb_per_connection']} KB per idle connection ({idle['connections']} of them)")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="a fifth of the time")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--nats", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        anyio.run(serve, arguments.nats)
        return
    with nats_server() as nats_url:
        figures = anyio.run(measure, arguments.quick, nats_url)
    print(json.dumps(figures, indent=1) if arguments.json else table(figures))


if __name__ == "__main__":
    main()
