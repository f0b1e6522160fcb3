"""How many acknowledged journal records per second the store takes: one caller after the other, and many at once.

Usage: ``python bench/storage.py [--json] [--seconds S] [--url URL …]``

Without ``--url``: SQLite in memory, SQLite in a file, and a private PostgreSQL server (if one is installed) that syncs to disk, too.
Every record is one journal entry of 200 bytes and returns after its COMMIT. ``fsync`` is what the disk does for comparison: appending
4 KiB to a file and syncing it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio
from fluvial.identity import KeyPair
from fluvial.particle import Particle, ParticleKey
from fluvial.storage import JournalEntry, Store, open_store

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.postgres import find_binaries, running_server

PAYLOAD = bytes(200)
WRITERS = 64


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    database: str
    what: str
    per_second: float


async def records_per_second(store: Store, writers: int, seconds: float) -> float:
    """Acknowledged records per second of so many concurrent callers, each with a particle of its own."""
    keys = KeyPair.generate()
    done = 0

    async def write(key: ParticleKey) -> None:
        nonlocal done
        seq = 0
        while time.perf_counter() < end:
            await store.particles.record(key, now_ms=0, entries=[JournalEntry(seq, 0, "batch", PAYLOAD)])
            seq += 1
            done += 1

    particles = [
        Particle.create(keys, "(null)", particle_id=f"{n}", timestamp_ms=0, ttl_ms=0, max_hops=1, network=f"{writers}")
        for n in range(writers)
    ]
    for particle in particles:
        await store.particles.admit(particle, sender=keys.peer_id, hops=1, now_ms=0)
    start = time.perf_counter()
    end = start + seconds
    async with anyio.create_task_group() as tasks:
        for particle in particles:
            tasks.start_soon(write, particle.key)
    return done / (time.perf_counter() - start)


async def reads_per_second(store: Store, seconds: float) -> float:
    """Status queries per second of one caller."""
    key = (await store.particles.recent(1))[0].key
    done, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        await store.particles.status(key)
        done += 1
    return done / (time.perf_counter() - start)


async def measure(name: str, url: str, folder: Path, seconds: float) -> list[Figure]:
    """The figures of one database."""
    async with open_store(url, base_dir=folder) as store:
        return [
            Figure(name, "records, 1 writer", await records_per_second(store, 1, seconds)),
            Figure(name, f"records, {WRITERS} writers", await records_per_second(store, WRITERS, seconds)),
            Figure(name, "status reads, 1 reader", await reads_per_second(store, seconds / 2)),
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
    parser.add_argument("--url", action="append", default=[], help="measure this empty database instead; repeatable")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, databases(options.url) as found:
        folder = Path(name)
        figures = [Figure("disk", "fsync of 4 KiB", syncs_per_second(folder, options.seconds / 2))]
        for database, url in found.items():
            figures += anyio.run(measure, database, url, folder, options.seconds)
    for figure in figures:
        if options.json:
            print(json.dumps(asdict(figure)))
        else:
            print(f"{figure.database:<18} {figure.what:<24} {figure.per_second:>10,.0f} /s")


if __name__ == "__main__":
    main()
