"""What a peer knows of a flow: the facts of all peers by instance, and the values they speak of."""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Iterator, Mapping, Sequence, Set
from itertools import chain
from operator import is_
from typing import Final, TypeVar

from msgspec.structs import replace

from fluvial.air.data.content import ContentId, is_large
from fluvial.air.data.facts import (
    CallFailure,
    CanonFact,
    Closed,
    Fact,
    Instance,
    Outcome,
    Result,
    Sent,
    Taken,
    instances_of,
)
from fluvial.air.data.healing import adding, merging
from fluvial.air.data.log import Merged, Stepped
from fluvial.air.data.pace import SlicePace
from fluvial.air.data.partial import ABSENT, Content, Level, Mask, Partial, covering
from fluvial.air.data.weight import LIGHT_BYTES, weighing
from fluvial.air.machine.values import Path, RootValue
from fluvial.few import EMPTY, Members, added, emptying

RecordT = TypeVar("RecordT", bound=Merged | Stepped)

INSTANCE_BYTES: Final = 300
"""What is kept of an instance; measured, as the others."""
FACT_BYTES: Final = 700
"""A fact."""
BATCH_BYTES: Final = 1_200
"""A batch, without its steps and facts."""
STEP_BYTES: Final = 200
"""A step of a batch, without its facts."""
MASK_BYTES: Final = 250
"""What is noted of a part of a value that has decided something."""
ARGUMENT_BYTES: Final = 150
"""The name of an argument in a fact."""
ELEMENT_BYTES: Final = 300
"""An element of a canon in a fact."""
CONTENT_BYTES: Final = 300
"""A value, besides what it is made of."""
LEARNED_BYTES: Final = 1_000
"""In bytes of a value, what time it takes to take one in, besides going through it."""
SORTED_AT_ONCE: Final = 256
"""Ids that are sorted in one piece: less than a tenth of a millisecond."""
CONTRADICTED_MAX: Final = 16
"""Contradictions of one particle that are kept in mind; one is enough to convict a peer."""


class InstanceFacts:
    """What is known about one instance, and who waits for more.

    Attributes:
        outcomes: what calls came to, by signer.
        canons: what canons fixed, by signer.
        closed: the peers that say that it is answered, and not what.
        sent: whether anybody handed the particle on for it: None nobody, False with arguments unknown, True with all of them known.
        taken: the peers that are at work on it.
        others: results that differ from the first answer of the same signer: the signer, service, function and value of each.
    """

    __slots__ = ("_values", "canons", "closed", "others", "outcomes", "sent", "taken")

    def __init__(self) -> None:
        self.outcomes: dict[str, Outcome] | None = None
        self.canons: dict[str, CanonFact] | None = None
        self.closed: Members[str] = ()
        self.sent: bool | None = None
        self.taken: Members[str] = ()
        self.others: Members[tuple[str, str, str, ContentId]] = ()
        self._values: Members[ContentId] = ()  # of results behind the first answer of all

    def outcome(self, peer: str) -> Outcome | None:
        """What a peer's call came to."""
        return None if self.outcomes is None else self.outcomes.get(peer)

    def canon(self, peer: str) -> CanonFact | None:
        """What a peer fixed."""
        return None if self.canons is None else self.canons.get(peer)

    def add(self, fact: Fact, signer: str) -> bool:
        """Take in a fact of a signer about this instance; False if it differs from the signer's first answer."""
        if type(fact) is Result or type(fact) is CallFailure:
            if self.outcomes is None:
                self.outcomes = {signer: fact}
                return True
            if type(fact) is Result:
                self._values = added(self._values, (fact.value,))
            if self.outcomes.setdefault(signer, fact) == fact:
                return True
            if type(fact) is Result:
                self.others = added(self.others, ((signer, fact.service, fact.function, fact.value),))
            return False
        if type(fact) is Taken:
            self.taken = added(self.taken, (signer,)) if self.taken else (signer,)
        elif type(fact) is Sent:
            self.sent = self.sent or fact.complete
        elif type(fact) is Closed:
            self.closed = added(self.closed, (signer,))
        elif type(fact) is CanonFact:
            if self.canons is None:
                self.canons = {}
            return self.canons.setdefault(signer, fact) == fact
        return True

    def has_result(self, value: ContentId) -> bool:
        """Whether any peer has signed that this is the result of the call; there may be tens of thousands."""
        first = None if self.outcomes is None else next(iter(self.outcomes.values()))
        return (type(first) is Result and first.value == value) or value in self._values

    def closed_by(self, peer: str) -> bool:
        """Whether all that a peer says of its call is that it is answered."""
        return peer in self.closed and self.outcome(peer) is None

    def taken_by(self, peer: str) -> bool:
        """Whether a peer is at work on it."""
        return peer in self.taken


class _Noted:
    """Counts what is noted of values.

    Attributes:
        bytes: memory that it takes; grows.
    """

    __slots__ = ("bytes",)

    def __init__(self) -> None:
        self.bytes = 0


class _LargeValue(RootValue):
    """A value that could be left out: what of it has decided something is noted, and counted."""

    __slots__ = ("_noted",)

    def __init__(self, content: Content, known_id: ContentId, noted: _Noted) -> None:
        super().__init__(content, known_id, Mask())
        self._noted = noted

    def note(self, path: Path, level: Level) -> None:
        if self.mask is not None and (more := self.mask.add(path, level)):
            self._noted.bytes += MASK_BYTES * more


class Knowledge:
    """A growing set of facts, looked up by instance and signer.

    A fact counts only if its signer is the peer that *this* evaluation resolves for the instance. Of two facts that differ the one
    that came first counts here; with the other one it convicts its signer (``data.evidence``).

    Attributes:
        contents: the values, whole or in part.
        contradicted: the first instances of which a signer has given two different answers, and the signer.
    """

    __slots__ = ("_facts", "_held", "_large", "_noted", "_wholes", "contents", "contradicted")

    def __init__(self) -> None:
        self._held = 0
        self._noted = _Noted()
        self._facts: dict[tuple[bytes, int], InstanceFacts] = {}
        self.contents: dict[ContentId, Content] = {}
        self.contradicted: dict[tuple[str, Instance], None] = EMPTY
        self._wholes: dict[ContentId, RootValue] = EMPTY
        self._large: dict[ContentId, None] = EMPTY

    @property
    def held(self) -> int:
        """About how many bytes of memory all of it takes; grows."""
        return self._held + self._noted.bytes

    def about(self, instance: tuple[bytes, int]) -> InstanceFacts:
        """What is known about an instance; always the same object."""
        if (facts := self._facts.get(instance)) is None:
            facts = self._facts[instance] = InstanceFacts()
            self._held += INSTANCE_BYTES
        return facts

    def add(self, fact: Fact, signer: str) -> Sequence[InstanceFacts]:
        """Take in a fact of a signer; what is known now about each of its instances."""
        self.count(fact)
        if type(fact) is Closed:
            closed = [self.about(instance) for instance in instances_of(fact)]
            for one in closed:
                one.add(fact, signer)
            return closed
        facts = self.about((fact.frame, fact.node))
        if not facts.add(fact, signer) and len(self.contradicted) < CONTRADICTED_MAX:
            if self.contradicted is EMPTY:
                self.contradicted = {}
            self.contradicted[signer, Instance(fact.frame, fact.node)] = None
        if type(fact) is Result:
            self._hear_of(fact.value)
        elif type(fact) is CanonFact:
            for element in fact.elements:
                self._hear_of(element.value)
        return (facts,)

    def count_batches(self, batches: int) -> None:
        """Count the memory of so many batches that are kept."""
        self._held += BATCH_BYTES * batches

    def count_step(self) -> None:
        """Count the memory of a step in one."""
        self._held += STEP_BYTES

    def count(self, fact: Fact) -> None:
        """Count the memory of a fact: one that is taken in, or one of this peer's own."""
        self._held += FACT_BYTES
        if type(fact) is Result:
            self._held += ARGUMENT_BYTES * len(fact.arguments)
        elif type(fact) is CanonFact:
            self._held += ELEMENT_BYTES * len(fact.elements)
        elif type(fact) is CallFailure:
            self._held += ARGUMENT_BYTES * len(fact.arguments) + len(fact.message)
        elif type(fact) is Closed:
            self._held += FACT_BYTES * len(fact.nodes)

    def forgetting(self) -> Iterator[None]:
        """Give back the memory of what is known of instances, in slices: nothing is asked any more."""
        yield from emptying(self._facts)

    def has_result(self, call: tuple[bytes, int], value: ContentId) -> bool:
        """As :meth:`InstanceFacts.has_result`."""
        facts = self._facts.get(call)
        return facts is not None and facts.has_result(value)

    def learn(self, contents: Mapping[ContentId, Content]) -> None:
        """As :meth:`learning`, at once."""
        for _ in self.learning(contents):
            pass

    def learning(self, contents: Mapping[ContentId, Content]) -> Iterator[None]:
        """Take in values, whole or in part, in slices, each a few milliseconds of work; their ids are known to be right.

        Raises:
            RemoteProtocolError: parts of a value are no parts of a value.
        """
        light = 0
        for key, content in contents.items():
            weight = 0
            for weighed in weighing(content):
                if weighed is None:
                    yield
                else:
                    weight = weighed
            yield from self._learning(key, content, weight)
            light += LEARNED_BYTES + weight
            if light > LIGHT_BYTES:
                light = 0
                yield

    def _learning(self, key: ContentId, content: Content, weight: int) -> Iterator[None]:
        if (here := self.contents.get(key, ABSENT)) is not ABSENT:
            if type(here) is Partial:
                self._held += weight
            content = yield from merging(here, content, SlicePace())
        else:
            self._held += CONTENT_BYTES + weight
            if isinstance(content, Partial) or is_large(content):
                self._add_large(key)
        self.contents[key] = content
        if key in self._wholes:
            self._wholes[key].content = content

    def shared(self, record: RecordT, contents: Mapping[ContentId, Content]) -> RecordT:
        """A record that was decoded just now, with the values that are here already in place of its own: each is in memory once."""
        known = [self.contents[key] for key, content in contents.items() if not isinstance(content, Partial)]
        if all(map(is_, known, record.contents)) or any(isinstance(one, Partial) for one in known):
            return record
        return replace(record, contents=tuple(known))

    def _hear_of(self, key: ContentId) -> None:
        """A value that did not come along can be left out."""
        if key not in self.contents:
            self._add_large(key)

    def _add_large(self, key: ContentId) -> None:
        if self._large is EMPTY:
            self._large = {}
        self._large[key] = None

    def news(
        self, came: Mapping[ContentId, Content], named: Container[ContentId]
    ) -> Generator[None, None, dict[ContentId, Content]]:
        """Of what came the values that are named and show something that is not known yet, in the order of their ids; in slices."""
        pace = SlicePace()
        order: Iterable[ContentId]
        if len(came) <= SORTED_AT_ONCE:
            order = sorted(key for key in came if key in named)
        else:
            buckets: list[list[ContentId]] = [[] for _ in range(256)]  # ids in each stretch are sorted by themselves
            for key in came:
                if key in named:
                    buckets[key[0]].append(key)
                if pace.over():
                    yield
            order = chain.from_iterable(map(sorted, buckets))
        news: dict[ContentId, Content] = {}
        for key in order:
            if (yield from adding(came[key], self.contents.get(key, ABSENT), pace)):
                news[key] = came[key]
            if pace.over():
                yield
        return news

    def value(self, key: ContentId) -> RootValue:
        """The value that a fact speaks of; one that could be left out is always the same object."""
        if (whole := self._wholes.get(key)) is not None:
            return whole
        content = self.contents.get(key, ABSENT)
        if key not in self._large:
            return RootValue(content, key)
        if content is ABSENT:
            content = Partial(key)
        if self._wholes is EMPTY:
            self._wholes = {}
        whole = self._wholes[key] = _LargeValue(content, key, self._noted)
        return whole

    @property
    def large(self) -> Set[ContentId]:
        """The values that can be left out."""
        return self._large.keys()

    def noting(self) -> Generator[None, None, dict[ContentId, Mask]]:
        """What large values have decided so far; of those that nothing here has come to yet: all. In slices."""
        masks: dict[ContentId, Mask] = {}
        pace = SlicePace()
        for key in self._large:
            whole = self._wholes.get(key)
            if whole is None:
                masks[key] = Mask(Level.WHOLE)
            elif whole.mask is not None:
                masks[key] = yield from whole.mask.copying(pace)
            if pace.over():
                yield
        return masks

    def has_gaps(self) -> Generator[None, None, bool]:
        """Whether of any value that can be left out not all is here; in slices."""
        pace = SlicePace()
        for key in self._large:
            if isinstance(self.contents.get(key, ABSENT), Partial):
                return True
            if pace.over():
                yield
        return False

    def lacking(self, masks: Mapping[ContentId, Mask]) -> Generator[None, None, list[ContentId]]:
        """The values of which not all is here that is asked for; in slices."""
        pace = SlicePace()
        lacking: list[ContentId] = []
        for key, mask in masks.items():
            if not (yield from covering(self.contents.get(key, ABSENT), mask, pace)):
                lacking.append(key)
        return lacking
