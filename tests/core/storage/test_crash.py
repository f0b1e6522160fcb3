"""``kill -9`` in the middle of writing: what was acknowledged is there, and nothing is there by half."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

from fluvial.particle import ParticleKey
from fluvial.storage import open_store

SEED = 8
JOURNALIST = Path(__file__).with_name("journalist.py")


def write_until_killed(url: str, folder: Path, lines: int) -> dict[ParticleKey, int]:
    """Run the writing process and kill it after it has said so many lines; returns the entries acknowledged per particle."""
    acknowledged: dict[ParticleKey, int] = {}
    with subprocess.Popen([sys.executable, JOURNALIST, url, folder], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        said += process.stdout.readlines()
    for line in said:
        if line.endswith("\n"):  # the last one may be cut
            key, count = line.split()
            acknowledged[ParticleKey(bytes.fromhex(key))] = int(count)
    return acknowledged


async def test_every_acknowledged_entry_survives_a_kill(url: str, tmp_path: Path) -> None:
    acknowledged = write_until_killed(url, tmp_path, random.Random(SEED).randint(10, 100))
    async with open_store(url, base_dir=tmp_path) as store:
        assert acknowledged
        assert set(acknowledged) <= set(await store.particles.live(0))
        for key in await store.particles.live(0):
            stored = await store.particles.load(key)
            assert stored is not None
            number = stored.particle.id.removeprefix("p")
            assert len(stored.journal) >= acknowledged.get(key, 0)
            assert [entry.seq for entry in stored.journal] == list(range(len(stored.journal)))
            assert [entry.payload for entry in stored.journal] == [
                f"{number}/{seq}".encode() for seq in range(len(stored.journal))
            ]
            assert bool(stored.outbox) == bool(stored.journal), "entries and outbox are one transaction"
