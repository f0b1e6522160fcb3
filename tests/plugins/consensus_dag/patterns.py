"""Every pattern by which a slot is decided, as a drawing. Each raises AssertionError if a committer decides otherwise."""

from __future__ import annotations

from collections.abc import Callable

from fluvial_consensus_dag.committer import DagCommitter, SlotDecision
from fluvial_consensus_dag.graph import Graph

from tests.plugins.consensus_dag.drawing import VALIDATORS, Drawing

Make = Callable[[Graph], DagCommitter]


def honest(graph: Graph) -> DagCommitter:
    return DagCommitter(graph, VALIDATORS)


def direct_commit(make: Make) -> None:
    """Three rounds in which everybody stands on everybody: the first leader is committed, not before."""
    drawing = Drawing()
    drawing.round(1)
    leader = drawing.last[1].id
    drawing.round(2)
    assert make(drawing.graph).decide(1) == []
    drawing.round(3)
    assert make(drawing.graph).decide(1) == [SlotDecision(leader)]


def direct_skip(make: Make) -> None:
    """A quorum stands on nothing of the leader."""
    drawing = Drawing()
    drawing.round(1)
    drawing.round(2, {0: (0, 2, 3), 2: (0, 2, 3), 1: (1, 2, 3), 3: (0, 2, 3)})
    assert make(drawing.graph).decide(1) == [SlotDecision(None)]


def two_against_two(make: Make) -> None:
    """Two of four support: neither a certificate nor a skip is possible; only an anchor decides."""
    drawing = Drawing()
    drawing.round(1)
    drawing.round(2, {0: (0, 1, 2), 1: (0, 1, 2), 2: (0, 2, 3), 3: (0, 2, 3)})
    drawing.round(3)
    drawing.round(4)
    drawing.round(5)
    assert make(drawing.graph).decide(1) == []
    drawing.round(6)
    decisions = make(drawing.graph).decide(1)
    assert decisions[0] == SlotDecision(None)
    assert len(decisions) == 4
    assert all(one.vertex is not None for one in decisions[1:])


def lonely_certificate(drawing: Drawing) -> bytes:
    """Three support the leader of round 1, but only author 0 has seen all three: the only certificate."""
    drawing.round(1)
    leader = drawing.last[1].id
    drawing.round(2, {0: (0, 1, 2), 1: (0, 1, 2), 2: (0, 1, 2), 3: (0, 2, 3)})
    drawing.round(3, {0: (0, 1, 2), 1: (0, 1, 3), 2: (0, 2, 3), 3: (1, 2, 3)})
    return leader


def one_certificate_waits(make: Make) -> None:
    """One certificate is not enough for a direct commit."""
    drawing = Drawing()
    lonely_certificate(drawing)
    assert make(drawing.graph).decide(1) == []


def anchor_commits(make: Make) -> None:
    """A certificate in the anchor's history commits the slot."""
    drawing = Drawing()
    leader = lonely_certificate(drawing)
    for number in (4, 5):
        drawing.round(number)
    assert make(drawing.graph).decide(1) == []
    drawing.round(6)
    assert make(drawing.graph).decide(1)[0] == SlotDecision(leader)


def anchor_skips_what_it_does_not_see(make: Make) -> None:
    """The only certificate is not below the anchor: the slot is skipped, although the leader's vertex is."""
    drawing = Drawing()
    lonely_certificate(drawing)
    drawing.round(4, dict.fromkeys((0, 1, 2, 3), (1, 2, 3)))
    drawing.round(5)
    drawing.round(6)
    assert make(drawing.graph).decide(1)[0] == SlotDecision(None)


def skipped_slot_is_no_anchor(make: Make) -> None:
    """If the slot three rounds later is skipped, the next one is the anchor."""
    drawing = Drawing()
    leader = lonely_certificate(drawing)
    drawing.round(4)
    others = dict.fromkeys((0, 1, 2, 3), (1, 2, 3))
    drawing.round(5, others)  # nobody stands on author 0, who leads round 4
    drawing.round(6)
    assert make(drawing.graph).decide(1) == []
    drawing.round(7)
    decisions = make(drawing.graph).decide(1)
    assert decisions[0] == SlotDecision(leader)
    assert decisions[3] == SlotDecision(None)


def leader_equivocates(make: Make) -> None:
    """Of two vertices of the leader only the one with a quorum of supporters is committed."""
    drawing = Drawing()
    drawing.round(1)
    first = drawing.last
    second = drawing.vertex(1, 1, [], time_ms=1)
    others = [first[0], first[2]]
    drawing.last = {
        0: drawing.vertex(2, 0, [*others, second]),
        1: drawing.vertex(2, 1, [*others, second]),
        2: drawing.vertex(2, 2, [*others, second]),
        3: drawing.vertex(2, 3, [*others, first[1]]),
    }
    drawing.round(3)
    assert make(drawing.graph).decide(1) == [SlotDecision(second.id)]


def votes_are_counted_by_author(make: Make) -> None:
    """Two vertices of one author are one certificate."""
    drawing = Drawing()
    drawing.round(1)
    drawing.round(2)
    before = list(drawing.last.values())
    for time_ms in range(3):
        drawing.vertex(3, 0, before, time_ms=time_ms)
    drawing.vertex(3, 1, before)
    assert make(drawing.graph).decide(1) == []


PATTERNS = (
    direct_commit,
    direct_skip,
    two_against_two,
    one_certificate_waits,
    anchor_commits,
    anchor_skips_what_it_does_not_see,
    skipped_slot_is_no_anchor,
    leader_equivocates,
    votes_are_counted_by_author,
)
