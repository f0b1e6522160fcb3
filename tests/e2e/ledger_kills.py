"""Four validators as processes, killed with ``kill -9`` in a loop while transactions come in: no fork, no final block lost, and the ledger goes on.

What is final is read from the databases themselves: every block that any of them has ever shown as final must stay, and be the same at all.

::

    python -m tests.e2e.ledger_kills --seconds 300 --seed 7 [--algorithm dag]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, Final

import anyio
import msgspec
from fluvial.addresses import Contact
from fluvial.config import from_values, load
from fluvial.consensus.wire import BlockEntry
from fluvial.encoding import decode, encode
from fluvial.errors import FluvialError
from fluvial.hosting.genesis_file import read_genesis
from fluvial.hosting.offer_lines import TRANSACTIONS
from fluvial.hosting.testnet import MadeTestnet, TestnetPlan, make_testnet
from fluvial.identity import KeyPair
from fluvial.ledger.transactions import TransferUnits, decode_payload, sign_transaction
from fluvial.node import Node, running

from tests.support.processes import free_ports

NAME: Final = "kills"
CATCH_UP_S: Final = 120.0
PENDING_MAX: Final = 50
"""Transactions that are handed over and in no block yet."""
AGAIN_S: Final = 3.0


class LedgerProcesses:
    """The four processes, and what their databases have shown so far.

    Args:
        folder: where they are made.
        algorithm: the engine.
        variables: the environment of the processes.
        validators: how many processes.
        settings: further ones of all, as ``section.key=value``.
    """

    def __init__(
        self,
        folder: Path,
        algorithm: str,
        variables: Mapping[str, str],
        *,
        validators: int = 4,
        settings: Sequence[str] = (),
    ) -> None:
        self.plan: Final = TestnetPlan(
            name=NAME,
            validators=validators,
            algorithm=algorithm,
            first_port=free_ports(validators),
            delta_ms=200,
            idle_ms=200,
            time_ms=time.time_ns() // 1_000_000,
        )
        self.made: Final[MadeTestnet] = make_testnet(folder / "net", self.plan)
        self.genesis: Final = read_genesis(self.made.genesis)
        self.seen: dict[int, bytes] = {}
        self.heights = [0] * validators
        self.transactions: set[bytes] = set()
        self._variables = dict(variables)
        self._processes: list[subprocess.Popen[bytes] | None] = [None] * validators
        self._settings = tuple(settings)

    def start(self, number: int, *settings: str) -> None:
        """Start a validator, with further settings; it is up when :meth:`contact` answers."""
        home = self.made.folders[number][0]
        with (home / "log").open("ab") as log:
            command = [sys.executable, "-m", "fluvial", *self._words(home, *settings), "run"]
            self._processes[number] = subprocess.Popen(command, stdout=log, stderr=log, env=self._variables)

    def _words(self, home: Path, *settings: str) -> Sequence[str]:
        words = ["--config", str(home / "fluvial.toml")]
        return [*words, *(word for one in (*self._settings, *settings) for word in ("--set", one))]

    def kill(self, number: int) -> None:
        """``kill -9``."""
        process, self._processes[number] = self._processes[number], None
        assert process is not None
        assert process.poll() is None, self.log(number)
        process.kill()
        process.wait()

    def close(self) -> None:
        """End all."""
        for process in self._processes:
            if process is not None:
                process.kill()
                process.wait()

    def log(self, number: int) -> str:
        """The end of a validator's log."""
        return (self.made.folders[number][0] / "log").read_text(errors="replace")[-3_000:]

    def contact(self, number: int) -> Contact:
        """Where a validator listens."""
        port = self.plan.first_port + number
        return Contact.configured(f"/ip4/127.0.0.1/tcp/{port}/p2p/{self.made.folders[number][1]}")

    def look(self, number: int) -> int:
        """Read what is new in a validator's database, and hold it against all that was ever seen; returns its height."""
        path = self.made.folders[number][0] / "state" / "fluvial.db"
        if not path.exists():
            return 0
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
                rows = database.execute(
                    "SELECT height, entry FROM consensus_blocks WHERE height > ? ORDER BY height",
                    (self.heights[number],),
                ).fetchall()
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return 0
        for height, entry in rows:
            block = msgspec.msgpack.decode(entry, type=BlockEntry).block
            assert height == self.heights[number] + 1, f"validator {number + 1} lacks block {self.heights[number] + 1}"
            known = self.seen.setdefault(height, block.id)
            assert known == block.id, f"a fork at height {height}, seen at validator {number + 1}"
            if block.payload:
                self.transactions.update(decode_payload(block.payload))
            self.heights[number] = height
        return self.heights[number]

    def verify_again(self) -> None:
        """Read all databases from the beginning: nothing that was final may be gone."""
        before, highest = dict(self.seen), max(self.seen, default=0)
        self.heights = [0] * 4
        for number in range(4):
            self.look(number)
        assert self.seen.items() >= before.items()
        assert max(self.heights) >= highest, f"block {highest} was final, and no validator has it any more"

    async def until(self, number: int, height: int, *, within_s: float = CATCH_UP_S) -> float:
        """Wait until a validator has so many blocks; returns how many seconds it took."""
        began = time.monotonic()
        while self.look(number) < height:
            process = self._processes[number]
            assert process is not None
            assert process.poll() is None, self.log(number)
            late = f"validator {number + 1} is at {self.heights[number]} of {height}\n{self.log(number)}"
            assert time.monotonic() < began + within_s, late
            await anyio.sleep(0.1)
        return time.monotonic() - began


@asynccontextmanager
async def stranger(folder: Path) -> Any:
    """A node that only dials, for handing over transactions."""
    values = {
        "network": NAME,
        "storage": {"url": "memory://"},
        "blobs": {"folder": ""},
        "telemetry": {"log_level": "error"},
    }
    async with running(load(from_values(values, base_dir=folder)), keys=KeyPair.generate()) as node:
        yield node


async def keep_submitting(node: Node, network: LedgerProcesses, accepted: list[bytes]) -> None:
    """Hand over transfers of the administrator to whichever validator answers, in the order of their nonces, until cancelled.

    What a validator has accepted and is in no block yet goes with it when it is killed: as any client has to, hand it over again then.
    """
    keys = KeyPair.load(network.made.administrator)
    pending: dict[bytes, float] = {}
    turn = nonce = 0
    while True:
        now = time.monotonic()
        pending = {signed: at for signed, at in pending.items() if signed not in network.transactions}
        late = next((signed for signed, at in pending.items() if now - at > AGAIN_S), None)
        if late is None and len(pending) < PENDING_MAX:
            late = sign_transaction(keys, network.genesis.chain, nonce, TransferUnits(bytes(31) + b"\1", 1))
            nonce += 1
        if late is not None:
            turn += 1
            taken = await _handed_over(node, network.contact(turn % 4), late)
            if taken and late not in accepted:
                accepted.append(late)
            pending[late] = now if taken else 0.0
        await anyio.sleep(0.05)


async def _handed_over(node: Node, validator: Contact, signed: bytes) -> bool:
    """Whether a validator takes a transaction."""
    try:
        answer = await node.assembly.peers.request(validator, TRANSACTIONS, encode([signed]), timeout_s=2)
    except FluvialError:
        return False
    (reason,) = decode(answer, list[str], what="answer")
    return not reason


async def torment(network: LedgerProcesses, folder: Path, *, seconds: float, seed: int) -> dict[str, Any]:
    """Kill one and all in turn for some time, then see that everything is there and goes on. Raises AssertionError."""
    rng = random.Random(seed)
    accepted: list[bytes] = []
    caught_up: list[float] = []
    kills, stood_still = 0, 0.0
    for number in range(4):
        network.start(number)
    for number in range(4):
        await network.until(number, 3)
    end = time.monotonic() + seconds
    async with stranger(folder) as node, anyio.create_task_group() as tasks:
        tasks.start_soon(keep_submitting, node, network, accepted)
        while time.monotonic() < end or kills < 5:
            victims = range(4) if kills % 5 == 4 else [rng.randrange(4)]
            await anyio.sleep(rng.uniform(0, 2))
            for number in victims:
                network.kill(number)
            kills += 1
            network.verify_again()
            await anyio.sleep(rng.uniform(0, 2) if len(victims) == 1 else 0)
            height = max(map(network.look, range(4)))
            for number in victims:
                network.start(number)
            caught_up += [await network.until(number, height) for number in victims]
            # Only a ledger that goes on in between takes transactions: else the next kill would meet one that has not come to itself.
            stood_still = max(stood_still, await network.until(victims[0], max(map(network.look, range(4))) + 1))
        tasks.cancel_scope.cancel()
    height = max(map(network.look, range(4)))
    for number in range(4):
        await network.until(number, height + 3)
    network.verify_again()
    done = sum(one in network.transactions for one in accepted)
    assert done > 0, "no transaction has come into a block"
    return {
        "algorithm": network.plan.algorithm,
        "seed": seed,
        "kills": kills,
        "height": min(network.heights),
        "transactions": len(network.transactions),
        "caught_up_s_median": round(median(caught_up), 2),
        "caught_up_s_max": round(max(caught_up), 2),
        "next_block_s_max": round(stood_still, 2),
        "accepted": len(accepted),
        "accepted_and_done": done,
    }


@contextmanager
def processes(folder: Path, algorithm: str, variables: Mapping[str, str], **more: Any) -> Iterator[LedgerProcesses]:
    """The processes, ended in any case; arguments as of :class:`LedgerProcesses`."""
    network = LedgerProcesses(folder, algorithm, variables, **more)
    try:
        yield network
    finally:
        network.close()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run for some time, and print one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--algorithm", default="simplex")
    parser.add_argument("--snapshot-blocks", type=int, default=20)
    asked = parser.parse_args(arguments)
    settings = [f"ledger.snapshot_blocks={asked.snapshot_blocks}"]
    with (
        tempfile.TemporaryDirectory() as name,
        processes(Path(name), asked.algorithm, os.environ, settings=settings) as network,
    ):
        print(json.dumps(anyio.run(run, network, Path(name), asked.seconds, asked.seed)))


async def run(network: LedgerProcesses, folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """:func:`torment` for ``anyio.run``."""
    return await torment(network, folder, seconds=seconds, seed=seed)


if __name__ == "__main__":
    main()
