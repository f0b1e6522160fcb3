"""A process that writes until it is killed: says on stdout what was acknowledged, one line each, and nothing before.

Usage: ``python journalist.py URL FOLDER``
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
from fluvial.identity import KeyPair
from fluvial.particle import Particle
from fluvial.storage import JournalEntry, Store, open_store

WRITERS = 4


async def write_journal(store: Store, number: int) -> None:
    """One particle, and entries for it until the end of the process."""
    keys = KeyPair.from_secret(number.to_bytes(32, "big"))
    particle = Particle.create(
        keys, "(null)", particle_id=f"p{number}", timestamp_ms=0, ttl_ms=1000, max_hops=1, network="test"
    )
    await store.particles.admit(particle, sender=keys.peer_id, hops=1, now_ms=0)
    seq = 0
    while True:
        entries = [JournalEntry(seq + i, 0, "batch", b"%d/%d" % (number, seq + i)) for i in range(1 + seq % 3)]
        await store.particles.record(particle.key, now_ms=0, entries=entries, peers=[keys.peer_id])
        seq += len(entries)
        print(particle.key.hex(), seq, flush=True)


async def main(url: str, folder: str) -> None:
    async with open_store(url, base_dir=Path(folder)) as store, anyio.create_task_group() as tasks:
        for number in range(1, WRITERS + 1):
            tasks.start_soon(write_journal, store, number)


anyio.run(main, sys.argv[1], sys.argv[2])
