"""What the DHT does on this machine: peers in a few real processes on loopback, over the authenticated transport.

Joining, provide and lookup of held and of absent keys, 32 lookups at once, and lookups after a fifth of the processes' peers were killed without a word.
With ``--oracle DIR`` the packages that one could take instead are measured in the same run, by the programs in that folder: ``bench_kademlia.py`` and
``bench_libp2p.py dht``. What ``requirements.txt`` there names is installed once into an environment of its own below the cache folder of the user, or
is taken from that of ``--python``. ``--json`` prints the figures for machines; ``--peers``, ``--processes``, ``--lookups`` change the size. Takes
about a minute, with the others three; longer on a busy machine, since py-libp2p is limited by the processor (it gets :data:`PEERS_MAX` peers).

The figures depend on the machine and on what else it does: compare only those of one run. Theirs have all peers in one process, so their lookups
cross no process; the package kademlia neither authenticates nor encrypts, and its datagrams need no connections.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import venv
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import structlog
from fluvial.config import from_values, load
from fluvial.identity import KeyPair
from fluvial.node import Node, running
from fluvial.plugins import Plugins, load_plugins
from fluvial_dht_kademlia.machine.challenges import open_challenge
from fluvial_dht_kademlia.shell.routing import KademliaRouting

NETWORK = "bench"


# --- a process of peers -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def a_node(plugins: Plugins, seeds: Sequence[str]) -> AsyncIterator[Node]:
    values = {
        "network": NETWORK,
        "transport": {"kind": "tcp", "listen": ["/ip4/127.0.0.1/tcp/0"]},
        "routing": {"kind": "kademlia", "peers": list(seeds)},
        "storage": {"url": "sqlite://"},
        "blobs": {"folder": ""},
    }
    log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr), wrapper_class=structlog.make_filtering_bound_logger(40)
    )
    configuration = load(from_values(values, base_dir=Path()), plugins=plugins)
    async with running(configuration, keys=KeyPair.generate(), log=log) as node:
        yield node


def routing_of(node: Node) -> KademliaRouting:
    part = node.routing.part
    assert isinstance(part, KademliaRouting)
    return part


async def serve() -> None:
    """Carry out the commands of standard input, one JSON document a line; each has an answer."""
    plugins = load_plugins()
    nodes: list[Node] = []
    async with AsyncExitStack() as stack:
        say({"ready": True})
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            command = json.loads(line)
            if command["do"] == "start":
                for _ in range(command["count"]):
                    nodes.append(await stack.enter_async_context(a_node(plugins, command["seeds"])))
                say({"addresses": [str(node.addresses[0]) for node in nodes]})
            elif command["do"] == "joined":
                for node in nodes:
                    await routing_of(node).joined.wait()
                say({"table": min(routing_of(node).summary()[0].__len__() for node in nodes)})
            elif command["do"] == "provide":
                say(await provide(nodes, command["keys"]))
            elif command["do"] == "look":
                say(await look(nodes, command["keys"], command["at_once"]))
            elif command["do"] == "usage":
                usage = resource.getrusage(resource.RUSAGE_SELF)
                say(
                    {
                        "cpu_s": usage.ru_utime + usage.ru_stime,
                        "rss_mb": usage.ru_maxrss / 1024,
                        "connections": sum(len(node.transport.connected()) for node in nodes),
                    }
                )


async def provide(nodes: Sequence[Node], keys: Sequence[str]) -> dict[str, Any]:
    took = []
    for number, key in enumerate(keys):
        began = time.perf_counter()
        stored = await routing_of(nodes[number % len(nodes)]).provide(open_challenge(key), b"v" * 64, "")
        took.append(time.perf_counter() - began)
        assert stored
    return {"took_s": took}


async def look(nodes: Sequence[Node], keys: Sequence[str], at_once: int) -> dict[str, Any]:
    took: list[float] = []
    found = 0
    rng = random.Random(7)
    waiting = list(keys)

    async def one() -> None:
        nonlocal found
        while waiting:
            key = waiting.pop()
            began = time.perf_counter()
            records = await routing_of(rng.choice(nodes)).records(open_challenge(key))
            took.append(time.perf_counter() - began)
            found += bool(records)

    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(one)
    return {"took_s": took, "found": found, "wall_s": time.perf_counter() - began}


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


# --- the whole --------------------------------------------------------------------------------------------------------


class Worker:
    """A process of peers, as the main program sees it."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def tell(self, **command: Any) -> None:
        """Give it a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to the oldest command without one."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"a process of peers ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, **command: Any) -> dict[str, Any]:
        """Give it a command and wait for the answer."""
        self.tell(**command)
        return self.answer()


def digest(took_s: Sequence[float]) -> dict[str, float]:
    ordered = sorted(took_s)
    return {
        "n": len(ordered),
        "p50_ms": round(1_000 * ordered[len(ordered) // 2], 2),
        "p95_ms": round(1_000 * ordered[int(len(ordered) * 0.95)], 2),
        "max_ms": round(1_000 * ordered[-1], 2),
    }


def measure(peers: int, processes: int, lookups: int) -> dict[str, Any]:
    workers = [Worker() for _ in range(processes)]
    figures: dict[str, Any] = {"peers": peers, "processes": processes}
    try:
        for worker in workers:
            worker.answer()
        idle_cpu_s = sum(worker.ask(do="usage")["cpu_s"] for worker in workers)
        share = [peers // processes + (number < peers % processes) for number in range(processes)]
        began = time.perf_counter()
        seeds = workers[0].ask(do="start", count=1, seeds=[])["addresses"]
        share[0] -= 1
        for worker, count in zip(workers, share, strict=True):
            worker.tell(do="start", count=count, seeds=seeds)
        for worker in workers:
            worker.answer()
        figures["started_s"] = round(time.perf_counter() - began, 2)
        for worker in workers:
            worker.tell(do="joined")
        figures["table_least"] = min(worker.answer()["table"] for worker in workers)
        figures["joined_s"] = round(time.perf_counter() - began, 2)
        used = sum(worker.ask(do="usage")["cpu_s"] for worker in workers)
        figures["cpu_until_joined_s"] = round(used - idle_cpu_s, 2)
        figures["connections"] = sum(worker.ask(do="usage")["connections"] for worker in workers) // 2
        time.sleep(15)  # the buckets fill
        for worker in workers:
            worker.tell(do="joined")
        figures["table_least_later"] = min(worker.answer()["table"] for worker in workers)
        figures["cpu_of_15_s_more"] = round(sum(worker.ask(do="usage")["cpu_s"] for worker in workers) - used, 2)
        keys = [f"key-{number}" for number in range(100)]
        figures["provide"] = digest(workers[-1].ask(do="provide", keys=keys)["took_s"])
        rng = random.Random(7)
        asked = [rng.choice(keys) for _ in range(lookups)]
        figures["lookup"] = looked(workers[1].ask(do="look", keys=asked, at_once=1))
        absent = [f"absent-{number}" for number in range(lookups // 2)]
        figures["lookup_absent"] = looked(workers[1].ask(do="look", keys=absent, at_once=1))
        many = workers[1].ask(do="look", keys=asked, at_once=32)
        figures["lookups_per_s_32_at_once"] = round(lookups / many["wall_s"])
        victim = workers.pop(2)
        victim.process.send_signal(signal.SIGKILL)
        victim.process.wait()
        figures["killed"] = round(share[2] / peers, 2)
        figures["lookup_after_kill"] = looked(workers[1].ask(do="look", keys=asked, at_once=1))
        usage = [worker.ask(do="usage") for worker in workers]
        figures["rss_mb"] = round(sum(one["rss_mb"] for one in usage) / len(usage), 1)
        figures["rss_mb_in_all"] = round(figures["rss_mb"] * processes, 1)
        return figures
    finally:
        for worker in workers:
            worker.process.kill()
            worker.process.wait()


# --- the packages of others -------------------------------------------------------------------------------------------

OTHERS: Final = {"kademlia": ["bench_kademlia.py"], "libp2p": ["bench_libp2p.py", "dht"]}
PEERS_MAX: Final = {"libp2p": 20}
"""py-libp2p introduces every peer to every other one, with a handshake each: 20 peers take 26 s of CPU, 50 take minutes."""
REMARKS: Final = {"libp2p": "answers from the peer's own table where it can, so its lookups mostly cross no network"}
OTHERS_S_MAX: Final = 600.0
"""How long the program of a package may take."""
COMPARED: Final[Sequence[tuple[str, str, str, str]]] = (
    ("all joined, s", "joined_s", "join.total_s", "join_total_s"),
    ("provide, median ms", "provide.p50_ms", "store.p50_ms", "provide.p50_ms"),
    ("provide, 95 % ms", "provide.p95_ms", "store.p95_ms", "provide.p95_ms"),
    ("lookup, median ms", "lookup.p50_ms", "lookup.p50_ms", "find_providers.p50_ms"),
    ("lookup, 95 % ms", "lookup.p95_ms", "lookup.p95_ms", "find_providers.p95_ms"),
    ("lookup, found", "lookup.found", "lookup.success", "find_providers.success"),
    ("absent key, median ms", "lookup_absent.p50_ms", "lookup_absent.p50_ms", ""),
    ("lookups/s, 32 at once", "lookups_per_s_32_at_once", "lookups_per_s_32_at_once", ""),
    ("20 % gone, median ms", "lookup_after_kill.p50_ms", "after_20pct_loss.p50_ms", ""),
    ("20 % gone, 95 % ms", "lookup_after_kill.p95_ms", "after_20pct_loss.p95_ms", ""),
    ("20 % gone, slowest ms", "lookup_after_kill.max_ms", "after_20pct_loss.max_ms", ""),
    ("20 % gone, found", "lookup_after_kill.found", "after_20pct_loss.success", ""),
    ("memory, MB", "rss_mb_in_all", "max_rss_mb", "max_rss_mb"),
)
"""A row of the table: what it is called here, there and there; empty where a program does not measure it."""


def environment_of(oracle: Path) -> str:
    """The interpreter of an environment that has what the programs of a folder need; it is made if there is none for these requirements."""
    requirements = oracle / "requirements.txt"
    version = hashlib.sha256(requirements.read_bytes()).hexdigest()[:12]
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fluvial-bench" / version
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        print(f"installing {requirements} into {home}", file=sys.stderr, flush=True)
        venv.create(home, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", requirements]
        subprocess.run(install, check=True)
        (home / "complete").touch()
    return str(python)


def of_others(command: Sequence[str], folder: Path) -> dict[str, Any]:
    """The figures that a program prints, or why there are none."""
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=OTHERS_S_MAX, check=False)
        figures: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {OTHERS_S_MAX:.0f} s"}
    except ValueError:
        return {"failed": done.stderr[-500:]}
    return figures


def side_by_side(figures: Mapping[str, Any]) -> list[str]:
    """Ours next to those of the others, as lines."""
    names = ("fluvial", *OTHERS)
    lines = [
        "  ".join([f"{'':22}", *(f"{name:>10}" for name in names)]),
        "  ".join([f"{'peers':22}", *(f"{at_path(figures[name], 'peers'):>10}" for name in names)]),
    ]
    for label, *paths in COMPARED:
        cells = [at_path(figures[name], path) for name, path in zip(names, paths, strict=True)]
        lines.append("  ".join([f"{label:22}", *(f"{cell:>10}" for cell in cells)]))
    failed = {name: figures[name]["failed"] for name in OTHERS if "failed" in figures[name]}
    remarks = [f"{name} {remark}" for name, remark in REMARKS.items() if name not in failed]
    return lines + remarks + [f"{name} failed: {why}" for name, why in failed.items()]


def at_path(figures: Mapping[str, Any], path: str) -> str:
    """The figure at a path like ``lookup.p50_ms``; a dash if there is none."""
    found: Any = figures
    for step in path.split("."):
        found = found.get(step) if isinstance(found, Mapping) else None
    return "–" if found is None else str(found)


def looked(answer: dict[str, Any]) -> dict[str, Any]:
    return {**digest(answer["took_s"]), "found": answer["found"] / len(answer["took_s"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--peers", type=int, default=50)
    parser.add_argument("--processes", type=int, default=5)
    parser.add_argument("--lookups", type=int, default=500)
    parser.add_argument("--oracle", type=Path, help="folder of bench_kademlia.py and bench_libp2p.py")
    parser.add_argument("--python", help="whose environment has their packages; by default one is made")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.serve:
        anyio.run(serve)
        return
    figures: dict[str, Any] = {"cores": os.cpu_count(), "fluvial": measure(given.peers, given.processes, given.lookups)}
    if given.oracle:
        python = given.python or environment_of(given.oracle)
        for name, program in OTHERS.items():
            peers = min(given.peers, PEERS_MAX.get(name, given.peers))
            figures[name] = {**of_others([python, *program, str(peers)], given.oracle), "peers": peers}
    if given.json:
        print(json.dumps(figures, indent=1))
        return
    for what, value in figures["fluvial"].items():
        print(f"{what:26} {value}")
    if given.oracle:
        print("\n" + "\n".join(side_by_side(figures)))


if __name__ == "__main__":
    main()
