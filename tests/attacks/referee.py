"""Two peers as processes, honest flows through them, an attacker beside them; the attacked peer is killed in the middle.

==== ===========================================================
part of the time
==== ===========================================================
0    the attacker begins
30 % it is replaced by one with other keys, and again at 80 %
50 % flows are begun; a second later the target is killed (``kill -9``)
     and started again, while the attack goes on
100 % the attack ends; those flows must end too
==== ===========================================================
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread
from anyio.abc import TaskStatus
from fluvial.client import Client, connect
from fluvial.errors import FluvialError
from fluvial.identity import KeyPair

from tests.attacks.ledgers import LEDGERS, ON_VALIDATORS, ledger_seats
from tests.support.processes import NETWORK, START_S, STOP_S, PeerProcess, environment

HONEST: Final = """
    (seq (call relay ("op" "concat_strings") ["a" "b"] x)
         (seq (call other ("op" "concat_strings") [x "c"] y)
              (seq (call relay ("peer" "timeout") [pause y] z)
                   (call %init_peer_id% ("return" "") [z]))))"""
"""A flow over both peers, with a pause."""
PAUSE_MS: Final = 10
PLEDGE_PAUSE_MS: Final = 3_000
PLEDGES: Final = 3
"""Flows that are under way when the target is killed."""
TAKEN_S: Final = 1.0
"""For the target to have taken them in."""
HONEST_S_MAX: Final = 30.0
DISK_BYTES_MAX: Final = 128 * 2**20
"""The quota of the target; attacks on the disk would write more than this in seconds."""
VAULTS_BYTES_MAX: Final = 16 * 2**20
"""The quota of the files of particles."""
STATE_BYTES_MAX: Final = DISK_BYTES_MAX + VAULTS_BYTES_MAX
"""Of all files of the target."""
SEATS: Final = {
    "authorization": {"kind": "trust_graph"},
    "execution": {"kind": "wasm", "vaults_bytes_max": VAULTS_BYTES_MAX, "vault_bytes_max": VAULTS_BYTES_MAX // 4},
}
"""Of both peers, which sit as ``fluvial init`` seats them."""
GAP_S: Final = 0.2
"""Between two honest flows."""
SETTLED_S: Final = 2.0
"""After a restart; flows that began before its end are not counted with the others."""
LOOK_S: Final = 0.2
ATTACKERS: Final = (0.3, 0.5, 0.2)
"""The shares of the time that each of them has."""


@dataclass(slots=True)
class Match:
    """One attack, and what was seen of it.

    Attributes:
        times_s: what honest flows took; infinity for one that failed.
        restart_s: the same of those during which the target was restarted.
        pledges_s: the same of those that were begun just before it was killed.
        rss_mb, disk_mb: the most that the target was seen with.
        cpu_s: what the target used of the processor, its starts included, in seconds.
        receipts: what attackers counted.
        errors: of honest flows.
        faults: what was against the rules of the match.
        restarts, attackers: how many there were.
    """

    times_s: list[float] = field(default_factory=list)
    restart_s: list[float] = field(default_factory=list)
    pledges_s: list[float] = field(default_factory=list)
    rss_mb: int = 0
    disk_mb: float = 0.0
    log_mb: float = 0.0
    cpu_s: float = 0.0
    receipts: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    restarts: int = 0
    attackers: int = 0


class Referee:
    """Carries out one match.

    Args:
        name: of the attack.
        seed: of the attackers.
        seconds: how long they attack.
        folder: for the peers.
        target, other: the peers.
        honest: a client of the target.
        variables: of the attackers' processes.
    """

    def __init__(
        self,
        name: str,
        seed: int,
        seconds: float,
        *,
        folder: Path,
        target: PeerProcess,
        other: PeerProcess,
        honest: Client,
        variables: Mapping[str, str],
    ) -> None:
        self.match: Final = Match()
        self._name = name
        self._seed = seed
        self._seconds = seconds
        self._folder = folder
        self._target = target
        self._other = other
        self._honest = honest
        self._variables = variables
        self._down = False
        self._unsettled_until = float("-inf")
        self._cpu_s: dict[int, float] = {}

    async def run(self) -> Match:
        """Attack for the time of the match; what is found is also in ``match``."""
        async with anyio.create_task_group() as watching:
            watching.start_soon(self._look)
            async with anyio.create_task_group() as tasks:
                await tasks.start(self._attack)
                scope = anyio.CancelScope()
                tasks.start_soon(self._run_honest_flows, scope)
                async with anyio.create_task_group() as play:
                    play.start_soon(self._kill_and_restart)
                    await anyio.sleep(self._seconds)
                await anyio.sleep(SETTLED_S)
                scope.cancel()
            watching.cancel_scope.cancel()
        self._measure()
        for peer, name in ((self._target, "the target"), (self._other, "the other peer")):
            if not peer.running:
                self.match.faults.append(f"{name} is dead")
        return self.match

    # --- honest flows

    async def _run_honest_flows(self, scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                began = anyio.current_time()
                took_s = await self._flow(PAUSE_MS)
                unsettled = self._down or began < self._unsettled_until
                (self.match.restart_s if unsettled else self.match.times_s).append(took_s)
                await anyio.sleep(GAP_S)

    async def _flow(self, pause_ms: int) -> float:
        began = anyio.current_time()
        values = {"relay": self._honest.relay_id, "other": str(self._other.peer_id), "pause": pause_ms}
        try:
            async with self._honest.run(HONEST, ttl_s=HONEST_S_MAX, **values) as flow:
                if await flow.result() == ("abc",):
                    return anyio.current_time() - began
        except FluvialError as error:
            self.match.errors.append(error.message)
        return float("inf")

    # --- the target

    async def _kill_and_restart(self) -> None:
        await anyio.sleep(self._seconds / 2 - TAKEN_S)

        async def pledge() -> None:
            self.match.pledges_s.append(await self._flow(PLEDGE_PAUSE_MS))

        async with anyio.create_task_group() as pledges:
            for _ in range(PLEDGES):
                pledges.start_soon(pledge)
            await anyio.sleep(TAKEN_S)
            if not self._target.running:
                self.match.faults.append("the target was dead before it was killed")
                return
            self._down = True
            self._target.kill()
            try:
                await to_thread.run_sync(self._target.start)
            except AssertionError as error:
                self.match.faults.append(str(error)[-300:])
                return
            self._down = False
            self._unsettled_until = anyio.current_time() + SETTLED_S
            self.match.restarts += 1

    async def _look(self) -> None:
        while True:
            self._measure()
            await anyio.sleep(LOOK_S)

    def _measure(self) -> None:
        match, folder = self.match, self._target.folder
        if self._target.running:
            match.rss_mb = max(match.rss_mb, _rss_mb(self._target.pid))
            self._cpu_s[self._target.pid] = _cpu_s(self._target.pid)
            match.cpu_s = sum(self._cpu_s.values())
        match.disk_mb = max(match.disk_mb, _bytes(folder / "state") / 1e6)
        match.log_mb = max(match.log_mb, _bytes(folder / "log") / 1e6)

    # --- attackers

    async def _attack(self, *, task_status: TaskStatus[None]) -> None:
        """One attacker after the other; the next is there before the last one goes."""
        attackers: list[_AttackerProcess] = []
        try:
            for number, share in enumerate(ATTACKERS):
                attackers.append(self._attacker(self._seed + number))
                await attackers[-1].ready()
                if number:
                    await self._dismiss(attackers[-2])
                else:
                    task_status.started()
                await anyio.sleep(self._seconds * share)
            await self._dismiss(attackers[-1])
        finally:
            for attacker in attackers:
                attacker.kill()

    def _attacker(self, seed: int) -> _AttackerProcess:
        self.match.attackers += 1
        report = self._folder / f"attacker-{seed}.json"
        parties = (self._name, self._target.address, self._other.address, str(seed))
        return _AttackerProcess(report, parties, self._variables)

    async def _dismiss(self, attacker: _AttackerProcess) -> None:
        receipts, violations = await attacker.stop()
        self.match.receipts.update(receipts)
        self.match.faults += violations


class _AttackerProcess:
    """See ``tests.attacks.attacker``."""

    def __init__(self, report: Path, parties: Sequence[str], variables: Mapping[str, str]) -> None:
        self._report = report
        command = [sys.executable, "-m", "tests.attacks.attacker", *parties, str(report)]
        self._process = subprocess.Popen(command, env=variables)

    async def ready(self) -> None:
        """It has begun to attack."""
        with anyio.fail_after(START_S):
            while not self._report.exists():
                assert self._process.poll() is None, "the attacker failed"
                await anyio.sleep(LOOK_S)

    async def stop(self) -> tuple[Mapping[str, int], Sequence[str]]:
        """What it has counted, and what was against the rules."""
        if (code := self._process.poll()) is not None:
            return {}, [f"an attacker failed with exit code {code}"]
        self._process.terminate()
        try:
            await to_thread.run_sync(self._process.wait, STOP_S)
        except (
            subprocess.TimeoutExpired
        ):  # hundreds of its connections still had something to say; its report is written
            self.kill()
        told = json.loads(self._report.read_text())
        return told["receipts"], told["violations"]

    def kill(self) -> None:
        """If it still runs."""
        self._process.kill()
        self._process.wait()


@asynccontextmanager
async def refereeing(name: str, seed: int, seconds: float) -> AsyncIterator[Referee]:
    """A referee with peers that run."""
    with tempfile.TemporaryDirectory(prefix="fluvial-attack-") as temporary:
        folder = Path(temporary)
        variables = environment(folder / "caches")
        seats, keys = _ledgers(name, folder)
        other = PeerProcess(
            folder / "other", variables, **SEATS, **seats[0], keys=keys[0], routing={"kind": "kademlia"}
        )
        target = PeerProcess(
            folder / "target",
            variables,
            **SEATS,
            **seats[1],
            keys=keys[1],
            routing={"kind": "kademlia", "peers": [other.address]},
            storage={"bytes_max": DISK_BYTES_MAX},
        )
        try:
            other.start()
            target.start()
            async with connect(target.address, network=NETWORK) as honest:
                yield Referee(
                    name,
                    seed,
                    seconds,
                    folder=folder,
                    target=target,
                    other=other,
                    honest=honest,
                    variables={**variables, "PYTHONPATH": os.getcwd()},
                )
        finally:
            target.close()
            other.close()


def _ledgers(name: str, folder: Path) -> tuple[Sequence[Mapping[str, Mapping[str, Any]]], Sequence[KeyPair]]:
    """What the settings of the other peer and of the target have for a ledger, if the attack is on one; and their keys."""
    keys = KeyPair.generate(), KeyPair.generate()
    if name not in LEDGERS:
        return ({}, {}), keys
    validator = keys[name in ON_VALIDATORS].peer_id
    return [ledger_seats(folder, validator, validates=one.peer_id == validator, attack=name) for one in keys], keys


def _rss_mb(pid: int) -> int:
    with suppress(OSError):
        status = Path(f"/proc/{pid}/status").read_text()
        return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmRSS")), 0)
    return 0


def _cpu_s(pid: int) -> float:
    """What a process has used of the processor so far."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _bytes(path: Path) -> int:
    """Of a file, or of all files in a folder; they may come and go meanwhile."""
    count = 0
    for folder, _, files in [*os.walk(path)] or [(path.parent, (), (path.name,))]:
        for name in files:
            with suppress(OSError):
                count += (Path(folder) / name).stat().st_size
    return count
