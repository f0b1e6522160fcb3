"""How many acknowledged journal records per second the store takes: one caller after the other, many at once, and while it is purged.

Usage: ``python bench/storage.py [--json] [--seconds S] [--backlog N] [--url URL …]``

Without ``--url``: SQLite in memory, SQLite in a file, and a private PostgreSQL server (if one is installed) that syncs to disk, too.
Every record is one journal entry of 200 bytes and returns after its COMMIT. CPU is this process's, for each record: what the store costs beside
waiting for the disk. The purge finds a backlog of dead particles with four entries each. ``fsync`` is what the disk does for comparison:
appending 4 KiB to a file and syncing it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio
import structlog
from fluvial.identity import KeyPair
from fluvial.particle import Particle, ParticleKey
from fluvial.storage import JournalEntry, Store, open_store
from fluvial.storage.purge import Purge

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.postgres import find_binaries, running_server

PAYLOAD = bytes(200)
WRITERS = 64
WRITERS_PURGED = 8
DEAD_ENTRIES = 4
DEAD_MS = 10**9
KEYS = KeyPair.generate()


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table; times of one operation."""

    database: str
    what: str
    per_second: float
    p50_ms: float | None = None
    cpu_us: float | None = None


def particles_named(name: str, count: int, *, timestamp_ms: int) -> list[Particle]:
    return [
        Particle.create(
            KEYS, "(null)", particle_id=f"{n}", timestamp_ms=timestamp_ms, ttl_ms=0, max_hops=1, network=name
        )
        for n in range(count)
    ]


async def records(database: str, what: str, store: Store, writers: int, seconds: float) -> Figure:
    """Acknowledged records of so many concurrent callers, each with a particle of its own."""
    times: list[float] = []

    async def write(key: ParticleKey) -> None:
        seq = 0
        while (began := time.perf_counter()) < end:
            await store.particles.record(key, now_ms=0, entries=[JournalEntry(seq, 0, "batch", PAYLOAD)])
            times.append(time.perf_counter() - began)
            seq += 1

    particles = particles_named(what, writers, timestamp_ms=2 * DEAD_MS)
    for particle in particles:
        await store.particles.admit(particle, sender=KEYS.peer_id, hops=1, now_ms=0)
    start, cpu = time.perf_counter(), time.process_time()
    end = start + seconds
    async with anyio.create_task_group() as tasks:
        for particle in particles:
            tasks.start_soon(write, particle.key)
    done, took = len(times), time.perf_counter() - start
    return Figure(database, what, done / took, statistics.median(times) * 1e3, (time.process_time() - cpu) / done * 1e6)


async def reads(database: str, store: Store, seconds: float) -> Figure:
    """Status queries of one caller."""
    key = (await store.particles.recent(1))[0].key
    times: list[float] = []
    start, cpu = time.perf_counter(), time.process_time()
    while (began := time.perf_counter()) < start + seconds:
        await store.particles.status(key)
        times.append(time.perf_counter() - began)
    done, took = len(times), time.perf_counter() - start
    cpu_us = (time.process_time() - cpu) / done * 1e6
    return Figure(database, "status reads, 1 reader", done / took, statistics.median(times) * 1e3, cpu_us)


async def purged(database: str, store: Store, backlog: int, seconds: float) -> list[Figure]:
    """Records without and with a purge beside them, and the purge."""
    entries = [JournalEntry(seq, 0, "batch", PAYLOAD) for seq in range(DEAD_ENTRIES)]
    limit = anyio.CapacityLimiter(WRITERS)

    async def admit(particle: Particle) -> None:
        async with limit:
            await store.particles.admit(particle, sender=KEYS.peer_id, hops=1, now_ms=0, entries=entries)

    async with anyio.create_task_group() as tasks:
        for particle in particles_named("dead", backlog, timestamp_ms=0):
            tasks.start_soon(admit, particle)
    what = f"records, {WRITERS_PURGED} writers"
    figures = [await records(database, f"{what}, alone", store, WRITERS_PURGED, seconds)]
    retention, log = store.particles.retention, structlog.get_logger()
    purge = Purge(
        retention, now_ms=lambda: DEAD_MS, keep_ms=0, keep_bytes=2**50, skew_ms=0, gone=lambda _: None, log=log
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(purge.run)
        figures.append(await records(database, f"{what}, purged", store, WRITERS_PURGED, seconds))
        tasks.cancel_scope.cancel()
    left = sum(summary.deadline_ms < DEAD_MS for summary in await store.particles.recent(10**9))
    return [*figures, Figure(database, f"particles purged of {backlog:,}", (backlog - left) / seconds)]


async def measure(name: str, url: str, folder: Path, seconds: float, backlog: int) -> list[Figure]:
    """The figures of one database."""
    async with open_store(url, base_dir=folder) as store:
        return [
            await records(name, "records, 1 writer", store, 1, seconds),
            await records(name, f"records, {WRITERS} writers", store, WRITERS, seconds),
            await reads(name, store, seconds / 2),
            *await purged(name, store, backlog, seconds),
        ]


def syncs_per_second(folder: Path, seconds: float) -> float:
    """What the disk gives: appends of 4 KiB, each synced."""
    done, start = 0, time.perf_counter()
    with (folder / "fsync").open("wb", buffering=0) as file:
        while time.perf_counter() < start + seconds:
            file.write(bytes(4096))
            os.fsync(file.fileno())
            done += 1
    return done / (time.perf_counter() - start)


@contextmanager
def databases(urls: list[str]) -> Iterator[dict[str, str]]:
    """Names and URLs of what to measure."""
    with ExitStack() as stack:
        if urls:
            yield {url.partition("://")[0]: url for url in urls}
            return
        found = {"SQLite in memory": "sqlite://", "SQLite": "sqlite:///bench.db"}
        if (binaries := find_binaries()) is not None:
            server = stack.enter_context(running_server(binaries, durable=True))
            found["PostgreSQL"] = stack.enter_context(server.database())
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object per line instead of a table")
    parser.add_argument("--seconds", type=float, default=2.0, help="duration of each measurement")
    parser.add_argument("--backlog", type=int, default=5000, help="dead particles for the purge")
    parser.add_argument("--url", action="append", default=[], help="measure this empty database instead; repeatable")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, databases(options.url) as found:
        folder = Path(name)
        figures = [Figure("disk", "fsync of 4 KiB", syncs_per_second(folder, options.seconds / 2))]
        for database, url in found.items():
            figures += anyio.run(measure, database, url, folder, options.seconds, options.backlog)
    if options.json:
        print("\n".join(json.dumps(asdict(figure)) for figure in figures))
        return
    print(f"{'':<18} {'':<30} {'per second':>10} {'p50 ms':>8} {'CPU µs':>8}")
    for one in figures:
        p50, cpu = (f"{'' if value is None else f'{value:,.2f}':>8}" for value in (one.p50_ms, one.cpu_us))
        print(f"{one.database:<18} {one.what:<30} {one.per_second:>10,.0f} {p50} {cpu}")


if __name__ == "__main__":
    main()
