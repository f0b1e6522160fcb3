"""A machine like the real one, but for its evaluator, which is the plain one."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from fluvial.air.data.facts import Fact, Instance, instances_of
from fluvial.air.machine import machine as incremental
from fluvial.air.machine.errors import Catchable, too_much
from fluvial.air.machine.findings import Observer, Wait
from fluvial.air.machine.knowledge import Knowledge
from fluvial.air.machine.operands import Environment
from fluvial.air.machine.scopes import StreamKey
from fluvial.air.machine.slices import Clock
from fluvial.air.machine.values import Value
from fluvial.air.syntax.tree import Script

from tests.reevaluating.evaluation import Evaluation
from tests.reevaluating.findings import Findings
from tests.reevaluating.streams import StreamMemory

MERGE_VISITS_MAX = 5_000_000
"""Instructions that may be executed in all steps of one particle together."""


class NoMeter:
    """Memory is none of its business."""

    held = 0

    def due(self, most: int) -> bool:
        return False


class Reevaluator:
    """Walks the whole script in every step; has the interface of the incremental evaluator."""

    paused = False

    def __init__(
        self,
        script: Script,
        environment: Environment,
        knowledge: Knowledge,
        in_flight: Container[tuple[bytes, int]],
        observer: Observer | None = None,
    ) -> None:
        self.knowledge = knowledge
        self.memory = NoMeter()
        self.error: Catchable | None = None
        self._script = script
        self._environment = environment
        self._in_flight = in_flight
        self._memories: dict[StreamKey, StreamMemory] = {}
        self._read: dict[tuple[Instance, str], Any] = {}
        self._written: dict[tuple[StreamKey, Instance], Value] = {}
        self._findings = Findings()
        self._visits = 0
        self._taken: list[Fact] = []
        self._acts = False

    def allow(self, steps: int, clock: Clock) -> None:
        """Slices are none of its business."""

    def dismantle(self) -> Iterable[None]:
        return ()

    def begin_step(self, facts: Iterable[Fact], signer: str, *, act: bool) -> None:
        self.take(facts, signer)
        self._acts = act

    def run(self) -> bool:
        self.step(act=self._acts)
        return True

    def take_findings(self) -> Findings:
        return self._findings

    def take(self, facts: Iterable[Fact], signer: str) -> None:
        for fact in facts:
            self.knowledge.add(fact, signer)
            self._taken.append(fact)

    def step(self, *, act: bool) -> Findings:
        evaluation = self._evaluate(self._taken, act=act)
        self._taken = []
        self.error = None
        try:
            evaluation.run()
        except Catchable as error:
            self.error = error
        self._findings = evaluation.findings
        self._visits += self._findings.visits
        if self._visits > MERGE_VISITS_MAX:
            raise too_much("instructions to repeat", MERGE_VISITS_MAX)
        return self._findings

    def _evaluate(self, facts: Iterable[Fact], *, act: bool) -> Evaluation:
        """The evaluation of a step, not run yet."""
        fresh = frozenset(instance for fact in facts for instance in instances_of(fact)) if act else frozenset()
        return Evaluation(
            self._script,
            self._environment,
            self.knowledge,
            self._memories,
            self._read,
            self._written,
            self._in_flight,
            act=act,
            fresh=fresh,
        )

    @property
    def finished(self) -> bool:
        return not self._findings.waits

    def waits(self) -> Sequence[Wait]:
        return self._findings.waits


class Machine(incremental.Machine):
    """The plain form of the machine."""

    evaluator = Reevaluator  # type: ignore[assignment]  # the same interface, no common base

    def needs(self, peer: str) -> None:
        """It leaves nothing out."""
