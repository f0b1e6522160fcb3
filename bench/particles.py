"""How many particles go through one peer: ``fluvial run`` in a process of its own, SQLite on disk, the real channel between.

Every particle comes from outside, makes one call of ``op.identity`` on the peer and goes back. Three cases:

- *flows, one at a time*: a client runs one flow after the other; what a user waits for a result.
- *flows, many at once*: the same client runs many; client and peer share the machine.
- *particles, many at once*: a sender that does nothing but sign, send and take back; what the peer alone can do.

At last by how much the peer's process grows with each particle that waits on it, for an answer that its sender never gives.

CPU is the peer's per particle, the steadier figure on a machine that has other things to do. Usage:
``python bench/particles.py [--json] [--seconds S] [--loop KIND] [--profile FILE]``; takes about 25 seconds. ``--loop uvloop`` has the peer
run in another event loop. ``--profile`` has it write a profile for ``python -m pstats`` and slows it down.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import structlog
from fluvial.addresses import Address, Contact
from fluvial.client import Client, connect
from fluvial.clock import SystemClock
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Delivery, Particle, decode_delivery, encode_delivery
from fluvial.particles.receipt import PROTOCOL, Receipt, decode_receipt, encode_receipt
from fluvial.testing.closed import closed_context
from fluvial.testing.ports import WeightsTrust
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.transport import TcpTransport

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.processes import NETWORK, PeerProcess

AT_ONCE: Final = 64
WARM_UP: Final = 20
TTL_MS: Final = 60_000
ANSWER_S: Final = 30.0
WAITING: Final = 3_000
"""Particles that wait on the peer while its memory is looked at."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; times in milliseconds."""

    what: str
    per_second: float
    p50_ms: float
    p95_ms: float
    peer_cpu_ms: float | None


class Nobody:
    """A watcher that does not look."""

    def peer_connected(self, contact: Contact) -> None:
        """Of the watcher."""

    def peer_disconnected(self, peer: PeerId) -> None:
        """Of the watcher."""

    def address_proven(self, peer: PeerId, address: Address) -> None:
        """Of the watcher."""


class Sender:
    """Hands particles to a peer and hears when they come back."""

    def __init__(self, peer: Contact, keys: KeyPair, transport: TcpTransport) -> None:
        self._peer = peer
        self._keys = keys
        self._transport = transport
        self._back: dict[str, anyio.Event] = {}
        there, back = f'(call "{peer.peer}" ("op" "identity")', '(call %init_peer_id% ("return" "") [y]'
        self._script = f'(seq {there} ["x"] y) {back}))'
        self._waiting = f'(seq {there} ["x"] y) (seq {back} z) {there} [z])))'

    async def round_trip(self, number: int, *, waiting: bool = False) -> None:
        """One particle there and back; ``waiting``, it is not over on the peer then."""
        particle = Particle.create(
            self._keys,
            self._waiting if waiting else self._script,
            particle_id=f"p{number}",
            timestamp_ms=SystemClock().now_ms(),
            ttl_ms=TTL_MS,
            max_hops=4,
            network=NETWORK,
        )
        to = self._peer.peer.public_key
        delivery = Delivery(to, 1, particle.header, particle.signature, particle.script, b"")
        back = self._back[particle.id] = anyio.Event()
        payload = encode_delivery(delivery)
        receipt = decode_receipt(await self._transport.request(self._peer, PROTOCOL, payload, timeout_s=ANSWER_S))
        if not receipt.settled:
            raise SystemExit(f"the peer refuses: {receipt}")
        with anyio.fail_after(ANSWER_S):
            await back.wait()
        del self._back[particle.id]

    async def receive(self, sender: PeerId, protocol: str, payload: bytes) -> bytes:
        """Called by the transport."""
        if (back := self._back.get(decode_delivery(payload).header.id)) is not None:
            back.set()
        return encode_receipt(Receipt())


@asynccontextmanager
async def sending(to: Contact) -> AsyncIterator[Sender]:
    keys = KeyPair.generate()
    silent = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(40)
    )
    context = closed_context("bench", keys=keys, network=NETWORK, log=silent, trust=WeightsTrust())
    transport = TcpTransport(context, Options())
    sender = Sender(to, keys, transport)
    async with anyio.create_task_group() as tasks:
        await tasks.start(transport.run, sender.receive, Nobody())
        yield sender
        tasks.cancel_scope.cancel()


async def flow(client: Client, number: int) -> None:
    """One flow of a client to its relay and back."""
    script = f'(seq (call "{client.relay_id}" ("op" "identity") ["x"] y) (call %init_peer_id% ("return" "") [y]))'
    async with client.run(script) as run:
        await run.result()


# --- measuring


def cpu_s(pid: int) -> float | None:
    """CPU seconds of a process so far, where the system tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def measure(what: str, once: Callable[[int], Awaitable[None]], at_once: int, seconds: float, pid: int) -> Figure:
    """Do something over and over, so many at once."""
    for number in range(WARM_UP):
        await once(-1 - number)
    times: list[float] = []
    numbers = iter(range(sys.maxsize))
    cpu, start = cpu_s(pid), time.perf_counter()

    async def work() -> None:
        while time.perf_counter() < start + seconds:
            began = time.perf_counter()
            await once(next(numbers))
            times.append(time.perf_counter() - began)

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(work)
    took, cpu_after = time.perf_counter() - start, cpu_s(pid)
    quantiles = statistics.quantiles(times, n=20)
    return Figure(
        what,
        round(len(times) / took, 1),
        round(statistics.median(times) * 1000, 2),
        round(quantiles[18] * 1000, 2),
        None if cpu is None or cpu_after is None else round((cpu_after - cpu) / len(times) * 1000, 2),
    )


def memory_bytes(pid: int) -> int | None:
    """Memory of a process that is there now, where the system tells."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


async def waiting_bytes(sender: Sender, pid: int) -> int | None:
    """Memory that one particle takes which waits on the peer, in bytes."""

    async def some(first: int, last: int) -> None:
        for number in range(first, last):
            await sender.round_trip(number, waiting=True)

    async def hand_over(first: int, last: int) -> None:
        part = (last - first) // AT_ONCE
        async with anyio.create_task_group() as tasks:
            for begin in range(first, last, part):
                tasks.start_soon(some, begin, begin + part)

    begin = 10**9
    await hand_over(begin, begin + WAITING // 3 // AT_ONCE * AT_ONCE)  # whatever grows with the first ones
    before, number = memory_bytes(pid), WAITING // AT_ONCE * AT_ONCE
    await hand_over(begin + WAITING, begin + WAITING + number)
    after = memory_bytes(pid)
    return None if before is None or after is None else (after - before) // number


async def figures(peer: PeerProcess, pid: int, seconds: float) -> tuple[list[Figure], int | None]:
    found = []
    async with connect(peer.address, network=NETWORK) as client:
        for what, at_once in (("flows, one at a time", 1), (f"flows, {AT_ONCE} at once", AT_ONCE)):
            found.append(await measure(what, lambda number: flow(client, number), at_once, seconds, pid))
    async with sending(Contact.configured(peer.address)) as sender:
        found.append(await measure(f"particles, {AT_ONCE} at once", sender.round_trip, AT_ONCE, seconds, pid))
        return found, await waiting_bytes(sender, pid)


@contextmanager
def running(folder: Path, loop: str, profile: Path | None) -> Iterator[tuple[PeerProcess, int]]:
    """The peer, and the id of its process."""
    peer = PeerProcess(folder / "peer", {**os.environ, "FLUVIAL_EVENT_LOOP": loop})
    peer.start(*(() if profile is None else ("-m", "cProfile", "-o", str(profile.absolute()))))
    try:
        yield peer, peer.pid
    finally:
        peer.stop()


def table(found: list[Figure]) -> str:
    rows: list[tuple[Any, ...]] = [("", "per second", "p50 ms", "p95 ms", "peer's CPU ms each")]
    rows += [(one.what, one.per_second, one.p50_ms, one.p95_ms, one.peer_cpu_ms or "?") for one in found]
    return "\n".join(f"{row[0]:<26} {row[1]:>10} {row[2]:>8} {row[3]:>8} {row[4]:>19}" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object per line instead of a table")
    parser.add_argument("--seconds", type=float, default=4.0, help="duration of each case")
    parser.add_argument("--loop", default="asyncio", help="the peer's event loop: asyncio or uvloop")
    parser.add_argument("--profile", type=Path, help="have the peer write its profile to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running(Path(name), options.loop, options.profile) as (peer, pid):
        found, waiting = anyio.run(figures, peer, pid, options.seconds)
    if options.json:
        print("\n".join(json.dumps(asdict(one)) for one in found))
        print(json.dumps({"what": "a waiting particle", "bytes": waiting}))
    else:
        print(f"{table(found)}\na particle that waits: {'?' if waiting is None else f'{waiting:,}'} bytes")


if __name__ == "__main__":
    main()
