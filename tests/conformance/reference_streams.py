"""How the reference counts the generations of a stream, and what it forgets by that.

A stream of AquaVM is three lists of generations: those in the peer's previous data, those in the data that came with the particle, numbered as
the sender numbers them, and new ones. An element that is in both data stands in the first list, so that the second one may begin with
empty generations. A fold keeps how many generations there were, empty ones included, and then skips that many that are not empty
(``recursive_stream.rs``, ``values_matrix.rs``): an element may get no iteration in this run. What a run does not come to is not in the
peer's data afterwards, so that it is done, or asked for, once more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from fluvial.air.data.content import ContentId
from fluvial.air.data.facts import CanonFact, Fact, Instance, Outcome, instances_of
from fluvial.air.machine.knowledge import InstanceFacts, Knowledge
from fluvial.air.machine.scopes import StreamKey
from fluvial.air.machine.values import RootValue, Value

from tests.reevaluating.evaluation import Evaluation
from tests.reevaluating.findings import Findings
from tests.reevaluating.machine import Reevaluator
from tests.reevaluating.streams import Entry, Stream, StreamMemory

BEFORE_ALL: Final = -1


class CountedGenerations(Stream):
    """A stream that is folded by counting generations.

    Args:
        name, memory: as for every stream.
        run_end: the last generation of this peer's last run.
    """

    def __init__(self, name: str, memory: StreamMemory, run_end: int) -> None:
        super().__init__(name, memory)
        self._new_from = memory._generation
        self._run_end = run_end
        known = sorted({generation for generation, _ in memory._places.values() if generation < self._new_from})
        self._ranks = {generation: rank for rank, generation in enumerate(known)}
        self._previous: list[list[Entry]] = []
        self._current: list[list[Entry]] = []
        self._new: list[list[Entry]] = []

    def append(self, writer: Instance, value: Value) -> None:
        super().append(writer, value)
        entry = next(entry for entry in self._entries if entry.writer == writer)
        if entry.generation >= self._new_from:
            self._new = self._new or [[]]
            self._new[-1].append(entry)
            return
        generations = self._previous if entry.generation <= self._run_end else self._current
        rank = self._ranks[entry.generation]
        generations.extend([] for _ in range(len(generations), rank + 1))
        generations[rank].append(entry)

    def passes(self) -> Iterator[list[tuple[Entry, ...]]]:
        fresh, visited = self._beyond((0, 0, 0)), self._counts()
        self._new.append([])
        while fresh:
            self._memory.begin_generation()
            yield fresh
            fresh = self._beyond(visited)
            if not self._new[-1]:
                self._new.pop()
            visited = self._counts()
            self._new.append([])
            self._memory.begin_generation()

    def _counts(self) -> tuple[int, int, int]:
        return len(self._previous), len(self._current), len(self._new)

    def _beyond(self, visited: tuple[int, int, int]) -> list[tuple[Entry, ...]]:
        lists = zip((self._previous, self._current, self._new), visited, strict=True)
        return [tuple(entry) for generations, skip in lists for entry in [g for g in generations if g][skip:]]


class Data(Knowledge):
    """What is known, seen as the data of a run: only what the last one came to is there.

    Args:
        knowledge: all that is known.
        there: instances of which something is known; None for all of them.

    Attributes:
        met: the instances that this run came to.
    """

    def __init__(self, knowledge: Knowledge, there: set[Instance] | None) -> None:
        self._all = knowledge
        self._there = there
        self.contents = knowledge.contents
        self.met: set[Any] = set()

    def add(self, fact: Fact, signer: str) -> Sequence[InstanceFacts]:
        return self._all.add(fact, signer)

    def learn(self, contents: Any) -> None:
        self._all.learn(contents)

    def value(self, key: ContentId) -> RootValue:
        return self._all.value(key)

    def about(self, instance: Any) -> InstanceFacts:
        there = self._there is None or instance in self._there
        return _Met(self._all.about(instance) if there else InstanceFacts(), lambda: self.met.add(instance))


class _Met(InstanceFacts):
    """What is known about an instance; notes when it is looked for what that has come to."""

    __slots__ = ("_note",)

    def __init__(self, about: InstanceFacts, note: Callable[[], None]) -> None:
        for name in InstanceFacts.__slots__:
            setattr(self, name, getattr(about, name))
        self._note = note

    def outcome(self, peer: str) -> Outcome | None:
        self._note()
        return super().outcome(peer)

    def canon(self, peer: str) -> CanonFact | None:
        self._note()
        return super().canon(peer)


class CountingEvaluator(Reevaluator):
    """The plain evaluator, whose runs count generations and see only what the data have."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._met: set[Instance] | None = None
        self._ends: dict[StreamKey, int] = {}

    def step(self, *, act: bool) -> Findings:
        findings = super().step(act=act)
        if act:
            self._met = self._data.met
            for key, memory in self._memories.items():
                self._ends[key] = memory._generation
                stream = self._evaluation._streams.get(key)
                written = {entry.writer for entry in stream._entries} if stream is not None else set()
                memory._places = {writer: place for writer, place in memory._places.items() if writer in written}
        return findings

    def _evaluate(self, facts: Iterable[Fact], *, act: bool) -> Evaluation:
        evaluation = super()._evaluate(facts, act=act)
        if act:
            # With outcomes of services there are no data but the own ones; with a particle there are the sender's.
            alone = bool(facts) and self._met is not None
            there = {*self._met, *(instance for fact in facts for instance in instances_of(fact))} if alone else None
            self._evaluation = evaluation
            self._data = evaluation._knowledge = Data(self.knowledge, there)
            evaluation._new_stream = self._new_stream
        return evaluation

    def _new_stream(self, key: StreamKey, name: str, memory: StreamMemory) -> Stream:
        return CountedGenerations(name, memory, self._ends.get(key, BEFORE_ALL))
