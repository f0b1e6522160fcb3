"""The incremental evaluator of one particle on one peer: steps over its runtime.

A step takes in facts, wakes what waits for them, and gives turns until nothing is left to do. Nothing is ever evaluated a second time.
Source: AIR semantics as of AquaVM 0.62 (docs/air.md), over facts instead of a trace (docs/data.md).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from fluvial.air.data.facts import Closed, Fact, Instance
from fluvial.air.data.pace import Found
from fluvial.air.machine.activations import StreamFoldActivation
from fluvial.air.machine.assignments import perform_ap, perform_ap_map
from fluvial.air.machine.calls import perform_call
from fluvial.air.machine.canons import perform_canon
from fluvial.air.machine.control import (
    perform_never,
    perform_new,
    perform_null,
    perform_par,
    perform_seq,
    perform_test,
    perform_xor,
)
from fluvial.air.machine.errors import Catchable
from fluvial.air.machine.exchange import Needs
from fluvial.air.machine.findings import TAKEN, Findings, Observer, Wait
from fluvial.air.machine.folds import perform_fold, perform_next
from fluvial.air.machine.half_failed import HalfFailed
from fluvial.air.machine.knowledge import Knowledge
from fluvial.air.machine.liveness import LivenessAnalysis
from fluvial.air.machine.memory import MemoryMeter, dismantle
from fluvial.air.machine.operands import Environment
from fluvial.air.machine.runtime import Performer, Runtime
from fluvial.air.machine.slices import NO_CLOCK, Clock
from fluvial.air.machine.throwing import perform_fail_literal, perform_fail_value
from fluvial.air.syntax import tree

PERFORMERS: Final[Mapping[type[tree.Instruction], Performer]] = {
    tree.Ap: perform_ap,
    tree.ApMap: perform_ap_map,
    tree.CallInstruction: perform_call,
    tree.Canon: perform_canon,
    tree.FailLiteral: perform_fail_literal,
    tree.FailValue: perform_fail_value,
    tree.Fold: perform_fold,
    tree.Match: perform_test,
    tree.Mismatch: perform_test,
    tree.Never: perform_never,
    tree.New: perform_new,
    tree.Next: perform_next,
    tree.Null: perform_null,
    tree.Par: perform_par,
    tree.Seq: perform_seq,
    tree.Xor: perform_xor,
}
"""What activations do in a turn, by kind of instruction."""


FACTS_PER_SLICE: Final = 500
"""Facts that are taken in without looking whether the slice is over."""


class Evaluator:
    """The activations of one particle on one peer.

    Args:
        script: the checked script.
        environment, knowledge: what the script may know.
        in_flight: the calls that the services of this peer work on; kept by the owner.
        observer: is shown every call and canon that is reached, and every failure that is reported to another peer.

    Attributes:
        memory: what all of it holds.
    """

    __slots__ = ("_facts", "_half_failed", "_liveness", "_signer", "knowledge", "memory", "runtime")

    def __init__(
        self,
        script: tree.Script,
        environment: Environment,
        knowledge: Knowledge,
        in_flight: Collection[tuple[bytes, int]],
        observer: Observer | None = None,
    ) -> None:
        self.knowledge: Final = knowledge
        self.runtime: Final = Runtime(script, environment, knowledge, in_flight, PERFORMERS, observer)
        self._half_failed: HalfFailed | None = None  # most particles have none
        self.memory: Final = MemoryMeter(self.runtime)
        self.runtime.agenda.push(self.runtime.root)
        self._facts: Iterator[Sequence[Fact]] | None = None  # portions that are to be taken in
        self._signer = ""
        self._liveness: LivenessAnalysis | None = None

    def take(self, facts: Sequence[Fact], signer: str) -> None:
        """Take in facts of a signer, to be looked at in the next step; raises Uncatchable 20100 when they are too many."""
        self._liveness = None
        self.runtime.take(facts, signer)

    def begin_step(self, facts: Sequence[Fact], signer: str, *, act: bool) -> None:
        """Begin a step: take in facts of a signer, and go on with all that was taken in. The step is made by :meth:`run`.

        Args:
            facts: the facts.
            signer: who signed them.
            act: whether calls may be requested, canons fixed and peers named now. Without it they are postponed.

        Raises:
            Uncatchable: as :meth:`run`.
        """
        runtime = self.runtime
        self._liveness = None
        if len(facts) > FACTS_PER_SLICE or Closed in map(type, facts):
            self._facts, self._signer = _portions(facts), signer
        elif facts:
            runtime.take(facts, signer)
        runtime.begin_step(act=act)

    def run(self) -> bool:
        """Go on with the step until it or the slice is over; whether the step has ended. Then its results are in ``findings``.

        Raises:
            Uncatchable: the evaluator cannot be used any more; what came must be undone.
        """
        for portion in self._facts or ():
            self.runtime.take(portion, self._signer)
            if self.runtime.charge(FACTS_PER_SLICE):
                return False
        self._facts = None
        if not self.runtime.run():
            return False
        if self._half_failed is None and self.runtime.half_failed:
            self._half_failed = HalfFailed(self.runtime)
        if self._half_failed is not None and (self.runtime.half_failed or self._half_failed.busy):
            return self._half_failed.report()
        return True

    @property
    def paused(self) -> bool:
        """Whether the slice is over."""
        return self.runtime.paused

    def take_findings(self) -> Findings:
        """The results of the last step, which are forgotten here: they are of no use to who waits."""
        found, self.runtime.findings = self.runtime.findings, TAKEN
        return found

    def allow(self, steps: int, clock: Clock = NO_CLOCK) -> None:
        """As :meth:`Runtime.allow`."""
        self.runtime.allow(steps, clock)

    @property
    def error(self) -> Catchable | None:
        """What ended the script, if something did that nothing caught."""
        return self.runtime.root.error

    @property
    def finished(self) -> bool:
        """Whether no fact can change anything any more."""
        return self.runtime.waiters.nobody

    def dismantle(self) -> Iterator[None]:
        """Give back the memory, in slices; the evaluator cannot be used any more."""
        self._liveness = None
        if self._half_failed is not None:
            self._half_failed.clear()
        yield from dismantle(self.runtime)

    def finding_needs(self, peer: str) -> Found[Needs]:
        """What the rest of the flow needs at a peer of the values that are known now, found in slices; nothing else may be done meanwhile."""
        if not self.knowledge.large:
            return Needs(frozenset(), {})
        liveness = self._liveness = self._liveness or LivenessAnalysis(self.runtime)
        return (yield from liveness.of(peer))

    def awaits(self, peer: str) -> bool:
        """As :meth:`Waiters.awaits`."""
        return self.runtime.waiters.awaits(peer)

    def awaited(self) -> Mapping[Instance, str]:
        """As :meth:`Waiters.awaited`."""
        return self.runtime.waiters.awaited()

    def waits(self) -> Sequence[Wait]:
        """Describe for people what waits now, in the order of positions."""
        runtime = self.runtime
        dry: list[StreamFoldActivation] = [fold for stream in runtime.streams.values() for fold in stream.dry()]
        return runtime.waiters.waits(runtime.me, dry)


def _portions(facts: Sequence[Fact]) -> Iterator[Sequence[Fact]]:
    """Facts in portions that are taken in without looking whether the slice is over; a fact about very many calls comes in several."""
    portion: list[Fact] = []
    left = FACTS_PER_SLICE
    for fact in facts:
        more = _closed_in_parts(fact) if type(fact) is Closed and len(fact.nodes) > 1 else (fact,)
        for part in more:
            portion.append(part)
            left -= len(part.nodes) if type(part) is Closed else 1
            if left <= 0:
                yield portion
                portion, left = [], FACTS_PER_SLICE
    if portion:
        yield portion


def _closed_in_parts(fact: Closed) -> Iterator[Closed]:
    nodes = fact.nodes
    for begin in range(0, len(nodes), FACTS_PER_SLICE):
        yield replace(fact, nodes=nodes[begin : begin + FACTS_PER_SLICE])
