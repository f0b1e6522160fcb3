"""How the reference counts the generations of a stream, and what it forgets by that.

A stream of AquaVM is three lists of generations: those in the peer's previous data, those in the data that came with the particle, numbered as
the sender numbers them, and new ones. An element that is in both data stands in the first list, so that the second one may begin with
empty generations. A fold keeps how many generations there were, empty ones included, and then skips that many that are not empty
(``recursive_stream.rs``, ``values_matrix.rs``): an element may get no iteration in this run. What a run does not come to is not in the
peer's data afterwards, so that it is done, or asked for, once more. At the end of a run the generations that are not empty are numbered.

What a run leaves behind, and what travels, is a *trace*: states of calls and canons, and also of each ``ap`` to a stream. Fluvial has facts of
calls and canons alone; everybody who knows them does all that follows. For AquaVM an ``ap`` that is in neither trace has not happened: it is
done by the run that comes to it, and its element is a new one. Two things follow where folds were cut short:

- A fold that fills its own stream without end does so at once in fluvial, and by one pass in each run in AquaVM, if the stream was folded before.
- What a run has dropped comes back only with the trace of a peer that still has it. A delivery that was overtaken by a later one of the same
  peer does not bring what only the later one had, though the receiver has had it: the trace is of the time when it was sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final
from unittest.mock import patch

from fluvial.air.data.content import ContentId
from fluvial.air.data.facts import CanonFact, Fact, Instance, Outcome, instances_of
from fluvial.air.machine import machine as incremental
from fluvial.air.machine.errors import stream_too_long
from fluvial.air.machine.knowledge import InstanceFacts, Knowledge
from fluvial.air.machine.machine import Effects
from fluvial.air.machine.scopes import StreamKey
from fluvial.air.machine.values import RootValue, Value
from fluvial.air.syntax import tree
from fluvial.identity import PeerId
from fluvial.particle import Delivery
from fluvial.particles.session import ParticleSession
from fluvial.particles.session_outputs import Parcel
from fluvial.simulation import network

from tests.reevaluating.evaluation import Evaluation
from tests.reevaluating.findings import Findings
from tests.reevaluating.machine import Machine, Reevaluator
from tests.reevaluating.streams import ELEMENTS_MAX, Entry, Stream, StreamMemory


@dataclass(frozen=True, slots=True)
class Trace:
    """What a run has come to.

    Attributes:
        done: calls and canons, and whether they are done; others are sent, or at work.
        generations: of each element in a stream, by its writer, the generation.
    """

    done: Mapping[Instance, bool] = field(default_factory=dict)
    generations: Mapping[Instance, int] = field(default_factory=dict)


EMPTY: Final = Trace()


class CountedGenerations(Stream):
    """A stream that is folded by counting generations.

    Args:
        name, memory: as for every stream.
        previous, current: the peer's own trace and the one that came.
    """

    def __init__(self, name: str, memory: StreamMemory, previous: Trace, current: Trace) -> None:
        super().__init__(name, memory)
        self._size = 0
        self._in_previous, self._in_current = previous.generations, current.generations
        self._lists: tuple[list[list[Entry]], list[list[Entry]], list[list[Entry]]] = ([], [], [])

    def append(self, writer: Instance, value: Value) -> None:
        if self._size >= ELEMENTS_MAX:
            raise stream_too_long(self.name, ELEMENTS_MAX)
        self._size += 1
        previous, current, new = self._lists
        if (number := self._in_previous.get(writer)) is not None:
            generations = previous
        elif (number := self._in_current.get(writer)) is not None:
            generations = current
        else:
            generations, number = new, max(0, len(new) - 1)
        while len(generations) <= number:
            generations.append([])
        generations[number].append(Entry(number, len(generations[number]), writer, value))

    def entries(self) -> tuple[Entry, ...]:
        return tuple(entry for generations in self._lists for generation in generations for entry in generation)

    def passes(self) -> Iterator[list[tuple[Entry, ...]]]:
        new = self._lists[-1]
        fresh, visited = self._beyond((0, 0, 0)), self._counts()
        if fresh:
            new.append([])
        while fresh:
            yield fresh
            fresh = self._beyond(visited)
            if not new[-1]:
                new.pop()
            visited = self._counts()
            new.append([])

    def numbered(self) -> dict[Instance, int]:
        """The generation of each element at the end of a run."""
        generations = [generation for listed in self._lists for generation in listed if generation]
        return {entry.writer: number for number, generation in enumerate(generations) for entry in generation}

    def _counts(self) -> tuple[int, ...]:
        return tuple(map(len, self._lists))

    def _beyond(self, visited: Iterable[int]) -> list[tuple[Entry, ...]]:
        lists = zip(self._lists, visited, strict=True)
        return [tuple(one) for listed, skip in lists for one in islice(filter(None, listed), skip, None)]


class HeldElements(Stream):
    """A stream of which only those elements are there that are in a trace: for evaluations that do not act."""

    def __init__(self, name: str, memory: StreamMemory, *traces: Trace) -> None:
        super().__init__(name, memory)
        self._traces = traces

    def append(self, writer: Instance, value: Value) -> None:
        if any(writer in trace.generations for trace in self._traces):
            super().append(writer, value)


class Data(Knowledge):
    """What is known, seen as the data of a run: only what is in its traces is there.

    Args:
        knowledge: all that is known.
        done: calls and canons in the traces, and whether they are done.
        pars: instructions whose facts are always there: the reference has none of them.

    Attributes:
        met: the instances that this run came to.
    """

    def __init__(self, knowledge: Knowledge, done: Mapping[Instance, bool], pars: frozenset[int]) -> None:
        self._all = knowledge
        self._done = dict(done)
        self._pars = pars
        self.contents = knowledge.contents
        self.met: set[Instance] = set()

    def add(self, fact: Fact, signer: str) -> Sequence[InstanceFacts]:
        for instance in instances_of(fact):
            self._done[instance] = self._done.get(instance, False) or isinstance(fact, CanonFact)
        return self._all.add(fact, signer)

    def learn(self, contents: Any) -> None:
        self._all.learn(contents)

    def value(self, key: ContentId) -> RootValue:
        return self._all.value(key)

    def about(self, instance: Any) -> InstanceFacts:
        about = self._all.about(instance)
        if instance.node in self._pars:
            return about
        return _Met(about, self._done.get(instance), lambda: self.met.add(instance))

    def left(self) -> dict[Instance, bool]:
        """The calls and canons of the traces, and those of this run, that it came to."""
        return {instance: done for instance, done in self._done.items() if instance in self.met}


class _Met(InstanceFacts):
    """What is known about an instance that a trace has; notes when it is looked for what that has come to."""

    __slots__ = ("_note",)

    def __init__(self, about: InstanceFacts, done: bool | None, note: Callable[[], None]) -> None:
        super().__init__()
        self._note = note
        if done is not None:
            self.sent, self.taken = about.sent, about.taken
        if done:
            self.outcomes, self.canons, self.closed = about.outcomes, about.canons, about.closed

    def outcome(self, peer: str) -> Outcome | None:
        self._note()
        return super().outcome(peer)

    def canon(self, peer: str) -> CanonFact | None:
        self._note()
        return super().canon(peer)

    def closed_by(self, peer: str) -> bool:
        if closed := super().closed_by(peer):
            self._note()
        return closed


class CountingEvaluator(Reevaluator):
    """The plain evaluator, whose runs count generations and see only what the data have.

    Attributes:
        previous: what the last run left.
        current: what came with the particle.
        rebuilding: whether a run was undone and the machine repeats its log. The data have all of it already.
    """

    def __init__(self, script: tree.Script, *arguments: Any, **options: Any) -> None:
        super().__init__(script, *arguments, **options)
        self.previous = self.current = EMPTY
        self.rebuilding: Callable[[], bool] = lambda: False
        self._pars = frozenset(node.number for node in tree.walk(script.root) if isinstance(node, tree.Par))
        self._left: tuple[dict[Any, Any], dict[Any, Any]] = ({}, {})

    def undo(self, undone: CountingEvaluator) -> None:
        """Be as another one was before its last run, which has failed."""
        self.previous, self.current, self._left = undone.previous, undone.current, undone._left
        self._read, self._written = (dict(one) for one in undone._left)

    def begin_step(self, facts: Iterable[Fact], signer: str, *, act: bool) -> None:
        super().begin_step(facts, signer, act=act)
        if self.rebuilding():
            self._taken.clear()

    def run(self) -> bool:
        return self.rebuilding() or super().run()

    def step(self, *, act: bool) -> Findings:
        findings = super().step(act=act)
        if act:
            numbered: dict[Instance, int] = {}
            for stream in self._evaluation._streams.values():
                assert isinstance(stream, CountedGenerations)
                numbered |= stream.numbered()
            self.previous, self.current = Trace(self._data.left(), numbered), EMPTY
            self._left = (dict(self._read), dict(self._written))
        return findings

    def _evaluate(self, facts: Iterable[Fact], *, act: bool) -> Evaluation:
        evaluation = super()._evaluate(facts, act=act)
        streams: type[CountedGenerations | HeldElements] = CountedGenerations if act else HeldElements

        def new_stream(key: StreamKey, name: str, memory: StreamMemory) -> Stream:
            return streams(name, memory, self.previous, self.current)

        evaluation._new_stream = new_stream
        if act:
            done = dict(self.current.done)
            done |= {one: state or done.get(one, False) for one, state in self.previous.done.items()}
            done |= {instance: True for fact in facts for instance in instances_of(fact)}
            self._evaluation = evaluation
            self._data = evaluation._knowledge = Data(self.knowledge, done, self._pars)
        return evaluation


@contextmanager
def counted_generations() -> Iterator[None]:
    """Inside, machines count generations, and in simulations traces travel with the deliveries."""
    sent: dict[int, tuple[Delivery, Trace]] = {}

    def parcel(self: ParticleSession, to: PeerId) -> Parcel:
        made = _PARCEL(self, to)
        sent[id(made.delivery)] = made.delivery, _evaluator(self).previous
        return made

    def arrive(self: network._Network, host: network._Host, queued: network._Queued) -> Effects:
        _evaluator(host.session).current = sent[id(queued.delivery)][1]
        try:
            return _ARRIVE(self, host, queued)
        finally:
            _evaluator(host.session).current = EMPTY

    with ExitStack() as patches:
        patches.enter_context(patch.object(Machine, "evaluator", CountingEvaluator))
        patches.enter_context(patch.object(Machine, "_new_state", _with_traces))
        patches.enter_context(patch.object(ParticleSession, "parcel", parcel))
        patches.enter_context(patch.object(network._Network, "_arrive", arrive))
        yield


_PARCEL: Final = ParticleSession.parcel
_ARRIVE: Final = network._Network._arrive


def _evaluator(session: ParticleSession) -> CountingEvaluator:
    evaluator: Any = session._machine._state.evaluator
    assert isinstance(evaluator, CountingEvaluator)
    return evaluator


def _with_traces(self: Machine) -> incremental._MachineState:
    """After a run that is undone the data are as they were."""
    state = incremental.Machine._new_state(self)
    evaluator: Any = state.evaluator
    evaluator.rebuilding = lambda: self._rebuilding
    if (before := getattr(self, "_state", None)) is not None:
        evaluator.undo(before.evaluator)
    return state
