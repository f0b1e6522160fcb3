"""The vertices of one epoch that are accepted here: each with its whole history, down to a floor.

A vertex is accepted once its parents are. What it says about the slots of the two rounds before it, its *support* and its *certificate*, is computed
then, once: a vertex never changes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Container, Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice

from fluvial.ledger.statements import ValidatorSet, leader_of

from fluvial_consensus_dag.messages import BUNDLE_MAX, WEAK_MAX, Parent, Vertex, payload_max


class Graph:
    """A DAG of vertices without gaps.

    Args:
        epoch: whose vertices.
        validators: the authors.

    Attributes:
        floor: the first round that is kept; parents of earlier ones count as known.
        vertices: all, by id.
        rounds: ids by round and author, in the order of acceptance; more than one if the author equivocates.
        support: for a vertex of round r+1, the vertex of the leader of r among its parents.
        certificate: for a vertex of round r+2, the vertex of the leader of r that a quorum of its parents supports.
        highest: for each author, the highest round of a vertex of his.
        quorum_round: the highest round in which a quorum of authors has a vertex.
        top: the highest round of any vertex.
        payload_max: bytes of a vertex's payload.
    """

    def __init__(self, epoch: int, validators: ValidatorSet) -> None:
        self._epoch, self._validators = epoch, validators
        self.payload_max = payload_max(len(validators))
        self.floor = 1
        self.vertices: dict[bytes, Vertex] = {}
        self.rounds: dict[int, dict[int, list[bytes]]] = {}
        self.support: dict[bytes, bytes | None] = {}
        self.certificate: dict[bytes, bytes | None] = {}
        self.highest = [0] * len(validators)
        self.quorum_round = 0
        self.top = 0
        self._rounds_of: list[list[int]] = [[] for _ in range(len(validators))]  # ascending, for each author

    def is_well_formed(self, vertex: Vertex) -> bool:
        """Whether a vertex keeps to the rules, as far as it shows without its parents.

        It names one vertex of an author and a round, and one of its own author's: who makes several in a round cannot have all of them asked for by one name.
        """
        before = {one.author for one in vertex.parents if one.round == vertex.round - 1}
        slots = {(one.round, one.author) for one in vertex.parents}
        in_range = all(one.round < vertex.round and one.author < len(self._validators) for one in vertex.parents)
        if vertex.author >= len(self._validators) or not in_range or len(slots) != len(vertex.parents):
            return False
        if len({one.id for one in vertex.parents}) != len(vertex.parents):
            return False
        if len(vertex.parents) - len(before) > WEAK_MAX + 1 or len(vertex.payload) > self.payload_max:
            return False
        if sum(one.author == vertex.author for one in vertex.parents) > 1:
            return False
        if vertex.round == 1:
            return not vertex.parents
        return self._validators.weight(before) >= self._validators.quorum

    def missing(self, vertex: Vertex) -> Sequence[Parent]:
        """The parents that are not here."""
        return [one for one in self.standing(vertex) if one.id not in self.vertices]

    def fits(self, vertex: Vertex) -> bool:
        """Whether its parents, which are here, are what the vertex says of them.

        What it says of rounds that are over is not looked at: whether such a parent is here by accident must not decide, since others might not have it.
        """
        return all(self.vertices[one.id].reference == one for one in self.standing(vertex))

    def standing(self, vertex: Vertex) -> Iterator[Parent]:
        """The parents of a vertex that count: all that it names of rounds that are kept."""
        return (one for one in vertex.parents if one.round >= self.floor)

    def add(self, vertex: Vertex) -> None:
        """Accept a vertex whose parents are all here."""
        self.vertices[vertex.id] = vertex
        authors = self.rounds.setdefault(vertex.round, {})
        if vertex.author not in authors:
            authors[vertex.author] = []
            insort(self._rounds_of[vertex.author], vertex.round)
        authors[vertex.author].append(vertex.id)
        self.highest[vertex.author] = max(self.highest[vertex.author], vertex.round)
        self.top = max(self.top, vertex.round)
        leader = self.leader(vertex.round - 1)
        supported = (one.id for one in vertex.parents if one.round == vertex.round - 1 and one.author == leader)
        self.support[vertex.id] = next(supported, None)
        self.certificate[vertex.id] = self._certificate(vertex)
        while self.weight_of(self.quorum_round + 1) >= self._validators.quorum:
            self.quorum_round += 1

    def _certificate(self, vertex: Vertex) -> bytes | None:
        supporters: dict[bytes, list[int]] = {}
        for parent in vertex.parents:
            if parent.round == vertex.round - 1 and (block := self.support.get(parent.id)) is not None:
                supporters.setdefault(block, []).append(parent.author)
        for block, authors in supporters.items():
            if self._validators.weight(authors) >= self._validators.quorum:
                return block
        return None

    def leader(self, number: int) -> int:
        """Whose slot a round is."""
        return leader_of(self._validators, self._epoch, number)

    def leader_vertices(self, number: int) -> Sequence[bytes]:
        """The vertices of a round's leader in it."""
        return self.rounds.get(number, {}).get(self.leader(number), ())

    def in_round(self, number: int) -> Iterator[tuple[int, Sequence[bytes]]]:
        """Authors and their vertices of a round."""
        yield from self.rounds.get(number, {}).items()

    def weight_of(self, number: int) -> int:
        """The power of the authors with a vertex in a round."""
        return self._validators.weight(self.rounds.get(number, ()))

    def lacking(
        self, tops: Sequence[bytes], have: Sequence[int], named: Iterable[bytes], settled: Container[bytes]
    ) -> list[Vertex]:
        """What somebody lacks of the history of some vertices, oldest first; not all of it if that is much.

        Whatever is asked, no more is looked at than one answer can carry, and a few rounds above what is settled.

        Args:
            tops: the vertices.
            have: for each author the highest round of which he has a vertex; he has all below that, too.
            named: what he has asked for by name, and lacks whatever ``have`` says.
            settled: vertices on which every later leader stands: they are taken round by round, without a look at who stands on whom.
        """
        wanted = {one: self.vertices[one] for one in named if one in self.vertices}
        highest = max((self.vertices[one].round for one in tops if one in self.vertices), default=0)
        found = {one.id: one for one in self._settled_between(have, highest, settled)} | wanted
        most = max(BUNDLE_MAX, 8 * len(self._validators))
        pending = list(tops) if len(found) < BUNDLE_MAX else []
        done = set(pending)
        while pending and len(found) < most:
            vertex = self.vertices.get(pending.pop())
            if vertex is None or (vertex.id not in wanted and vertex.round <= have[vertex.author]):
                continue
            found[vertex.id] = vertex
            if vertex.id not in settled:
                below = [one.id for one in vertex.parents if one.id not in done]
                done.update(below)
                pending += below
        return sorted(found.values(), key=lambda one: (one.round, one.author, one.id))

    def _settled_between(self, have: Sequence[int], highest: int, settled: Container[bytes]) -> list[Vertex]:
        """The settled vertices above ``have`` and below a round, oldest first, as many as an answer can carry."""
        found: list[Vertex] = []
        slots = merge(*(self._slots_between(author, known, highest) for author, known in enumerate(have)))
        for number, author in islice(slots, 4 * BUNDLE_MAX):
            found += [self.vertices[one] for one in self.rounds[number][author] if one in settled]
            if len(found) >= BUNDLE_MAX:
                break
        return found

    def _slots_between(self, author: int, known: int, highest: int) -> Iterator[tuple[int, int]]:
        """The rounds between two in which an author has a vertex; each with the author."""
        rounds = self._rounds_of[author]
        for place in range(bisect_right(rounds, known), bisect_left(rounds, highest)):
            yield rounds[place], author

    def power_of(self, authors: Iterable[int]) -> int:
        """The power of some authors together; each at most once."""
        return self._validators.weight(authors)

    def reaches(self, start: bytes, targets: Sequence[bytes]) -> bytes | None:
        """The first of some vertices, all of one round, that is in the history of a vertex; None if none is."""
        wanted = dict.fromkeys(targets)
        if not wanted:
            return None
        bottom = self.vertices[targets[0]].round
        pending, done = [start], set()
        while pending:
            current = pending.pop()
            if current in wanted:
                return current
            if current in done:
                continue
            done.add(current)
            vertex = self.vertices.get(current)
            if vertex is not None and vertex.round > bottom:
                pending += [one.id for one in vertex.parents if one.round >= bottom]
        return None

    def prune(self, floor: int) -> Sequence[bytes]:
        """Forget all rounds below a floor; returns the ids that went."""
        gone: list[bytes] = []
        for number in [one for one in self.rounds if one < floor]:
            for ids in self.rounds.pop(number).values():
                gone += ids
        for rounds in self._rounds_of:
            del rounds[: bisect_left(rounds, floor)]
        for one in gone:
            del self.vertices[one], self.support[one], self.certificate[one]
        self.floor = max(self.floor, floor)
        self.quorum_round = max(self.quorum_round, floor - 1)
        return gone
