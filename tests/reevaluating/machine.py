"""The AIR machine of one particle on one peer: pure, deterministic, without I/O, clock or randomness.

Batches of other peers and outcomes of own calls go in, effects come out. All state is rebuilt from the records in the effects, in
their order, with the same outcome (:meth:`Machine.restore`).

*Steps*: received batches are taken in step by step, in their signer's order, each followed by an evaluation that does not act; so
a peer that comes late gets the same order of stream elements as the signer. Then one evaluation acts: it may request calls, fix
canons and name next peers; the facts it adds are this peer's own step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from fluvial.air.data.batch import Batch, BatchId, Known, MissingError, unroll
from fluvial.air.data.content import ContentId, Json, content_id
from fluvial.air.data.facts import Fact, Failure, Instance, Item, Outcome, Result, Step
from fluvial.air.data.log import Merged, Record, Sealed, Stepped
from fluvial.air.machine.errors import Catchable, Uncatchable, too_much
from fluvial.air.machine.findings import Request, Wait
from fluvial.air.machine.knowledge import Knowledge
from fluvial.air.machine.machine import CallOutcome, Effects, Failed
from fluvial.air.machine.operands import Environment
from fluvial.air.syntax.tree import Script
from fluvial.identity import PeerId

from tests.reevaluating.evaluation import DEPTH_MAX, Evaluation
from tests.reevaluating.findings import Findings
from tests.reevaluating.scopes import StreamKey
from tests.reevaluating.streams import StreamMemory

MERGE_VISITS_MAX: Final = 5_000_000
"""Instructions that may be executed while the steps of one arrival are repeated: each step is evaluated, and there may be many."""

PYTHON_FRAMES_PER_LEVEL: Final = 6
"""Python calls per nested instruction, with a margin; CPython 3.11 keeps them off the C stack."""


@dataclass(slots=True)
class _State:
    """All that a run changes."""

    knowledge: Knowledge = field(default_factory=Knowledge)
    memories: dict[StreamKey, StreamMemory] = field(default_factory=dict)
    batches: dict[BatchId, Batch] = field(default_factory=dict)
    unsealed: list[Item] = field(default_factory=list)
    unseen: list[BatchId] = field(default_factory=list)
    """Batches that came in after the last own step."""


class Machine:
    """See the module's docstring.

    Args:
        script: the checked script.
        particle: the particle's key, 32 bytes.
        me: the peer on which it runs.
        initiator, timestamp_ms, ttl_ms: of the particle.
    """

    def __init__(
        self, script: Script, particle: bytes, me: PeerId, *, initiator: str, timestamp_ms: int, ttl_ms: int
    ) -> None:
        self._script = script
        self._particle = particle
        self._me = me
        self._environment = Environment(str(me), str(initiator), timestamp_ms, ttl_ms)
        self._state = _State()
        self._log: list[Record] = []
        self._in_flight: dict[Instance, Request] = {}

    # --- inputs

    def merge(self, known: Known) -> Effects:
        """Take in what came with the particle (nothing, at its beginning and after a restart) and go on.

        Raises:
            RemoteProtocolError: a batch names another one that neither came with it nor is here; nothing was taken in.
        """
        fresh = {batch.id: batch for batch in known.batches if batch.id not in self._state.batches}
        steps = list(unroll(fresh, self._state.batches.keys()))
        merged: list[Record] = []
        if fresh:
            needed = set().union(*(batch.contents() for batch in fresh.values()))
            if needed - known.contents.keys() - self._state.knowledge.contents.keys():
                raise MissingError("a batch speaks of a value that is not here")
            contents = tuple(known.contents[key] for key in sorted(needed & known.contents.keys()))
            merged.append(Merged(tuple(batch.signed for batch in fresh.values()), contents))
        try:
            self._state.knowledge.learn(known.contents)
            self._take_in(fresh, steps)
            return self._act(merged, (), {})
        except Uncatchable as error:
            # As if the particle had not come.
            self._rebuild()
            return Effects(error=error)

    def resolve(self, outcomes: Mapping[Instance, CallOutcome]) -> Effects:
        """Take in outcomes of requests, by instance, and go on. Unknown ones are a bug of the host (KeyError)."""
        facts: list[Outcome] = []
        contents: dict[ContentId, Json] = {}
        for instance, outcome in outcomes.items():
            facts.append(self._fact(self._in_flight.pop(instance), outcome, contents))
        self._state.knowledge.learn(contents)
        for fact in facts:
            self._state.knowledge.add(fact, self._me)
        try:
            return self._act([], facts, contents)
        except Uncatchable as error:
            # The run is undone, but what the services answered stays: else a repeated particle would call them again.
            record = Stepped(tuple(facts), tuple(contents.values()), evaluated=False)
            self._log.append(record)
            self._rebuild()
            return Effects(records=(record,), error=error)

    def seal(self, sign: Callable[[bytes], bytes]) -> Record | None:
        """Sign the own steps since the last seal, when the particle leaves; None if there are none. The record must be stored."""
        if not self._state.unsealed:
            return None
        record = Sealed(Batch.seal(self._particle, self._me, self._state.unsealed, sign).signed)
        self._log.append(record)
        self._sealed(record)
        return record

    @classmethod
    def restore(
        cls,
        script: Script,
        particle: bytes,
        me: PeerId,
        records: Sequence[Record],
        *,
        initiator: str,
        timestamp_ms: int,
        ttl_ms: int,
    ) -> Machine:
        """The machine as it was when these records were written, without the calls that were in flight.

        ``merge`` with nothing asks for those calls again.
        """
        machine = cls(script, particle, me, initiator=initiator, timestamp_ms=timestamp_ms, ttl_ms=ttl_ms)
        machine._log = list(records)
        machine._rebuild()
        return machine

    # --- what travels

    def batches(self) -> Sequence[Batch]:
        """All batches known here, each after those that its steps name."""
        return tuple(self._state.batches.values())

    def contents(self) -> Mapping[ContentId, Json]:
        """The values that facts speak of, and more."""
        return self._state.knowledge.contents

    def waits(self) -> Sequence[Wait]:
        """What waits now."""
        return self._evaluate(act=False)[0].waits

    # --- runs

    def _act(self, merged: list[Record], facts: Sequence[Outcome], contents: Mapping[ContentId, Json]) -> Effects:
        findings, error = self._evaluate(act=True)
        records = list(merged)
        all_facts = (*facts, *findings.facts)
        if all_facts or not (self._log or merged):
            step = Stepped(all_facts, tuple({**contents, **findings.contents}.values()))
            self._stepped(step)
            records.append(step)
        self._log.extend(records)
        for request in findings.requests:
            self._in_flight[request.instance] = request
        return Effects(
            records=tuple(records),
            requests=tuple(findings.requests),
            next_peers=tuple(findings.next_peers),
            error=error,
            finished=not findings.waits and not self._in_flight,
        )

    def _evaluate(self, *, act: bool) -> tuple[Findings, Catchable | None]:
        in_flight = set(self._in_flight)
        evaluation = Evaluation(
            self._environment,
            self._state.knowledge,
            self._state.memories,
            in_flight,
            act=act,
        )
        error = None
        with _deep_recursion():
            try:
                evaluation.run(self._script)
            except Catchable as caught:
                error = caught
        return evaluation.findings, error

    def _fact(self, request: Request, outcome: CallOutcome, contents: dict[ContentId, Json]) -> Outcome:
        frame, node = request.instance
        if isinstance(outcome, Failed):
            return Failure(
                frame, node, request.service, request.function, request.names, outcome.status, outcome.message
            )
        value = content_id(outcome.value)
        contents[value] = outcome.value
        return Result(frame, node, request.service, request.function, request.names, value)

    # --- steps

    def _take_in(self, fresh: Mapping[BatchId, Batch], steps: Sequence[tuple[Batch, list[Fact]]]) -> None:
        visits = 0
        for batch, facts in steps:
            for fact in facts:
                self._state.knowledge.add(fact, batch.signer)
            findings, _ = self._evaluate(act=False)
            visits += findings.visits
            if visits > MERGE_VISITS_MAX:
                raise too_much("instructions to repeat", MERGE_VISITS_MAX)
        self._state.batches.update(fresh)
        self._state.unseen.extend(fresh)

    def _stepped(self, record: Stepped) -> None:
        self._state.unsealed.append(Step(tuple(self._state.unseen)))
        self._state.unsealed.extend(record.facts)
        self._state.unseen.clear()

    def _sealed(self, record: Sealed) -> None:
        batch = Batch.stored(self._particle, record.batch)
        self._state.batches[batch.id] = batch
        self._state.unsealed.clear()
        self._state.unseen.append(batch.id)

    def _rebuild(self) -> None:
        """The state that the log leads to; calls in flight are not part of it."""
        self._state = _State()
        for record in self._log:
            match record:
                case Merged():
                    self._relearn(record.contents)
                    batches = [Batch.stored(self._particle, signed) for signed in record.batches]
                    fresh = {batch.id: batch for batch in batches}
                    self._take_in(fresh, list(unroll(fresh, self._state.batches.keys())))
                case Stepped():
                    self._relearn(record.contents)
                    for fact in record.facts:
                        self._state.knowledge.add(fact, self._me)
                    if record.evaluated:
                        self._evaluate(act=False)
                    self._stepped(record)
                case Sealed():
                    self._sealed(record)

    def _relearn(self, contents: Sequence[Json]) -> None:
        self._state.knowledge.learn({content_id(json): json for json in contents})


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Evaluation nests as deep as the data do; :data:`DEPTH_MAX` bounds it, not Python's default."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, DEPTH_MAX * PYTHON_FRAMES_PER_LEVEL))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
