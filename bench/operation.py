"""How a peer that has been at work for long compares with a new one: while it purges, and with much in memory, database, and connections.

Every case is a pair in one run: ``fluvial run`` twice, one peer with the load and one without, measured in turns of a second while the other one
is stopped (SIGSTOP). So what the machine does besides falls on both, and the ratios are what counts:

- *purge*: flows of a client one after the other, on a peer that removes a backlog of particles that died long ago. Wanted: p50 at most 1.5 times.
- *purge, full load*: 64 flows at once on that peer alone; the backlog has to shrink.
- *rows*: the same flows on a peer whose database has many rows that are kept.
- *live particles*: on a peer whose memory has many particles that wait.
- *connections*: on a peer with so many idle connections.
The three of these also tell how long the peers take to end after SIGTERM.

- *steps*: what a step of a flow of 400 calls costs, next to one of a flow of 40; where many calls are written together, and where each is.

CPU is the peer's for each flow; the pairs differ most where something is looked through that grows. Usage:
``python bench/operation.py [--json] [--seconds S] [--backlog ROWS] [--rows ROWS] [--live N] [--connections N] [--only CASE …]``
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any, Final

import anyio
import structlog
from anyio import to_thread
from fluvial.addresses import Contact
from fluvial.client import Client, connect
from fluvial.clock import SystemClock
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Delivery, Particle, encode_delivery
from fluvial.particles.receipt import PROTOCOL, Receipt, decode_receipt, encode_receipt
from fluvial.services.builtin import PING_PROTOCOL
from fluvial.testing.closed import closed_context
from fluvial.testing.ports import WeightsTrust
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.transport import TcpTransport
from sqlalchemy import create_engine, text

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench.particles import Nobody, cpu_s, flow
from tests.support.postgres import find_binaries, running_server
from tests.support.processes import NETWORK, PeerProcess

ENTRIES: Final = 4
"""Rows of the journal for each row of a particle."""
DAY_MS: Final = 86_400_000
AT_ONCE: Final = 64
WARM_UP: Final = 30
STEPS: Final = (40, 400)
PLUGIN: Final = """
from fluvial import hookimpl
from fluvial.effectors import Effector, NoConfig, function


class Steps(Effector[NoConfig]):
    service_id = "steps"

    @function
    async def add(self, number: int) -> int:
        return number + 1


@hookimpl
def fluvial_register(registry):
    registry.effector("steps", Steps)
"""
CALLS: Final = {"together": '("op" "identity")', "each written": '("steps" "add")'}
STORAGE: Final[dict[str, Any]] = {"bytes_max": 2**33, "keep_bytes_max": 2**31}
"""Room for all of the rows: else those that are kept would go by size."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One line of the table: a flow without and with the load, and how many times as much the latter is."""

    database: str
    what: str
    without: float
    loaded: float
    unit: str

    @property
    def ratio(self) -> float:
        """Loaded by unloaded."""
        return self.loaded / self.without if self.without else float("nan")


class Measured:
    """A peer, and the flows that were run through it.

    Args:
        peer: running.
        client: of that peer.
    """

    def __init__(self, peer: PeerProcess, client: Client) -> None:
        self.peer = peer
        self.client = client
        self.times: list[float] = []
        self.cpu: list[float] = []

    async def flows(self, seconds: float) -> None:
        """One flow after the other for a time."""
        before, count, end = cpu_s(self.peer.pid) or 0.0, len(self.times), time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            await flow(self.client, 0)
            self.times.append(time.perf_counter() - began)
        self.cpu.append(((cpu_s(self.peer.pid) or 0.0) - before) / (len(self.times) - count) * 1000)

    @property
    def p50_ms(self) -> float:
        """Median of all flows."""
        return statistics.median(self.times) * 1000

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """The process does nothing meanwhile."""
        os.kill(self.peer.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.peer.pid, signal.SIGCONT)


async def in_turns(plain: Measured, loaded: Measured, turns: int) -> None:
    """A second of each while the other one is stopped."""
    for one in (plain, loaded):
        for _ in range(WARM_UP):
            await flow(one.client, 0)
    for _ in range(turns):
        for one, other in ((plain, loaded), (loaded, plain)):
            with other.stopped():
                await one.flows(1.0)


def pairs(database: str, what: str, plain: Measured, loaded: Measured) -> list[Pair]:
    return [
        Pair(database, f"{what}: p50 of a flow", plain.p50_ms, loaded.p50_ms, "ms"),
        Pair(database, f"{what}: CPU of a flow", statistics.median(plain.cpu), statistics.median(loaded.cpu), "ms"),
    ]


@asynccontextmanager
async def stranger(to: PeerProcess) -> AsyncIterator[TcpTransport]:
    """The transport of somebody who is connected to a peer, and takes whatever comes."""
    log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(40)
    )
    context = closed_context("bench", keys=KeyPair.generate(), network=NETWORK, log=log, trust=WeightsTrust())
    transport = TcpTransport(context, Options())

    async def take(sender: PeerId, protocol: str, payload: bytes) -> bytes:
        return encode_receipt(Receipt())

    async with anyio.create_task_group() as tasks:
        await tasks.start(transport.run, take, Nobody())
        await transport.request(Contact.configured(to.address), PING_PROTOCOL, b"", timeout_s=30)
        yield transport
        tasks.cancel_scope.cancel()


# --- rows


def grow(url: str, rows: int, *, age_ms: int) -> None:
    """Repeat the particle that a database has, until there are so many rows of particles and journal, so long dead, from one day."""
    count = rows // (1 + ENTRIES)
    each_ms = DAY_MS // count
    columns = "id, header, signature, script_hash, received_at_ms, sender, hops, state, revision, initiator, bytes"
    if url.startswith("sqlite"):
        numbers = f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count})"
        key = "randomblob(32)"
        four = (
            f"(WITH RECURSIVE m(s) AS (SELECT 0 UNION ALL SELECT s + 1 FROM m WHERE s < {ENTRIES - 1}) SELECT s FROM m)"
        )
    else:
        numbers = f"WITH n AS (SELECT generate_series(1, {count}) AS i)"
        key = "sha256(i::text::bytea)"
        four = f"(SELECT generate_series(0, {ENTRIES - 1}) AS s)"
    engine = create_engine(url)
    with engine.begin() as connection:
        one = "(SELECT * FROM particles WHERE entries > 0 LIMIT 1)"
        connection.execute(
            text(
                f"INSERT INTO particles (key, deadline_ms, entries, {columns}) {numbers} "
                f"SELECT {key}, deadline_ms - {age_ms} - {each_ms} * ({count} - i), {ENTRIES}, {columns} FROM {one} AS one, n"
            )
        )
        connection.execute(
            text(
                "INSERT INTO journal (key, seq, at_ms, kind, payload) "
                "SELECT p.key, four.s, j.at_ms, j.kind, j.payload FROM particles AS p, "
                f"{four} AS four, (SELECT * FROM journal LIMIT 1) AS j "
                "WHERE NOT EXISTS (SELECT 1 FROM journal AS there WHERE there.key = p.key)"
            )
        )
    with engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text("ANALYZE"))
    engine.dispose()


def count_particles(url: str) -> int:
    """How many particles a database has."""
    engine = create_engine(url)
    with engine.connect() as connection:
        count = int(connection.execute(text("SELECT count(*) FROM particles")).scalar_one())
    engine.dispose()
    return count


# --- cases


class Bench:
    """What all cases share.

    Args:
        folder: for the peers.
        database: its name.
        urls: makes the URL of an empty database from a name.
        options: of the command line.
    """

    def __init__(self, folder: Path, database: str, urls: Callable[[Path], str], options: argparse.Namespace) -> None:
        self._folder = folder
        self._database = database
        self._urls = urls
        self._options = options
        self._count = 0

    async def purge(self) -> list[Pair]:
        """The backlog of a peer that starts."""
        async with self._two({"keep_ms": 3_600_000}, rows=self._options.backlog, age_ms=DAY_MS) as (plain, loaded):
            url = self._urls(loaded.peer.folder)
            before = count_particles(url)
            await in_turns(plain, loaded, self._options.seconds)
            left = count_particles(url)
            if not left:
                raise SystemExit("the backlog was gone before the flows were measured: give a larger --backlog")
            found = [*pairs(self._database, "purge", plain, loaded)]
            found.append(Pair(self._database, "purge: particles in the backlog", before, left, ""))
            with plain.stopped():
                began, done = time.perf_counter(), 0
                async with anyio.create_task_group() as tasks:

                    async def work() -> None:
                        nonlocal done
                        while time.perf_counter() < began + self._options.seconds:
                            await flow(loaded.client, 0)
                            done += 1

                    for _ in range(AT_ONCE):
                        tasks.start_soon(work)
            # Each of the flows leaves a row that is kept.
            found.append(
                Pair(self._database, f"purge, {done} flows, {AT_ONCE} at once", left, count_particles(url) - done, "")
            )
            return found

    async def rows(self) -> list[Pair]:
        """Rows that are kept."""
        async with self._two({"keep_ms": 3 * DAY_MS}, rows=self._options.rows, age_ms=DAY_MS) as (plain, loaded):
            await in_turns(plain, loaded, self._options.seconds)
            what = f"{self._options.rows:,} rows"
            return [*pairs(self._database, what, plain, loaded), await self._stops(what, plain, loaded)]

    async def live(self) -> list[Pair]:
        """Particles that wait for their initiator."""
        many = {"particles": {"live_max": 2 * self._options.live, "node_memory_bytes_max": 2**30}}
        async with self._two({}, **many) as (plain, loaded), stranger(loaded.peer) as transport:
            await _fill(transport, loaded.peer, self._options.live)
            await in_turns(plain, loaded, self._options.seconds)
            what = f"{self._options.live:,} live particles"
            return [*pairs(self._database, what, plain, loaded), await self._stops(what, plain, loaded)]

    async def connections(self) -> list[Pair]:
        """Connections of peers that say nothing."""
        async with AsyncExitStack() as stack:
            plain, loaded = await stack.enter_async_context(self._two({}))
            for _ in range(self._options.connections):
                await stack.enter_async_context(stranger(loaded.peer))
            await in_turns(plain, loaded, self._options.seconds)
            what = f"{self._options.connections} connections"
            return [*pairs(self._database, what, plain, loaded), await self._stops(what, plain, loaded)]

    async def steps(self) -> list[Pair]:
        """Flows with few and with many steps, on one peer."""
        async with self._two({}, plugins={"steps": PLUGIN}, effectors={"steps": {}}) as (plain, _):
            costs: dict[tuple[str, int], list[float]] = {}
            for _ in range(max(2, int(self._options.seconds))):
                for (name, call), count in product(CALLS.items(), STEPS):
                    cost = await _steps(plain, count, call, repeated=4 * max(STEPS) // count)
                    costs.setdefault((name, count), []).append(cost)
            return [
                Pair(
                    self._database,
                    f"CPU of one of {STEPS[0]} and of {STEPS[1]} steps, {name}",
                    *(min(costs[name, count]) for count in STEPS),
                    "ms",
                )
                for name in CALLS
            ]

    @asynccontextmanager
    async def _two(
        self, storage: dict[str, Any], *, rows: int = 0, age_ms: int = 0, **sections: Any
    ) -> AsyncIterator[tuple[Measured, Measured]]:
        """Two peers that are alike, with clients; the second one's database has so many rows more."""
        self._count += 1
        async with AsyncExitStack() as stack:
            made: list[Measured] = []
            for name, more in (("plain", 0), ("loaded", rows)):
                folder = self._folder / f"{self._count}-{name}"
                url = self._urls(folder)
                keeping = {**STORAGE, **storage, "url": url}
                peer = PeerProcess(folder, os.environ, storage=keeping, **sections)
                (folder / "state").mkdir()
                if more:
                    peer.start()
                    async with connect(peer.address, network=NETWORK) as client:
                        await flow(client, 0)
                    peer.stop()
                    grow(url, more, age_ms=age_ms)
                peer.start()
                stack.callback(peer.close)
                made.append(Measured(peer, await stack.enter_async_context(connect(peer.address, network=NETWORK))))
            yield made[0], made[1]

    async def _stops(self, what: str, plain: Measured, loaded: Measured) -> Pair:
        """How long the two take to end after SIGTERM."""
        return Pair(self._database, f"{what}: stop", await _stop_s(plain.peer), await _stop_s(loaded.peer), "s")


async def _stop_s(peer: PeerProcess) -> float:
    began = time.perf_counter()
    if code := await to_thread.run_sync(peer.stop):
        raise SystemExit(f"the peer ended with {code}: see peer_exit_forced in its log")
    return time.perf_counter() - began


async def _fill(transport: TcpTransport, peer: PeerProcess, count: int) -> None:
    """Hand over so many particles that wait at the peer for the rest of their lives."""
    keys = KeyPair.generate()
    script = f'(seq (call %init_peer_id% ("a" "b") [] x) (call "{peer.peer_id}" ("op" "identity") [x]))'
    contact = Contact.configured(peer.address)
    numbers = iter(range(count))

    async def hand_over() -> None:
        for number in numbers:
            particle = Particle.create(
                keys,
                script,
                particle_id=f"waits {number}",
                timestamp_ms=SystemClock().now_ms(),
                ttl_ms=120_000,
                max_hops=4,
                network=NETWORK,
            )
            delivery = Delivery(peer.peer_id.public_key, 1, particle.header, particle.signature, particle.script, b"")
            payload = encode_delivery(delivery)
            receipt = decode_receipt(await transport.request(contact, PROTOCOL, payload, timeout_s=30))
            if not receipt.settled:
                raise SystemExit(f"the peer refuses: {receipt}")

    async with anyio.create_task_group() as tasks:
        for _ in range(AT_ONCE):
            tasks.start_soon(hand_over)


async def _steps(measured: Measured, count: int, call: str, *, repeated: int) -> float:
    """The peer's CPU in ms for each step of flows with so many."""
    calls = [
        f'(call "{measured.peer.peer_id}" {call} [{f"v{number - 1}" if number else 0}] v{number})'
        for number in range(count)
    ]
    script = f'(call %init_peer_id% ("return" "") [v{count - 1}])'
    for one in reversed(calls):
        script = f"(seq {one} {script})"
    before = cpu_s(measured.peer.pid) or 0.0
    for _ in range(repeated):
        async with measured.client.run(script) as running:
            await running.result()
    return ((cpu_s(measured.peer.pid) or 0.0) - before) / repeated / count * 1000


CASES: Final = ("purge", "rows", "live", "connections", "steps")


@contextmanager
def databases(folder: Path) -> Iterator[dict[str, Callable[[Path], str]]]:
    """Makers of URLs of new databases, by the name of what they are of."""
    with ExitStack() as stack:
        found: dict[str, Callable[[Path], str]] = {"SQLite": lambda home: f"sqlite:///{home / 'state' / 'fluvial.db'}"}
        if (binaries := find_binaries()) is not None:
            server = stack.enter_context(running_server(binaries, durable=True))
            urls: dict[Path, str] = {}

            def url(home: Path) -> str:
                if home not in urls:
                    urls[home] = stack.enter_context(server.database())
                return urls[home]

            found["PostgreSQL"] = url
        yield found


def table(found: Sequence[Pair]) -> str:
    lines = []
    for one in found:
        values = (f"{value:,.2f} {one.unit}" if one.unit else f"{value:,.0f}" for value in (one.without, one.loaded))
        without, loaded = values
        lines.append(f"{one.database:<11} {one.what:<44} {without:>10} {loaded:>10} {one.ratio:>6.2f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object per line instead of a table")
    parser.add_argument("--seconds", type=int, default=2, help="seconds of each measurement")
    parser.add_argument("--backlog", type=int, default=50_000, help="rows that are to be purged")
    parser.add_argument("--rows", type=int, default=100_000, help="rows that are kept")
    parser.add_argument("--live", type=int, default=2_000, help="particles that wait")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--only", action="append", choices=CASES, default=[], help="one case; repeatable")
    parser.add_argument("--database", action="append", choices=("SQLite", "PostgreSQL"), default=[], help="repeatable")
    options = parser.parse_args()
    if not options.json:
        print(f"{'':<11} {'':<44} {'without':>10} {'with':>10} {'times':>6}")
    with tempfile.TemporaryDirectory() as name, databases(Path(name)) as urls:
        for database, maker in urls.items():
            if options.database and database not in options.database:
                continue
            home = Path(name) / database
            home.mkdir()
            bench = Bench(home, database, maker, options)
            # What is not in the database is the same over all of them.
            cases = [case for case in options.only or CASES if database == "SQLite" or case in ("purge", "rows")]
            for case in cases:
                found = anyio.run(getattr(bench, case))
                print(
                    "\n".join(json.dumps({**asdict(one), "ratio": one.ratio}) for one in found)
                    if options.json
                    else table(found),
                    flush=True,
                )


if __name__ == "__main__":
    main()
