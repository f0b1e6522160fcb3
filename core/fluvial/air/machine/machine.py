"""The AIR machine of one particle on one peer: pure, deterministic, without I/O, clock or randomness.

Batches of other peers and outcomes of own calls go in, effects come out. All state is rebuilt from the records in the effects, in
their order, with the same result (:meth:`Machine.restore`).

*Steps*: received batches are taken in step by step, in the order of their signer. Each step is followed by an evaluation that does not act. So
a peer that comes late has the same order of stream elements as the signer. Then one evaluation acts: it may request calls, fix
canons and name next peers. The facts that it adds are this peer's own step.

*Slices*: the methods with ``-ing`` do the same as those without it in slices (``slices``). The result does not depend on these.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from sys import intern
from typing import ClassVar, Final, TypeVar

import msgspec

from fluvial.air.data.batch import Batch, BatchId, Known, MissingError, unrolled, without_dead
from fluvial.air.data.content import ContentId
from fluvial.air.data.evidence import Equivocation, finding_equivocations
from fluvial.air.data.facts import Closed, Fact, Instance, Item, Outcome, Result, Step
from fluvial.air.data.log import Merged, Record, Sealed, Stepped, contents_of, split_contents, splitting_contents
from fluvial.air.data.pace import Found, SlicePace, finished
from fluvial.air.data.partial import Content
from fluvial.air.machine.closing import with_closed
from fluvial.air.machine.errors import AirError, Uncatchable, memory_exceeded, value_missing
from fluvial.air.machine.evaluator import Evaluator
from fluvial.air.machine.exchange import Needs
from fluvial.air.machine.findings import Observer, Request, Wait
from fluvial.air.machine.knowledge import Knowledge
from fluvial.air.machine.operands import Environment
from fluvial.air.machine.outcomes import CallOutcome, fact_of
from fluvial.air.machine.refusals import Refusals
from fluvial.air.machine.slices import Clock, Run, Runner, Sliced
from fluvial.air.machine.state import NO_MEMBERS, MachineState
from fluvial.air.machine.writers import checking_canons
from fluvial.air.syntax.tree import Script
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId

ResultT = TypeVar("ResultT")

RECORDS: Final = 16
"""Records of which the memory is given back together."""

MEMORY_UNBOUNDED: Final = sys.maxsize
"""No limit of memory: for simulations and tests, where nobody else has to be protected."""


class Effects(msgspec.Struct, frozen=True, kw_only=True):
    """What a run asks of its host, which must make ``records`` durable before it does anything else.

    Attributes:
        records: what to append to the particle's log.
        requests: calls to make; their outcomes are handed to :meth:`Machine.resolve`.
        next_peers: peers that the particle must go to.
        error: what ended the run, if something did.
        equivocations: peers that have contradicted themselves, each time it is found.
        finished: no fact of any peer can change any more what this peer does.
        failed: the flow has come to a limit of this peer, whatever else comes: ``error`` says to which.
    """

    records: tuple[Record, ...] = ()
    requests: tuple[Request, ...] = ()
    next_peers: tuple[str, ...] = ()
    error: AirError | None = None
    equivocations: tuple[Equivocation, ...] = ()
    finished: bool = False
    failed: bool = False


class Machine:
    """See the module's docstring.

    Args:
        script: the checked script.
        particle: the particle's key, 32 bytes.
        me: the peer on which it runs.
        initiator, timestamp_ms, ttl_ms: of the particle.
        observer: told of every call and canon that is come to; for people.
        memory_bytes_max: the flow fails here if the machine holds more than that, as this peer estimates it (``memory``).

    Class attributes:
        evaluator: what evaluates the script.
    """

    evaluator: ClassVar[type[Evaluator]] = Evaluator

    def __init__(
        self,
        script: Script,
        particle: bytes,
        me: PeerId,
        *,
        initiator: str,
        timestamp_ms: int,
        ttl_ms: int,
        observer: Observer | None = None,
        memory_bytes_max: int = MEMORY_UNBOUNDED,
    ) -> None:
        self._script = script
        self._particle = particle
        self._me = me
        self._environment = Environment(intern(str(me)), intern(str(initiator)), timestamp_ms, ttl_ms)
        self._observer = observer
        self._memory_max = memory_bytes_max
        self._in_flight: dict[Instance, Request] = {}
        self._log: list[Record] = []
        self._refusals = Refusals()
        self._rebuilding = False
        self._convicted: frozenset[tuple[str, Instance]] = NO_MEMBERS
        self._state = self._new_state()
        self._runner = Runner(self._allow)

    # --- inputs

    def merge(self, known: Known) -> Effects:
        """Take in what came with the particle (nothing, at its beginning and after a restart) and go on.

        Raises:
            MissingError: a batch names another one that neither came with it nor is here, or a value is needed of which not all is here;
                nothing was taken in.
            RemoteProtocolError: batches name each other in a circle, or parts of a value are none.
        """
        return self._runner.finish(self._merge(known))

    def merging(self, known: Known) -> Run[Effects]:
        """As :meth:`merge`, in slices."""
        return Run(self._runner, self._merge(known))

    def resolve(self, outcomes: Mapping[Instance, CallOutcome]) -> Effects:
        """Take in outcomes of requests, by instance and in this order, and go on.

        Raises:
            KeyError: there was no such request, or it has been answered: a bug of the host; nothing was taken in then.
        """
        return self._runner.finish(self._resolve(outcomes))

    def resolving(self, outcomes: Mapping[Instance, CallOutcome]) -> Run[Effects]:
        """As :meth:`resolve`, in slices."""
        return Run(self._runner, self._resolve(outcomes))

    def _merge(self, known: Known) -> Sliced[Effects]:
        known = yield from self._refusals.completed(known, self._state.batches.keys())
        fresh = {batch.id: batch for batch in known.batches if batch.id not in self._state.batches}
        if (refusal := (yield from self._refusals.refusal(fresh, known))) is not None:
            yield self._refused(refusal)
            return
        steps = yield from unrolled(fresh, self._state.batches.keys())
        yield from checking_canons(self._script, fresh.values(), self._state.knowledge)
        contents = yield from self._contents_for(fresh, known)
        merged: list[Record] = []
        if fresh or contents:
            values, parts = yield from splitting_contents(contents.values())
            merged.append(Merged(tuple(batch.signed for batch in fresh.values()), values, parts))
        try:
            yield from self._state.knowledge.learning(contents)
            yield from self._take_in(fresh, steps)
            yield from self._check_complete()
            yield from self._step((), self._me, act=True)
            yield (yield from self._acted(merged, (), {}))
            return
        except (Uncatchable, RemoteProtocolError) as error:
            ended = error.with_traceback(None)  # it would keep all that is thrown away now
        # As if the particle had not come.
        if isinstance(ended, Uncatchable):
            yield from self._refusals.refusing(fresh, known, ended)
        yield from self._rebuild()
        if isinstance(ended, Uncatchable):
            yield self._refused(ended)
            return
        try:
            raise ended
        finally:
            del ended  # in a circle with this frame it would keep all that came

    def _refused(self, error: Uncatchable) -> Effects:
        return Effects(error=error, failed=self._refusals.always is not None)

    def _contents_for(self, fresh: Mapping[BatchId, Batch], known: Known) -> Found[dict[ContentId, Content]]:
        """The values that came along, that new or known batches name, and of which something is not here yet."""
        knowledge = self._state.knowledge
        named = set(knowledge.large).union(*(batch.contents() for batch in fresh.values()))
        return (yield from knowledge.news(known.contents, named))

    def _check_complete(self) -> Iterator[None]:
        """Raise MissingError unless all is here that the rest of the flow can read: else it would be missing where nobody has it."""
        if not (yield from self._state.knowledge.has_gaps()):
            return
        needs = yield from self.finding_needs(self._me)
        if missing := (yield from self._state.knowledge.lacking(needs.masks)):
            raise MissingError("a value that can still be read is not here", contents=tuple(sorted(missing)))

    def _resolve(self, outcomes: Mapping[Instance, CallOutcome]) -> Sliced[Effects]:
        contents: dict[ContentId, Content] = {}
        knowledge = self._state.knowledge
        facts = []
        for instance, outcome in outcomes.items():
            facts.append((yield from fact_of(self._in_flight[instance], outcome, knowledge, contents)))
        for instance in outcomes:
            del self._in_flight[instance]
        if not self._in_flight:
            self._in_flight.clear()  # which gives back the room that its entries had
        yield from self._state.knowledge.learning(contents)
        if self._refusals.always is not None:
            yield from self._keep_outcomes(facts, contents, self._refusals.always)
            return
        try:
            yield from self._step(facts, self._me, act=True)
            yield (yield from self._acted([], facts, contents))
            return
        except (Uncatchable, MissingError) as error:
            ended = value_missing(error.contents) if isinstance(error, MissingError) else error.with_traceback(None)
        self._refusals.refuse_all(ended)
        yield from self._rebuild()
        yield from self._keep_outcomes(facts, contents, ended)

    def _keep_outcomes(
        self, facts: Sequence[Outcome], contents: Mapping[ContentId, Content], error: Uncatchable
    ) -> Sliced[Effects]:
        """Keep what the services answered in a run that is undone: else a repeated particle would call them again.

        Deviation: the reference forgets it and never asks again.
        """
        record = Stepped(tuple(facts), *split_contents(contents.values()), evaluated=False)
        self._log.append(record)
        yield from self._state.knowledge.learning(contents)
        yield from self._repeat(record)
        self._stepped(record)
        yield Effects(records=(record,), error=error, failed=self._refusals.always is not None)

    def seal(self, sign: Callable[[bytes], bytes], *, closing: bool = True) -> Record | None:
        """Sign the own steps since the last seal, when the particle leaves; None if there are none. The record must be stored.

        Args:
            sign: makes this peer's signature over a message.
            closing: leave out what own calls were answered where nobody else can need it; off to compare.
        """
        if not self._state.unsealed:
            return None
        items: Sequence[Item] = self._state.unsealed
        if closing:
            items = with_closed(self._script, items, self._counts)
        batch = Batch.seal(self._particle, self._me, without_dead(items), sign)
        record = Sealed(batch.signed)
        self._log.append(record)
        self._sealed(batch)
        return record

    def _counts(self, result: Result) -> bool:
        about = self._state.knowledge.about((result.frame, result.node))
        return about.outcome(self._me) is result

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
        observer: Observer | None = None,
        memory_bytes_max: int = MEMORY_UNBOUNDED,
    ) -> Machine:
        """The machine as it was when these records were written, without the calls that were in flight.

        ``merge`` with nothing asks for those calls again.
        """
        machine = cls(
            script,
            particle,
            me,
            initiator=initiator,
            timestamp_ms=timestamp_ms,
            ttl_ms=ttl_ms,
            observer=observer,
            memory_bytes_max=memory_bytes_max,
        )
        return machine._runner.finish(machine._restore(records))

    def restoring(self, records: Iterable[Record]) -> Run[Machine]:
        """Take a new machine to where it was when these records were written, in slices; the result is this machine.

        Each record is asked for when those before it have been repeated: so it can be decoded then, and is counted at once.
        """
        return Run(self._runner, self._restore(records))

    def _restore(self, records: Iterable[Record]) -> Sliced[Machine]:
        yield from self._repeat_log(records)
        self._convicted = frozenset(self._state.knowledge.contradicted)
        yield self

    # --- memory

    @property
    def held(self) -> int:
        """How many bytes of memory it holds, about; not more than a few times the truth, and never much less."""
        return self._state.evaluator.memory.held + self._refusals.held

    def dismantle(self) -> Iterator[None]:
        """Give back the memory, in slices; the machine cannot be used any more.

        Its objects refer to each other in circles: without this they stay until the garbage collector finds them.
        """
        yield from self._state.evaluator.dismantle()
        while self._log:
            del self._log[-RECORDS:]
            if self._log:
                yield
        del self._runner

    # --- what travels

    def batches(self) -> Sequence[Batch]:
        """All batches known here, each after those that its steps name."""
        return tuple(self._state.batches.values())

    def contents(self) -> Mapping[ContentId, Content]:
        """The values that facts speak of, as far as they are here, and more."""
        return self._state.knowledge.contents

    def needs(self, peer: str) -> Needs:
        """What another peer must have of the values that could be left out."""
        return finished(self.finding_needs(peer))

    def finding_needs(self, peer: str) -> Found[Needs]:
        """As :meth:`needs`, in slices; nothing else may be done with the machine meanwhile."""
        needs = yield from self._state.evaluator.finding_needs(peer)
        if not self._state.kept:
            return needs
        told = set().union(*(batch.contents() for batch in self._state.batches.values()))
        kept = self._state.kept - told
        return Needs(needs.large, {key: mask for key, mask in needs.masks.items() if key not in kept})

    def waits(self) -> Sequence[Wait]:
        """What waits now, in script order; for people."""
        return self._state.evaluator.waits()

    def awaits(self, peer: str) -> bool:
        """Whether a call or canon of a peer is come to and has no fact yet."""
        return self._state.evaluator.awaits(peer)

    def awaited(self) -> Mapping[Instance, str]:
        """The calls and canons that are come to and have no fact yet, and the peers whose they are, this one among them."""
        return self._state.evaluator.awaited()

    @property
    def steps(self) -> int:
        """How many steps it has made; what it holds, and the time to go through that, grows with them."""
        return self._state.evaluator.runtime.work

    @property
    def error(self) -> AirError | None:
        """What ended the script, if something did that nothing caught."""
        return self._state.evaluator.error

    # --- runs

    def _allow(self, steps: int, clock: Clock) -> None:
        self._state.evaluator.allow(steps, clock)

    def _step(self, facts: Sequence[Fact], signer: str, *, act: bool) -> Iterator[None]:
        """A step of the evaluator, in slices."""
        evaluator = self._state.evaluator
        evaluator.begin_step(facts, signer, act=act)
        while not evaluator.run():
            yield
            yield from self._check_memory()
        yield from self._check_memory()

    def _check_memory(self) -> Iterator[None]:
        """Raise Uncatchable 20102 if the machine holds too much; what its log leads to was allowed when that was written."""
        memory, most = self._state.evaluator.memory, self._memory_max
        if memory.due(most):
            yield from memory.census()
        if not self._rebuilding and memory.held > most:
            raise memory_exceeded(most)

    def _acted(
        self, merged: list[Record], facts: Sequence[Outcome], contents: Mapping[ContentId, Content]
    ) -> Found[Effects]:
        """The effects of a run, after its last step."""
        findings = self._state.evaluator.take_findings()
        records = list(merged)
        all_facts = (*facts, *findings.facts)
        if all_facts or not (self._log or merged):
            spoken_of = {**contents, **findings.contents} if findings.contents else contents
            step = Stepped(all_facts, *(yield from splitting_contents(spoken_of.values())))
            self._stepped(step)
            records.append(step)
        self._log.extend(records)
        for request in findings.requests:
            self._in_flight[request.instance] = request
        return Effects(
            records=tuple(records),
            requests=tuple(findings.requests),
            next_peers=tuple(findings.next_peers),
            error=self._state.evaluator.error,
            equivocations=(yield from self._equivocations()),
            finished=self._state.evaluator.finished and not self._in_flight,
        )

    def _equivocations(self) -> Found[tuple[Equivocation, ...]]:
        """Against whom there is evidence since the last run that found some."""
        contradicted = self._state.knowledge.contradicted
        if contradicted.keys() <= self._convicted:
            return ()
        news = contradicted.keys() - self._convicted
        self._convicted = self._convicted.union(contradicted)
        return tuple((yield from finding_equivocations(self._state.batches.values(), news)))

    # --- steps

    def _take_in(self, fresh: Mapping[BatchId, Batch], steps: Sequence[tuple[Batch, list[Fact]]]) -> Iterator[None]:
        for batch, facts in steps:
            self._state.knowledge.count_step()
            yield from self._step(facts, batch.signer, act=False)
            if self._state.evaluator.paused:  # steps without anything to do are steps as well
                yield
        self._state.keep(fresh)

    def _stepped(self, record: Stepped) -> None:
        self._state.knowledge.count_step()
        self._state.unsealed.append(Step(tuple(self._state.unseen)))
        self._state.unsealed.extend(record.facts)
        self._state.unseen.clear()

    def _sealed(self, batch: Batch) -> None:
        if any(type(item) is Closed for item in batch.signed.items):
            own = {item.value for item in self._state.unsealed if type(item) is Result}
            if kept := (own & self._state.knowledge.large).difference(batch.contents()):
                self._state.kept |= kept
        self._state.keep({batch.id: batch})
        self._state.unsealed.clear()

    def _rebuild(self) -> Iterator[None]:
        """The state that the log leads to; calls in flight are not part of it."""
        old, self._state = self._state, self._new_state()
        yield from old.evaluator.dismantle()
        del old
        log, self._log = self._log, []
        yield from self._repeat_log(log)

    def _repeat_log(self, log: Iterable[Record]) -> Iterator[None]:
        """Do what records say, and keep them; each is read when it is its turn."""
        self._rebuilding = True
        try:
            for record in log:
                yield from self._repeat_record(record)
        finally:
            self._rebuilding = False

    def _repeat_record(self, record: Record) -> Iterator[None]:
        if not isinstance(record, Sealed):
            contents = yield from contents_of(record)
            yield from self._state.knowledge.learning(contents)
            record = self._state.knowledge.shared(record, contents)
        self._log.append(record)
        match record:
            case Merged():
                fresh: dict[BatchId, Batch] = {}
                pace = SlicePace()
                for signed in record.batches:
                    batch = yield from Batch.storing(self._particle, signed, pace)
                    fresh[batch.id] = batch
                steps = yield from unrolled(fresh, self._state.batches.keys())
                yield from self._take_in(fresh, steps)
            case Stepped():
                yield from self._repeat(record)
                self._stepped(record)
            case Sealed():
                self._sealed((yield from Batch.storing(self._particle, record.batch, SlicePace())))

    def _repeat(self, record: Stepped) -> Iterator[None]:
        if record.evaluated:
            yield from self._step(record.facts, self._me, act=False)
        else:
            self._state.evaluator.take(record.facts, self._me)

    def _new_state(self) -> MachineState:
        return MachineState(
            self.evaluator(self._script, self._environment, Knowledge(), self._in_flight, self._observer)
        )
