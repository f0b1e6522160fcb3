"""Durable workflows in one process, next to DBOS: 1 and 10 steps, one after another and 64 at once, on SQLite and PostgreSQL.

A step adds one to a number, a coroutine in both. What each system makes durable before the workflow's result is handed back:

- *Fluvial*: the particle with its script, signed by its initiator; the signed result of each step, written before anything that
  follows from it leaves the peer; that the flow is over.
- *DBOS*: the workflow with its arguments, the result of each step before the next one begins, the workflow's result. Nothing is signed.

Both commit with full synchronisation: SQLite with its write-ahead log (Fluvial) and as DBOS opens it, PostgreSQL with fsync. Both are
called as a user of one process would: a coroutine that is awaited. Each case is a process of its own; Fluvial and DBOS take turns, so
that the ratios hold on a machine that has other things to do. With ``--tend-garbage`` the garbage collector is tuned in the processes of both, as in a
peer that ``fluvial run`` runs (docs/client.md).

Usage: ``python bench/durable.py [--seconds S] [--rounds N] [--tend-garbage] [--json]``; needs ``pip install dbos``, and leaves out PostgreSQL where its
server is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, nullcontext
from itertools import count, pairwise, product
from pathlib import Path
from typing import Any, Final, TypeAlias

import anyio
from fluvial.client import Client
from fluvial.config import from_values, load
from fluvial.effectors import Call, Effector, NoConfig, function
from fluvial.garbage import tend_garbage
from fluvial.identity import KeyPair
from fluvial.node import running

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.support.postgres import PostgresServer, find_binaries, running_server

STEPS: Final = (1, 10)
AT_ONCE: Final = (1, 64)
WARM_UP: Final = 10
Workflow: TypeAlias = Callable[[int], Awaitable[int]]
"""Runs one workflow that adds its steps to a number."""


# --- Fluvial


class Steps(Effector[NoConfig]):
    """The service of which a flow's steps are calls."""

    service_id = "steps"

    @function
    async def add(self, call: Call, number: int) -> int:
        """The number after it."""
        return number + 1


def script(steps: int) -> str:
    """Calls one after another, each with the result of the one before."""
    names = ["number", *(f"n{step}" for step in range(steps))]
    air = f'(call %init_peer_id% ("return" "") [{names[-1]}])'
    for before, after in reversed(list(pairwise(names))):
        air = f'(seq (call %init_peer_id% ("steps" "add") [{before}] {after}) {air})'
    return air


@asynccontextmanager
async def fluvial(steps: int, url: str, folder: Path) -> AsyncIterator[Workflow]:
    """A peer that nobody else can reach."""
    values = {
        "network": "bench",
        "storage": {"url": url or "sqlite:///fluvial.db"},
        "transport": {"kind": "tcp", "listen": ["/ip4/127.0.0.1/tcp/0"]},
        "telemetry": {"log_level": "error"},
    }
    air = script(steps)
    async with running(load(from_values(values, base_dir=folder)), keys=KeyPair.generate(), serves=[Steps()]) as node:
        client = Client(node)

        async def workflow(number: int) -> int:
            async with client.run(air, number=number) as flow:
                (answer,) = await flow.result()
            assert isinstance(answer, int)
            return answer

        yield workflow


# --- DBOS


@asynccontextmanager
async def dbos(steps: int, url: str, folder: Path) -> AsyncIterator[Workflow]:
    """The library in this process."""
    from dbos import DBOS

    @DBOS.step()
    async def add(number: int) -> int:
        return number + 1

    @DBOS.workflow()
    async def workflow(number: int) -> int:
        for _ in range(steps):
            number = await add(number)
        return number

    DBOS(
        config={
            "name": "bench",
            "system_database_url": url or f"sqlite:///{folder / 'dbos.db'}",
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    try:
        yield workflow
    finally:
        DBOS.destroy()


# --- measuring

SYSTEMS: Final = {"fluvial": fluvial, "dbos": dbos}


async def measure(
    system: str, steps: int, at_once: int, seconds: float, url: str, tended: bool, folder: Path
) -> dict[str, float]:
    """Workflows per second, the median of how long one took, and the process's CPU for each, in milliseconds."""
    times: list[float] = []
    numbers = count()
    async with SYSTEMS[system](steps, url, folder) as workflow, anyio.create_task_group() as around:
        if tended:
            around.start_soon(tend_garbage, lambda: 0)
        for _ in range(WARM_UP):
            assert await workflow(0) == steps

        async def work() -> None:
            while time.perf_counter() < start + seconds:
                began, number = time.perf_counter(), next(numbers)
                assert await workflow(number) == number + steps
                times.append(time.perf_counter() - began)

        start, cpu = time.perf_counter(), time.process_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(work)
        took, used = time.perf_counter() - start, time.process_time() - cpu
        around.cancel_scope.cancel()
    return {
        "per_second": len(times) / took,
        "p50_ms": statistics.median(times) * 1000,
        "cpu_ms": used / len(times) * 1000,
    }


def in_child(system: str, steps: int, at_once: int, seconds: float, url: str, tended: bool) -> dict[str, float]:
    """:func:`measure` in a process of its own."""
    case = json.dumps([system, steps, at_once, seconds, url, tended])
    output = subprocess.run(
        [sys.executable, __file__, "--case", case], check=True, stdout=subprocess.PIPE, timeout=120 + 10 * seconds
    ).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


@contextmanager
def postgresql() -> Iterator[PostgresServer | None]:
    """A server whose commits reach the disk; None where none is installed."""
    binaries = find_binaries()
    with nullcontext() if binaries is None else running_server(binaries, durable=True) as server:
        yield server


def rows(seconds: float, rounds: int, tended: bool) -> Iterator[dict[str, Any]]:
    """The table, a row for each case and system; of several rounds the best."""
    systems = [name for name in SYSTEMS if importlib.util.find_spec(name)]
    with postgresql() as server:
        kinds = ["sqlite", *(["postgresql"] if server is not None else [])]
        for kind, steps, at_once in product(kinds, STEPS, AT_ONCE):
            best: dict[str, dict[str, float]] = {}
            for _, system in product(range(rounds), systems):
                with nullcontext("") if kind == "sqlite" else server.database() as url:
                    found = in_child(system, steps, at_once, seconds, url, tended)
                if system not in best or found["per_second"] > best[system]["per_second"]:
                    best[system] = found
            for system, found in best.items():
                ratio = best["fluvial"]["per_second"] / found["per_second"]
                yield {
                    "database": kind,
                    "steps": steps,
                    "at_once": at_once,
                    "system": system,
                    **found,
                    "fluvial": ratio,
                }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="duration of each case")
    parser.add_argument("--rounds", type=int, default=1, help="turns of each system; the best one counts")
    parser.add_argument("--tend-garbage", action="store_true", help="tune the garbage collector of both")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line instead of a table")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(anyio.run(measure, *json.loads(options.case), Path(folder))))
        return
    if importlib.util.find_spec("dbos") is None:
        print("dbos is not installed (`pip install dbos`): Fluvial alone", file=sys.stderr)
    if not options.json:
        print(
            f"{'database':<11}{'steps':>6}{'at once':>8}  {'':<8}{'per second':>11}{'p50 ms':>8}{'CPU ms':>8}{'Fluvial is':>12}"
        )
    for row in rows(options.seconds, options.rounds, options.tend_garbage):
        if options.json:
            print(json.dumps(row), flush=True)
            continue
        ratio = "" if row["system"] == "fluvial" else f"{row['fluvial']:.2f} ×"
        print(
            f"{row['database']:<11}{row['steps']:>6}{row['at_once']:>8}  {row['system']:<8}"
            f"{row['per_second']:>11.1f}{row['p50_ms']:>8.2f}{row['cpu_ms']:>8.2f}{ratio:>12}",
            flush=True,
        )


if __name__ == "__main__":
    main()
