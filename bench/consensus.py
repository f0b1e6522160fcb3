"""Four validators as processes on this machine, with synced disk writes.

Blocks a second, how long a block takes, signed transactions a second, and how long one of them takes to start again and to catch up.

::

    python -m bench.consensus                        # simplex, 10 s of empty blocks, 10 s of transactions
    python -m bench.consensus --algorithm dag --seconds 20
    python -m bench.consensus --snapshot-blocks 0    # a restart executes all blocks again
    python -m bench.consensus --kept-blocks 0        # who was away needs a snapshot, unless others have the blocks in memory
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
from fluvial.addresses import Contact
from fluvial.client import Client, connect
from fluvial.encoding import encode
from fluvial.errors import FluvialError
from fluvial.hosting.genesis_file import read_genesis
from fluvial.hosting.offer_lines import TRANSACTIONS
from fluvial.hosting.testnet import MadeTestnet, TestnetPlan, make_testnet
from fluvial.identity import KeyPair, PeerId
from fluvial.ledger.transactions import TransferUnits, sign_transaction

FRAME = 64
"""Transactions that are handed over at once: as many as may wait of one key."""


def main() -> None:
    """Run, and print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--algorithm", default="simplex")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--keys", type=int, default=128)
    parser.add_argument("--port", type=int, default=29_771)
    parser.add_argument("--snapshot-blocks", type=int, default=1_000)
    parser.add_argument("--kept-blocks", type=int, default=100_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plan = TestnetPlan(
            name="bench",
            validators=4,
            algorithm=asked.algorithm,
            first_port=asked.port,
            delta_ms=500,
            idle_ms=0,
            time_ms=time.time_ns() // 1_000_000,
        )
        made = make_testnet(Path(folder) / "net", plan)
        snapshots = [
            f"--set=ledger.snapshot_blocks={asked.snapshot_blocks}",
            f"--set=ledger.kept_blocks={asked.kept_blocks}",
        ]
        processes = [start(home, snapshots) for home, _ in made.folders]
        try:
            pids = [one.pid for one in processes]
            figures = anyio.run(measure, made, plan, asked.seconds, asked.keys, pids)
            figures |= anyio.run(comes_back, made, plan, processes, snapshots, asked.seconds)
            print(json.dumps(figures))
        finally:
            for one in processes:
                one.terminate()
            for one in processes:
                one.wait()


def start(home: Path, settings: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a validator."""
    return subprocess.Popen(
        [sys.executable, "-m", "fluvial", "--config", home / "fluvial.toml", *settings, "run"],
        stdout=subprocess.DEVNULL,
        stderr=(home / "log").open("ab"),
    )


async def comes_back(
    made: MadeTestnet,
    plan: TestnetPlan,
    processes: list[subprocess.Popen[bytes]],
    settings: Sequence[str],
    away_s: float,
) -> dict[str, Any]:
    """Kill the last validator, and start it again at once, and after some time: seconds and CPU until it shows the block that was the newest when it was started."""
    figures: dict[str, Any] = {}
    relays = [f"/ip4/127.0.0.1/tcp/{plan.first_port + one}/p2p/{made.folders[one][1]}" for one in (0, 3)]
    for name, pause_s in (("restart", 0.0), ("catch_up", away_s)):
        processes[3].kill()
        processes[3].wait()
        await anyio.sleep(pause_s)
        async with connect(relays[0], network="bench") as client:
            height = (await status(client, made.folders[0][1]))["height"]
        began = time.perf_counter()
        processes[3] = start(made.folders[3][0], settings)
        async with await _connected(relays[1]) as client:
            while (await status(client, made.folders[3][1]))["height"] < height:  # noqa: ASYNC110 - another process
                await anyio.sleep(0.05)
        took = time.perf_counter() - began
        figures |= {
            f"{name}_height": height,
            f"{name}_s": round(took, 2),
            f"{name}_cpu_s": round(cpu_ms([processes[3].pid]) / 1000, 2),
        }
    return figures


async def measure(
    made: MadeTestnet, plan: TestnetPlan, seconds: float, keys: int, pids: Sequence[int]
) -> dict[str, Any]:
    """All figures."""
    relay = f"/ip4/127.0.0.1/tcp/{plan.first_port}/p2p/{made.folders[0][1]}"
    async with await _connected(relay) as client:
        first = made.folders[0][1]
        while (await status(client, first))["height"] < 5:  # noqa: ASYNC110 - another process makes them
            await anyio.sleep(0.2)
        before, began, busy = await status(client, first), time.perf_counter(), cpu_ms(pids)
        await anyio.sleep(seconds)
        after = await status(client, first)
        blocks = (after["height"] - before["height"]) / (time.perf_counter() - began)
        cost = (cpu_ms(pids) - busy) / max(1, after["height"] - before["height"])
        chain = read_genesis(made.genesis).chain
        frames = await anyio.to_thread.run_sync(_frames, chain, keys, seconds)
        before, began, busy = await status(client, first), time.perf_counter(), cpu_ms(pids)
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as tasks:
                for number, mine in enumerate(frames):
                    tasks.start_soon(feed, client, contact_of(made, plan, number % 4), mine)
        loaded = await status(client, first)
        took = time.perf_counter() - began
        done = loaded["transactions"] - before["transactions"]
        return {
            "algorithm": plan.algorithm,
            "blocks_per_s": round(blocks, 1),
            "cpu_ms_per_block_of_all_four": round(cost, 2),
            "block_ms_median": after["block_ms"],
            "transactions_per_s": round(done / took, 1),
            "cpu_ms_per_transaction_of_all_four": round((cpu_ms(pids) - busy) / max(1, done), 3),
            "blocks_per_s_loaded": round((loaded["height"] - before["height"]) / took, 1),
            "block_ms_median_loaded": loaded["block_ms"],
        }


def cpu_ms(pids: Sequence[int]) -> float:
    """What processes have taken of the processor so far, in milliseconds. Source: proc(5), /proc/pid/stat, fields 14 and 15."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * 1000 / os.sysconf("SC_CLK_TCK")


def contact_of(made: MadeTestnet, plan: TestnetPlan, number: int) -> Contact:
    """Where a validator listens."""
    return Contact.configured(f"/ip4/{plan.host}/tcp/{plan.first_port + number}/p2p/{made.folders[number][1]}")


async def _connected(relay: str) -> Any:
    for _ in range(100):
        try:
            probe = connect(relay, network="bench")
            await probe.__aenter__()
        except FluvialError:
            await anyio.sleep(0.5)
        else:
            await probe.__aexit__(None, None, None)
            return connect(relay, network="bench")
    raise SystemExit("the first validator does not start; its log is gone with the folder")


async def status(client: Client, peer: PeerId) -> dict[str, Any]:
    """``ledger.status`` of a validator."""
    script = '(seq (call peer ("ledger" "status") [] found) (call %init_peer_id% ("return" "") [found]))'
    (found,) = await client.run(script, peer=peer, ttl_s=30)
    answer: dict[str, Any] = found
    return answer


def _frames(chain: bytes, keys: int, seconds: float) -> Sequence[Sequence[bytes]]:
    """Signed transfers of nothing, which cost as much as any other: for each key frames with consecutive nonces."""
    total = int(4_000 * seconds)
    found = []
    for _ in range(keys):
        pair = KeyPair.generate()
        count = max(FRAME, total // keys)
        signed = [sign_transaction(pair, chain, nonce, TransferUnits(pair.public_key, 0)) for nonce in range(count)]
        found.append([encode(signed[at : at + FRAME // 2]) for at in range(0, count, FRAME // 2)])
    return found


async def feed(client: Client, peer: Contact, frames: Sequence[bytes]) -> None:
    """Hand frames of one key to a validator; one that it has no room for yet is handed over again."""
    peers = client.node.assembly.peers
    for frame in frames:
        while True:
            try:
                answer = await peers.request(peer, TRANSACTIONS, frame, timeout_s=10)
            except FluvialError:
                await anyio.sleep(0.05)
                continue
            if b"too many" not in answer:
                break
            await anyio.sleep(0.05)


if __name__ == "__main__":
    main()
