"""``kill -9`` in the middle of flows: they go on after a restart, and nothing that was recorded is done again.

The service writes every call to a file, and syncs it, before it takes its time; the journal says what was recorded when the process
was gone. Both are read before the process is started again.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import pytest
from anyio import to_thread
from fluvial.air.data.content import content_id
from fluvial.air.data.facts import Result, Taken
from fluvial.air.data.log import Stepped
from fluvial.client import Client, connect
from fluvial.particle import ParticleKey
from fluvial.particles.journal import read_entry
from fluvial.storage import open_store

from tests.support.nodes import until
from tests.support.processes import NETWORK, PeerProcess, wait_until

pytestmark = pytest.mark.timeout(180)

CALLS: Final = 30
"""Of each of the two chains of calls that run side by side."""
MOMENTS: Final = 3
"""At which the peer of both chains is killed; the first is before any call."""
PAUSE_MS: Final = 25
TTL_S: Final = 110.0
FLOW_S: Final = 60.0
SEED: Final = 4
FLOWS: Final = 40
STEPS: Final = 8
"""Of the peer that is told to stop: flows at once, and calls of each."""

PLUGIN: Final = f'''
"""A service that takes notes."""
import os
from pathlib import Path
import anyio
import msgspec
from fluvial import hookimpl
from fluvial.effectors import Effector, function

class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    notes: str

class Steps(Effector[Config]):
    service_id = "steps"

    @function
    async def step(self, chain: str, number: int) -> int:
        with Path(self.config.notes).open("ab") as file:
            file.write(f"{{chain}}{{number}}\\n".encode())
            file.flush()
            os.fsync(file.fileno())
        await anyio.sleep({PAUSE_MS / 1000})
        return number + 1

@hookimpl
def fluvial_register(registry):
    registry.effector("steps", Steps)
'''


@dataclass
class Worker:
    """The peer that is killed, and what it has noted."""

    process: PeerProcess
    storage_url: str

    @property
    def notes(self) -> list[str]:
        """The calls that have begun, in order: ``a0``, ``b0``, ``a1`` …"""
        path = self.process.folder / "notes"
        return path.read_text().split() if path.exists() else []

    async def journal(self, key: ParticleKey) -> tuple[set[str], set[int]]:
        """The calls with a recorded result, as noted, and the instructions that were begun without one."""
        async with open_store(self.storage_url, base_dir=self.process.folder, read_only=True) as store:
            stored = await store.particles.load(key)
        if stored is None:
            return set(), set()
        done: dict[int, str] = {}
        begun: set[int] = set()
        values: dict[bytes, object] = {}
        for record in map(read_entry, stored.journal):
            if not isinstance(record, Stepped):
                continue
            values |= {content_id(value): value for value in record.contents}
            for fact in record.facts:
                if isinstance(fact, Taken):
                    begun.add(fact.node)
                elif isinstance(fact, Result):
                    chain = "a" if fact.arguments[0].root == content_id("a") else "b"
                    done[fact.node] = f"{chain}{int(str(values[fact.value])) - 1}"
        return set(done.values()), begun - done.keys()


def side_by_side(worker: str) -> str:
    """Two chains of calls on the worker, and a last call that waits for both."""

    def chain(name: str) -> str:
        script = "(null)"
        for number in reversed(range(CALLS)):
            before = f"{name}{number}" if number else "0"
            call = f'(call "{worker}" ("steps" "step") ["{name}" {before}] {name}{number + 1})'
            script = f"(seq {call}\n {script})"
        return script

    return f"""
        (seq (par {chain("a")} {chain("b")})
             (call %init_peer_id% ("return" "") [a{CALLS} b{CALLS}]))"""


def in_turn(peers: Sequence[str]) -> str:
    """One chain of calls, each on the next peer."""
    script = f'(call %init_peer_id% ("return" "") [a{len(peers)}])'
    for number in reversed(range(len(peers))):
        before = f"a{number}" if number else "0"
        call = f'(call "{peers[number]}" ("steps" "step") ["a" {before}] a{number + 1})'
        script = f"(seq {call}\n {script})"
    return script


class Workers:
    """Makes workers, and ends them with the test."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._folder = folder
        self._variables = variables
        self._made: list[Worker] = []

    def start(self, name: str, *, storage_url: str = "sqlite:///peer.db", knows: Sequence[str] = ()) -> Worker:
        """A new one, running."""
        process = PeerProcess(
            self._folder / name,
            self._variables,
            plugins={"steps": PLUGIN},
            storage={"url": storage_url},
            routing={"kind": "static", "peers": list(knows)},
            effectors={"steps": {"notes": str(self._folder / name / "notes")}},
        )
        self._made.append(Worker(process, storage_url))
        process.start()
        return self._made[-1]

    def close(self) -> None:
        for worker in self._made:
            worker.process.close()


@pytest.fixture
def workers(tmp_path: Path, variables: Mapping[str, str]) -> Iterator[Workers]:
    made = Workers(tmp_path, variables)
    yield made
    made.close()


async def test_a_killed_peer_goes_on_where_it_was(workers: Workers, storage_url: str) -> None:
    rng = random.Random(f"{SEED} {storage_url[:6]}")
    worker = await to_thread.run_sync(lambda: workers.start("worker", storage_url=storage_url))
    script = side_by_side(worker.process.peer_id)
    async with (
        connect(worker.process.address, network=NETWORK) as client,
        client.run(script, ttl_s=TTL_S) as flow,
    ):
        allowed: Counter[str] = Counter()
        await until(lambda: accepted_deliveries(client) == 1)
        for moment in (0, *sorted(rng.sample(range(1, 2 * CALLS - 4), MOMENTS - 1))):
            noted = await to_thread.run_sync(kill_at, worker, moment, rng.uniform(0, PAUSE_MS / 1000))
            recorded, begun = await worker.journal(flow.particle.key)
            assert recorded <= set(noted)
            # What was called and is not on record was in flight: one call of each chain at most.
            unrecorded = set(noted) - recorded
            assert len(unrecorded) <= 2
            assert len(unrecorded) <= len(begun)
            allowed.update(unrecorded)
            again = await to_thread.run_sync(start_and_watch, worker, len(noted))
            assert not set(again) & recorded, "a call whose result was on record was made again"
        with anyio.fail_after(FLOW_S):
            assert list(await flow.result()) == [CALLS, CALLS]
        assert accepted_deliveries(client) == 1, "what was acknowledged need not be sent again"
    expected = Counter(f"{name}{number}" for name in "ab" for number in range(CALLS))
    assert set(worker.notes) == set(expected)
    assert not Counter(worker.notes) - expected - allowed
    assert len(worker.process.events("particle_resumed")) == MOMENTS
    assert worker.process.events("particle_broken") == []


async def test_a_killed_relay_comes_back_into_the_flow(workers: Workers) -> None:
    """The relay is the client's only way, and has work of its own in the flow."""
    rng = random.Random(f"{SEED} relay")
    worker = await to_thread.run_sync(workers.start, "worker")
    relay = await to_thread.run_sync(lambda: workers.start("relay", knows=[worker.process.address]))
    script = in_turn([relay.process.peer_id, worker.process.peer_id] * (CALLS // 3))
    async with (
        connect(relay.process.address, network=NETWORK) as client,
        client.run(script, ttl_s=TTL_S) as flow,
    ):
        for moment in sorted(rng.sample(range(1, CALLS // 3), 2)):
            noted = await to_thread.run_sync(kill_at, relay, moment, rng.uniform(0, PAUSE_MS / 500))
            recorded, _ = await relay.journal(flow.particle.key)
            assert len(set(noted) - recorded) <= 1
            again = await to_thread.run_sync(start_and_watch, relay, len(noted))
            assert not set(again) & recorded
        with anyio.fail_after(FLOW_S):
            assert list(await flow.result()) == [2 * (CALLS // 3)]
    assert relay.process.events("particle_broken") == []
    assert worker.notes == [f"a{number}" for number in range(1, 2 * (CALLS // 3), 2)], "nobody has killed the worker"


async def test_a_peer_that_is_told_to_stop_under_load_loses_nothing(workers: Workers) -> None:
    worker = await to_thread.run_sync(workers.start, "worker")
    script = in_turn([worker.process.peer_id] * STEPS)
    results: list[Sequence[object]] = []

    async def run(client: Client) -> None:
        async with client.run(script, ttl_s=TTL_S) as flow:
            results.append(await flow.result())

    async with connect(worker.process.address, network=NETWORK) as client, anyio.create_task_group() as tasks:
        for _ in range(FLOWS):
            tasks.start_soon(run, client)
        await until(lambda: accepted_deliveries(client) >= FLOWS / 2 and len(worker.notes) > FLOWS)
        assert len(results) < FLOWS
        began = time.monotonic()
        assert await to_thread.run_sync(worker.process.stop) == 0
        assert time.monotonic() - began < 10
        assert len(worker.process.events("peer_stopped")) == 1
        await to_thread.run_sync(worker.process.start)
    assert [list(result) for result in results] == [[STEPS]] * FLOWS
    made = Counter(worker.notes)
    assert set(made) == {f"a{number}" for number in range(STEPS)}
    # What was in flight when it stopped may be made again: one call of each flow at most.
    assert FLOWS * STEPS <= made.total() <= FLOWS * STEPS + FLOWS
    for trouble in ("particle_broken", "part_left_behind", "part_failed"):
        assert worker.process.events(trouble) == []


def accepted_deliveries(client: Client) -> float:
    """How many deliveries others have acknowledged to the client."""
    return client.node.metrics.get_sample_value("fluvial_deliveries_total", {"outcome": "accepted"}) or 0.0


def kill_at(worker: Worker, calls: int, later_s: float) -> list[str]:
    """Kill a peer a little after it has begun so many calls; its notes then."""
    wait_until(lambda: len(worker.notes) >= calls, within_s=FLOW_S, what=f"{calls} calls")
    time.sleep(later_s)
    worker.process.kill()
    return worker.notes


def start_and_watch(worker: Worker, noted: int) -> list[str]:
    """Start a killed peer; the calls that it makes first."""
    worker.process.start()
    wait_until(lambda: len(worker.notes) > noted, within_s=FLOW_S, what="the flow goes on")
    return worker.notes[noted:]
