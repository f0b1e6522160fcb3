"""An attacker as a process: ``python -m tests.attacks.attacker NAME TARGET OTHER SEED REPORT``; attacks until SIGTERM."""

from __future__ import annotations

import json
import random
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio
from fluvial.client import connect
from fluvial.telemetry import make_logger

from tests.attacks.arena import GONE, Arena, Opponent
from tests.attacks.attempts import ATTACKS
from tests.support.processes import NETWORK

AGAIN_S: Final = 0.2
"""Before an attacker that lost its connection begins anew."""


async def attack(name: str, target: str, other: str, seed: int, report: Path) -> None:
    """Attack until SIGTERM, then write down what was counted."""
    async with anyio.create_task_group() as tasks:
        arenas: list[Arena] = []
        tasks.start_soon(_lives, name, target, other, random.Random(seed), arenas)
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            _write(report, arenas)
            async for _ in signals:
                break
        _write(report, arenas)
        tasks.cancel_scope.cancel()
    _write(report, arenas)


def _write(report: Path, arenas: Sequence[Arena]) -> None:
    receipts = sum((arena.receipts for arena in arenas), Counter[str]())
    violations = [one for arena in arenas for one in arena.violations]
    report.write_text(json.dumps({"receipts": receipts, "violations": violations}))


async def _lives(name: str, target: str, other: str, rng: random.Random, arenas: list[Arena]) -> None:
    """One life of the attacker after another, each with keys of its own."""
    quiet = make_logger(log_format="json", log_level="error")
    while True:
        try:
            async with connect(target, network=NETWORK, log=quiet) as attacker:
                arenas.append(Arena(Opponent(target), Opponent(other), attacker, rng))
                await ATTACKS[name](arenas[-1])
        except* GONE:
            await anyio.sleep(AGAIN_S)


if __name__ == "__main__":
    anyio.run(attack, sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), Path(sys.argv[5]))
