"""What a flood of statements by keys without weight does to a peer: memory, storage, and the time of honest questions meanwhile.

Usage: ``python bench/trust_flood.py [--json] [--statements N] [--flooders N] [--rounds N] [--at-once N]``

Two peers are processes of their own, ``fluvial run`` with the settings of ``fluvial init``; so is each flooder. It signs its statements, each by a
fresh key, before it begins, then pushes them in full messages as fast as they are answered, again and again for a second. An honest peer asks
the first peer the whole time: it compares digests, as peers do every ten seconds. Its questions are timed in slices that alternate: nobody floods,
the *second* peer is flooded, the first one is. So ``slower`` says how much longer questions take because of what the flooded peer has to do; that
flooders use up the processors of this machine is part of both slices. ``peer cpu ms`` is the processor time of the first peer in a second of each kind.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
from fluvial.client import Client, connect
from fluvial.errors import FluvialError
from fluvial.identity import KeyPair
from fluvial_trust_graph.gossip.digest import BUCKETS, DIGEST_BYTES
from fluvial_trust_graph.gossip.exchange import DIGESTS, PUSH, PUSHED_MAX, encode_push
from fluvial_trust_graph.statements import TrustStatement, sign_trust

PORTS = (17_917, 17_918)
PAUSE_S = 0.005
SLICE_S = 1.0
START_S = 60.0
KINDS = ("alone", "elsewhere", "here")


@dataclass(slots=True)
class Slices:
    """What was measured in the slices of one kind."""

    taken_ms: list[float] = field(default_factory=list)
    peer_cpu_s: float = 0.0
    pushed: int = 0


async def flood(addresses: list[str], statements: int, seed: int, at_once: int) -> None:
    """One flooder: says ``ready``; for each line with the number of a peer it pushes for one slice and says how many statements it has pushed."""
    at = int(time.time()) - 10
    subject = KeyPair.from_secret(bytes(32)).peer_id
    made = []
    for number in range(statements):
        keys = KeyPair.from_secret((seed * 10**9 + number + 1).to_bytes(32, "big"))
        one = TrustStatement(
            network="fluvial", issuer=keys.peer_id, subject=subject, issued_at=at, expires_at=at + 10**6
        )
        made.append(sign_trust(one, keys))
    messages = itertools.cycle(encode_push(made[at : at + PUSHED_MAX]) for at in range(0, statements, PUSHED_MAX))
    async with connect(addresses[0]) as first, connect(addresses[1]) as second:
        print("ready", flush=True)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            chosen = (first, second)[int(line)]
            pushed = itertools.count()
            until = time.perf_counter() + SLICE_S
            async with anyio.create_task_group() as group:
                for _ in range(at_once):
                    group.start_soon(push_on, chosen, messages, pushed, until)
            print(next(pushed) * PUSHED_MAX, flush=True)


async def push_on(client: Client, messages: Iterator[bytes], pushed: Iterator[int], until: float) -> None:
    while time.perf_counter() < until:
        next(pushed)
        with suppress(FluvialError):  # refused: that is the peer's good right
            await client.request(PUSH, next(messages), timeout_s=60)


def start_flooders(addresses: list[str], share: int, count: int, at_once: int) -> list[subprocess.Popen[str]]:
    command = [sys.executable, __file__, "--flood", *addresses, "--statements", str(share), "--at-once", str(at_once)]
    command.append("--seed")
    return [
        subprocess.Popen([*command, str(seed)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for seed in range(count)
    ]


async def told(process: subprocess.Popen[str], line: str = "") -> str:
    """What a flooder answers to a line."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    process.stdin.flush()
    return await anyio.to_thread.run_sync(process.stdout.readline)


async def one_slice(client: Client, pid: int, found: Slices, flooders: list[subprocess.Popen[str]], line: str) -> None:
    """Ask for a slice, while flooders push to the peer of a number, or nobody does."""
    worked, over = cpu_s(pid), anyio.Event()

    async def ask() -> None:
        while not over.is_set():
            began = time.perf_counter()
            await client.request(DIGESTS, bytes(BUCKETS * DIGEST_BYTES), timeout_s=60)
            found.taken_ms.append((time.perf_counter() - began) * 1000)
            await anyio.sleep(PAUSE_S)

    async def push(process: subprocess.Popen[str]) -> None:
        pushed = await told(process, line)
        found.pushed += int(pushed)

    async with anyio.create_task_group() as group:
        group.start_soon(ask)
        async with anyio.create_task_group() as pushing:
            pushing.start_soon(anyio.sleep, SLICE_S)
            for process in flooders:
                pushing.start_soon(push, process)
        found.peer_cpu_s += cpu_s(pid) - worked
        over.set()


async def measure(addresses: list[str], pid: int, folder: Path, given: argparse.Namespace) -> dict[str, float]:
    processes = start_flooders(addresses, given.statements // given.flooders, given.flooders, given.at_once)
    for process in processes:
        await told(process)
    kinds = {kind: Slices() for kind in KINDS}
    async with connect(addresses[0]) as client:
        before = resident_mb(pid)
        for _ in range(given.rounds):
            await one_slice(client, pid, kinds["alone"], [], "")
            await one_slice(client, pid, kinds["elsewhere"], processes, "1\n")
            await one_slice(client, pid, kinds["here"], processes, "0\n")
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(60)
    medians = {kind: statistics.median(found.taken_ms) for kind, found in kinds.items()}
    return {
        "statements_pushed_here": kinds["here"].pushed,
        "memory_before_mb": before,
        "memory_after_mb": resident_mb(pid),
        "database_kb": sum(file.stat().st_size for file in (folder / "state").iterdir() if file.is_file()) // 1024,
        "statements_stored": stored(folder),
        "questions": sum(len(found.taken_ms) for found in kinds.values()),
        **{f"question_ms_{kind}": round(medians[kind], 2) for kind in KINDS},
        **{f"peer_cpu_ms_{kind}": round(1000 * kinds[kind].peer_cpu_s / given.rounds) for kind in KINDS},
        "slower": round(medians["here"] / medians["elsewhere"], 2),
    }


def stored(folder: Path) -> int:
    command = [sys.executable, "-m", "fluvial", "trust", "list", "--json"]
    return len(json.loads(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout))


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (size,) = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return round(int(size) / 1024, 1)


@contextmanager
def running_peer(folder: Path, port: int) -> Iterator[tuple[str, int]]:
    """A peer in a process of its own: its address and the process's id."""
    own = [sys.executable, "-m", "fluvial"]
    listen = f"/ip4/127.0.0.1/tcp/{port}"
    subprocess.run([*own, "init", "--listen", listen], cwd=folder, check=True, capture_output=True)
    shown = subprocess.run([*own, "key", "show", "--json"], cwd=folder, check=True, capture_output=True, text=True)
    with (folder / "log").open("w") as log:
        peer = subprocess.Popen([*own, "run"], cwd=folder, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_S
        while "peer_started" not in (folder / "log").read_text():
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.05)
        yield f"{listen}/p2p/{json.loads(shown.stdout)['peer_id']}", peer.pid
    finally:
        peer.terminate()
        peer.wait(60)


def run(given: argparse.Namespace) -> dict[str, float]:
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(TemporaryDirectory())) for _ in PORTS]
        peers = [stack.enter_context(running_peer(*one)) for one in zip(folders, PORTS, strict=True)]
        addresses = [address for address, _ in peers]
        return anyio.run(measure, addresses, peers[0][1], folders[0], given)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--statements", type=int, default=50_000)
    parser.add_argument("--flooders", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--at-once", type=int, default=1, help="messages of one flooder that are under way")
    parser.add_argument("--flood", metavar="ADDRESS", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.flood:
        anyio.run(flood, given.flood, given.statements, given.seed, given.at_once)
        return
    figures = run(given)
    if given.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name.replace('_', ' '):24}{value:>14,}")


if __name__ == "__main__":
    main()
