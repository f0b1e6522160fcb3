"""What a flood of statements by keys without weight does to a peer: memory, storage, and the time of honest questions meanwhile.

Usage: ``python bench/trust_flood.py [--json] [--statements N] [--flooders N]``

The peer is a process of its own, ``fluvial run`` with the settings of ``fluvial init``. Each flooder is one, too: it signs its statements, each by a
fresh key, before it begins, and pushes them in full messages as fast as they are answered. An honest peer asks the whole time: it compares
digests, as peers do every ten seconds. Its questions are timed for some seconds without the flood, then while it lasts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from fluvial.client import Client, connect
from fluvial.errors import FluvialError
from fluvial.identity import KeyPair
from fluvial_trust_graph.gossip.digest import BUCKETS, DIGEST_BYTES
from fluvial_trust_graph.gossip.exchange import DIGESTS, PUSH, PUSHED_MAX, encode_push
from fluvial_trust_graph.statements import TrustStatement, sign_trust

PORT = 17_917
PAUSE_S = 0.01
ALONE_S = 4.0
START_S = 60.0


@dataclass(frozen=True, slots=True)
class FloodFigures:
    """What is printed."""

    pushed: int
    seconds: float
    peer_cpu_s: float
    memory_before_mb: float
    memory_after_mb: float
    database_kb: int
    statements_stored: int
    questions: int
    question_alone_ms: float
    question_in_flood_ms: float
    slower: float


async def flood(address: str, statements: int, seed: int) -> None:
    """One flooder: says ``ready``, waits for a line, pushes, says how long it took."""
    at = int(time.time()) - 10
    subject = KeyPair.from_secret(bytes(32)).peer_id
    made = []
    for number in range(statements):
        keys = KeyPair.from_secret((seed * 10**9 + number + 1).to_bytes(32, "big"))
        one = TrustStatement(
            network="fluvial", issuer=keys.peer_id, subject=subject, issued_at=at, expires_at=at + 10**6
        )
        made.append(sign_trust(one, keys))
    messages = [encode_push(made[first : first + PUSHED_MAX]) for first in range(0, statements, PUSHED_MAX)]
    async with connect(address) as client:
        print("ready", flush=True)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        for message in messages:
            try:
                await client.request(PUSH, message, timeout_s=60)
            except FluvialError:
                continue  # refused: that is the peer's good right
    print("done", flush=True)


async def ask(client: Client, until: anyio.Event) -> list[float]:
    taken = []
    while not until.is_set():
        began = time.perf_counter()
        await client.request(DIGESTS, bytes(BUCKETS * DIGEST_BYTES), timeout_s=60)
        taken.append((time.perf_counter() - began) * 1000)
        await anyio.sleep(PAUSE_S)
    return taken


def start_flooders(address: str, share: int, count: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, __file__, "--flood", address, "--statements", str(share), "--seed"]
    return [
        subprocess.Popen([*command, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for seed in range(count)
    ]


def stored(folder: Path) -> int:
    command = [sys.executable, "-m", "fluvial", "trust", "list", "--json"]
    return len(json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout))


async def measure(address: str, pid: int, folder: Path, statements: int, flooders: int) -> FloodFigures:
    share = statements // flooders
    processes = start_flooders(address, share, flooders)
    for process in processes:
        assert process.stdout is not None
        await anyio.to_thread.run_sync(process.stdout.readline)
    async with connect(address) as client:
        alone, during = await asked_for(client, ALONE_S), anyio.Event()
        before, began, worked = resident_mb(pid), time.perf_counter(), cpu_s(pid)
        taken: list[float] = []

        async def honest() -> None:
            taken.extend(await ask(client, during))

        async with anyio.create_task_group() as group:
            group.start_soon(honest)
            for process in processes:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            for process in processes:
                assert process.stdout is not None
                await anyio.to_thread.run_sync(process.stdout.readline)
            seconds, worked = time.perf_counter() - began, cpu_s(pid) - worked
            during.set()
    for process in processes:
        process.wait(60)
    alone_ms, flood_ms = statistics.median(alone), statistics.median(taken)
    return FloodFigures(
        pushed=share * flooders,
        seconds=round(seconds, 2),
        peer_cpu_s=round(worked, 2),
        memory_before_mb=before,
        memory_after_mb=resident_mb(pid),
        database_kb=sum(file.stat().st_size for file in (folder / "state").iterdir() if file.is_file()) // 1024,
        statements_stored=stored(folder),
        questions=len(taken),
        question_alone_ms=round(alone_ms, 2),
        question_in_flood_ms=round(flood_ms, 2),
        slower=round(flood_ms / alone_ms, 2),
    )


async def asked_for(client: Client, seconds: float) -> list[float]:
    over = anyio.Event()
    taken: list[float] = []

    async def work() -> None:
        taken.extend(await ask(client, over))

    async with anyio.create_task_group() as group:
        group.start_soon(work)
        await anyio.sleep(seconds)
        over.set()
    return taken


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (size,) = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return round(int(size) / 1024, 1)


def run(statements: int, flooders: int) -> FloodFigures:
    with TemporaryDirectory() as name:
        folder = Path(name)
        own = [sys.executable, "-m", "fluvial"]
        listen = f"/ip4/127.0.0.1/tcp/{PORT}"
        subprocess.run([*own, "init", "--listen", listen], cwd=folder, check=True, capture_output=True)
        shown = subprocess.run([*own, "key", "show", "--json"], cwd=folder, check=True, capture_output=True, text=True)
        with (folder / "log").open("w") as log:
            peer = subprocess.Popen([*own, "run"], cwd=folder, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + START_S
            while "peer_started" not in (folder / "log").read_text():
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
            address = f"{listen}/p2p/{json.loads(shown.stdout)['peer_id']}"
            return anyio.run(measure, address, peer.pid, folder, statements, flooders)
        finally:
            peer.terminate()
            peer.wait(60)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--statements", type=int, default=50_000)
    parser.add_argument("--flooders", type=int, default=2)
    parser.add_argument("--flood", metavar="ADDRESS", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.flood:
        anyio.run(flood, given.flood, given.statements, given.seed)
        return
    figures = asdict(run(given.statements, given.flooders))
    if given.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):24}{value:>14,}")


if __name__ == "__main__":
    main()
