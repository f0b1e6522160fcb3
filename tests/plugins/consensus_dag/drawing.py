"""DAGs drawn by hand: four authors, and who stands on whom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fluvial.consensus.lab.keys import keys_of
from fluvial.ledger.statements import Validator, ValidatorSet
from fluvial_consensus_dag.graph import Graph
from fluvial_consensus_dag.messages import Vertex

VALIDATORS = ValidatorSet(Validator(str(keys_of(f"node {number}").peer_id)) for number in range(4))
ALL = (0, 1, 2, 3)


class Drawing:
    """A graph that grows round by round; the leader of round r is author r mod 4."""

    def __init__(self) -> None:
        self.graph = Graph(0, VALIDATORS)
        self.last: dict[int, Vertex] = {}

    def vertex(self, number: int, author: int, parents: Iterable[Vertex], *, time_ms: int = 0) -> Vertex:
        """Add one vertex."""
        made = Vertex(0, number, author, tuple(one.reference for one in parents), b"", time_ms, bytes(64))
        assert self.graph.is_well_formed(made)
        self.graph.add(made)
        return made

    def round(
        self, number: int, parents: Mapping[int, Iterable[int]] | None = None, authors: Iterable[int] = ALL
    ) -> None:
        """Add a round: for each author the authors of the round before on which it stands; all by default."""
        before = self.last
        self.last = {
            author: self.vertex(number, author, [before[one] for one in sorted((parents or {}).get(author, before))])
            for author in authors
        }
