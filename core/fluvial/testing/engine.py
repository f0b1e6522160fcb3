"""The conformance kit for consensus engines: subclass it, say which algorithm is yours, run pytest.

::

    class TestSimplex(EngineConformance):
        @pytest.fixture
        def algorithm(self):
            return Algorithm(name="simplex", make=make, options=Options(), traits=TRAITS)

An engine is a pure machine, so the kit needs no event loop: it plays schedules in the laboratory (``fluvial.consensus.lab``), which judges each run.
Its validators are honest, but messages come late and twice, and validators restart with what their disks have kept. Liars are for schedules of
one's own (``fluvial lab consensus run``).
"""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

import pytest

from fluvial.consensus.engine import ConsensusEngine, EngineSetup
from fluvial.consensus.lab.keys import keys_of, verify_once
from fluvial.consensus.lab.play import play
from fluvial.consensus.lab.run import Algorithm
from fluvial.consensus.lab.schedule import Crash, FaultSchedule, Load, NetworkSection, Role
from fluvial.ledger.blocks import Anchor
from fluvial.ledger.statements import Validator, ValidatorSet
from fluvial.testing.part import check

DOORS_TO_THE_WORLD: Final = frozenset(
    [
        "anyio",
        "asyncio",
        "concurrent",
        "httpx",
        "multiprocessing",
        "os",
        "random",
        "requests",
        "secrets",
        "socket",
        "sqlalchemy",
        "sqlite3",
        "ssl",
        "subprocess",
        "threading",
        "time",
        "uuid",
    ]
)
"""Modules with I/O, a clock or randomness, which a pure machine must not use."""

DISKS: Final[tuple[Literal["lose_unsynced", "torn", "keep"], ...]] = ("lose_unsynced", "torn", "keep")
"""What the crashes of the kit leave of a disk, one after the other."""


def engine_of(algorithm: Algorithm, *, validators: int = 4, me: int = 0) -> ConsensusEngine:
    """One engine that has not started, for tests that speak to it directly."""
    keys = [keys_of(f"node {number}") for number in range(validators)]
    setup = EngineSetup(
        me=keys[me].peer_id,
        sign=keys[me].sign,
        verify=verify_once,
        chain=bytes(32),
        epoch=0,
        validators=ValidatorSet(Validator(str(one.peer_id)) for one in keys),
        anchor=Anchor(0, 0, bytes(32), bytes(32), 0),
        delta_ms=100,
    )
    return algorithm.make(setup, algorithm.options)


class EngineConformance:
    """What every engine must do. The one fixture to give is ``algorithm``."""

    validators: ClassVar[int] = 4
    seeds: ClassVar[Sequence[int]] = (1, 2)
    within_ms: ClassVar[int] = 6_000
    """Time in which payments of the first second must be committed by all when nothing is wrong; messages take up to 100 ms."""
    restarts: ClassVar[bool] = True
    """Whether it goes on after its validators have restarted, one after the other."""

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        """The algorithm under test."""
        raise NotImplementedError(f"{type(self).__name__} must define the fixture `algorithm`")

    def play(self, algorithm: Algorithm, *, seed: int, **changes: Any) -> dict[str, Any]:
        """The report of a run in which each validator gets a payment every 100 ms for a second; it must pass."""
        expected = {
            "txs_committed_by_ms": [{"submitted_until": 1_000, "by": self.within_ms}],
            "evidence": {"must": []},
        }
        values: dict[str, Any] = {
            "format": "fluvial-consensus-schedule/1",
            "name": "conformance",
            "validators": self.validators,
            "delta_ms": 100,
            "end_ms": self.within_ms,
            "network": NetworkSection(delay_ms=(10, 100)),
            "workload": [Load(until_ms=1_000, every_ms=100, to=[one], account=one) for one in range(self.validators)],
            "expect": expected,
        }
        report = play(FaultSchedule(**{**values, **changes}), algorithm, seed)
        bad = [f"{one['check']}: {one['detail']}" for one in report["verdicts"] if not one["ok"]]
        check(not bad, f"seed {seed}: {'; '.join(bad)}")
        return report

    def test_it_reaches_for_nothing(self, algorithm: Algorithm) -> None:
        """No I/O, no clock and no chance of its own: its module imports nothing that has them."""
        engine = engine_of(algorithm)
        file = inspect.getsourcefile(type(getattr(engine, "_simple", engine)))
        check(file is not None, f"the source of {type(engine).__name__} cannot be found")
        tree = ast.parse(Path(str(file)).read_text(encoding="utf-8"))
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        reached = sorted(name for name in imported if name.partition(".")[0] in DOORS_TO_THE_WORLD)
        check(not reached, f"{file} imports {', '.join(reached)}; an engine gets the time and gives effects")

    def test_it_can_be_copied(self, algorithm: Algorithm) -> None:
        """Model checkers fork engines; a copy does what the original does."""
        engine = engine_of(algorithm)
        other = copy.deepcopy(engine)
        check(list(engine.start([], 0)) == list(other.start([], 0)), "a copy of the engine starts differently")

    def test_everybody_commits_what_was_submitted(self, algorithm: Algorithm) -> None:
        """Once, in one order, whoever it was submitted to."""
        for seed in self.seeds:
            self.play(algorithm, seed=seed)

    def test_the_same_inputs_have_the_same_effects(self, algorithm: Algorithm) -> None:
        """In the same order: whatever is iterated over has an order."""
        network = NetworkSection(delay_ms=(10, 100), duplicate=0.2)
        traces = [self.play(algorithm, seed=self.seeds[0], network=network)["trace"] for _ in range(2)]
        check(traces[0] == traces[1], "two runs of one seed differ")

    def test_messages_may_come_twice(self, algorithm: Algorithm) -> None:
        """Nothing is committed twice for that."""
        for seed in self.seeds:
            self.play(algorithm, seed=seed, network=NetworkSection(delay_ms=(10, 100), duplicate=0.5))

    def test_it_never_contradicts_itself_after_a_restart(self, algorithm: Algorithm) -> None:
        """From its records alone, with everything lost that was not synced, however it was cut off."""
        crashes = [
            Crash(
                node=node, at_ms=300 + 370 * turn + 60 * node, restart_ms=310 + 370 * turn + 60 * node + node, disk=disk
            )
            for turn, disk in enumerate(DISKS)
            for node in range(self.validators)
        ]
        expected: dict[str, Any] = {"evidence": {"must": []}}
        if self.restarts:
            expected["progress"] = [{"after": 2_000, "within_deltas": 30, "commits": 2}]
        for seed in self.seeds:
            self.play(
                algorithm, seed=seed, fsync_ms=3, faults=crashes, expect=expected, workload=[Load(until_ms=3_000)]
            )

    def test_garbage_breaks_nothing(self, algorithm: Algorithm) -> None:
        """Bytes that mean nothing, next to each message of one validator, which is honest otherwise."""
        role = Role(node=self.validators - 1, role="garbage", size=100)
        self.play(algorithm, seed=self.seeds[0], byzantine=[role])
