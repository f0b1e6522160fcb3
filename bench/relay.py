"""What a relay does on this machine: particles that a peer hands it for one of its clients, three real processes on loopback.

The sender hands over deliveries for the client, 64 under way at the same time: of one particle, as the relay sees those that come by again, or each of
another one, so that the relay has to verify each signature (a flow that goes to a client and back passes its relay twice). The relay (``fluvial run``, as
``fluvial init`` writes it, with the authorization ``signatures``) checks each, hands it over, and answers when the client has. Nothing is stored at a
relay: what it promises is that the client's receipt comes back, so a delivery that fails is the sender's to repeat.

``per core`` is what one core of relays could do: a second, by the relay's CPU for each delivery. It is the steadier figure where the three processes
share two cores. Usage: ``python bench/relay.py [--json] [--seconds S] [--profile FILE]``; takes about 20 seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, Final

import anyio
import structlog
from fluvial.addresses import Address, Contact
from fluvial.clock import SystemClock
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Delivery, Particle, encode_delivery
from fluvial.particles.receipt import PROTOCOL, Receipt, decode_receipt, encode_receipt
from fluvial.seats import Receive
from fluvial.testing.closed import closed_context
from fluvial.testing.ports import WeightsTrust
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.transport import TcpTransport

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.processes import NETWORK, PeerProcess

CASES: Final = ((1, 1), (64, 1), (64, 10_000))
"""Deliveries at once, and of how many particles: of one that is known, or of more than a relay remembers."""
DATA_BYTES: Final = 512
TTL_MS: Final = 120_000
ANSWER_S: Final = 30.0


class Watcher:
    """Waits for the first connection."""

    def __init__(self) -> None:
        self.connected = anyio.Event()

    def peer_connected(self, contact: Contact) -> None:
        """Of the watcher."""
        self.connected.set()

    def peer_disconnected(self, peer: PeerId) -> None:
        """Of the watcher."""

    def address_proven(self, peer: PeerId, address: Address) -> None:
        """Of the watcher."""


@asynccontextmanager
async def connected(relay: Contact, keys: KeyPair, receive: Receive) -> AsyncIterator[TcpTransport]:
    """A client's transport, with a connection to the relay."""
    silent = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(40)
    )
    context = closed_context("bench", keys=keys, network=NETWORK, log=silent, trust=WeightsTrust())
    transport, watcher = TcpTransport(context, Options()), Watcher()
    async with anyio.create_task_group() as tasks:
        await tasks.start(transport.run, receive, watcher)
        transport.keep(relay)
        with anyio.fail_after(ANSWER_S):
            await watcher.connected.wait()
        yield transport
        tasks.cancel_scope.cancel()


async def take(sender: PeerId, protocol: str, payload: bytes) -> bytes:
    return encode_receipt(Receipt())


# --- the client's process ---------------------------------------------------------------------------------------------


async def be_client(relay: str) -> None:
    """Take whatever comes, until standard input ends."""
    keys = KeyPair.generate()
    async with connected(Contact.configured(relay), keys, take):
        print(keys.peer_id, flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)


@contextmanager
def client(relay: str) -> Iterator[PeerId]:
    """A client of a relay in a process of its own."""
    command = [sys.executable, __file__, "--client", relay]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    assert process.stdout
    try:
        yield PeerId(process.stdout.readline().strip())
    finally:
        process.stdin.close()
        process.wait(10)


# --- measuring --------------------------------------------------------------------------------------------------------


def cpu_s(pid: int) -> float:
    """CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def delivery(keys: KeyPair, to: PeerId, number: int) -> bytes:
    """An encoded delivery of a particle for the client."""
    particle = Particle.create(
        keys,
        f'(call "{to}" ("op" "identity") ["x"] y)',
        particle_id=f"relayed {number}",
        timestamp_ms=SystemClock().now_ms(),
        ttl_ms=TTL_MS,
        max_hops=4,
        network=NETWORK,
    )
    return encode_delivery(
        Delivery(to.public_key, 1, particle.header, particle.signature, particle.script, bytes(DATA_BYTES))
    )


async def relayed(relay: str, pid: int, to: PeerId, at_once: int, particles: int, seconds: float) -> dict[str, Any]:
    """Deliveries handed over through the relay as fast as it takes them."""
    keys, there, done = KeyPair.generate(), Contact.configured(relay), 0
    payloads = cycle([delivery(keys, to, number) for number in range(particles)])
    async with connected(there, keys, take) as transport:
        await hand_over(transport, there, next(payloads))
        cpu, began = cpu_s(pid), time.perf_counter()

        async def work() -> None:
            nonlocal done
            while time.perf_counter() < began + seconds:
                await hand_over(transport, there, next(payloads))
                done += 1

        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(work)
        wall, spent = time.perf_counter() - began, cpu_s(pid) - cpu
    each_us = 1e6 * spent / done
    return {
        "at_once": at_once,
        "particles": particles,
        "per_s": round(done / wall),
        "relay_cpu_us": round(each_us, 1),
        "per_core": round(1e6 / each_us),
    }


async def hand_over(transport: TcpTransport, relay: Contact, payload: bytes) -> None:
    receipt = decode_receipt(await transport.request(relay, PROTOCOL, payload, timeout_s=ANSWER_S))
    if not receipt.settled:
        raise SystemExit(f"the relay refuses: {receipt}")


def table(found: list[dict[str, Any]]) -> str:
    lines = [f"{'relayed':<24}{'per second':>12}{'relay CPU µs':>14}{'per core':>10}"]
    for row in found:
        case = f"{row['at_once']} at once, {'known' if row['particles'] == 1 else 'new'}"
        lines.append(f"{case:<24}{row['per_s']:>12}{row['relay_cpu_us']:>14}{row['per_core']:>10}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--seconds", type=float, default=4.0, help="duration of each case")
    parser.add_argument("--profile", type=Path, help="have the relay write its profile to this file, for pstats")
    parser.add_argument("--client", metavar="RELAY", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        anyio.run(be_client, options.client)
        return
    with tempfile.TemporaryDirectory() as name:
        peer = PeerProcess(Path(name) / "relay", dict(os.environ))
        profile = () if options.profile is None else ("-m", "cProfile", "-o", str(options.profile.absolute()))
        peer.start(*profile)
        try:
            with client(str(peer.address)) as to:
                found = [anyio.run(relayed, str(peer.address), peer.pid, to, *case, options.seconds) for case in CASES]
        finally:
            peer.stop()
    print(json.dumps(found, indent=1) if options.json else table(found))


if __name__ == "__main__":
    main()
