"""Which leaders' vertices are committed: nobody votes, the graph says it.

Every round is a slot of one leader. A vertex of the next round *supports* the leader's vertex if that is its parent; a vertex one round later is a
*certificate* for it if a quorum of its parents supports it.

1. Direct commit: a quorum of authors made certificates.
2. Direct skip: a quorum of authors supports nothing in the slot.
3. Else the *anchor* decides, the first later slot, three rounds or more ahead, that is not skipped: what has a certificate in its history is
   committed, else the slot is skipped. Without a committed anchor the slot stays undecided.

Source: Babel et al., "Mysticeti: Reaching the Limits of Latency with Uncertified DAGs" (2024), section 3, with one leader a round.
"""

from __future__ import annotations

from typing import Final

import msgspec
from fluvial.ledger.statements import ValidatorSet

from fluvial_consensus_dag.graph import Graph

WAVE: Final = 3
"""Rounds from a slot to the first one that can be its anchor."""


class SlotDecision(msgspec.Struct, frozen=True):
    """A slot's outcome: the committed vertex, or None if it is skipped."""

    vertex: bytes | None


class DagCommitter:
    """Decides about slots.

    Args:
        graph: the accepted vertices.
        validators: of the epoch.
    """

    def __init__(self, graph: Graph, validators: ValidatorSet) -> None:
        self._graph, self._validators = graph, validators

    def decide(self, first: int) -> list[SlotDecision]:
        """The decisions about the slots from ``first`` on, up to the first one that is open."""
        last = self._graph.top - 1
        found: dict[int, SlotDecision | None] = {}
        for slot in range(last, first - 1, -1):
            decision = self.direct(slot)
            found[slot] = decision if decision is not None else self._indirect(slot, last, found)
        decisions = []
        for slot in range(first, last + 1):
            decision = found[slot]
            if decision is None:
                break
            decisions.append(decision)
        return decisions

    def direct(self, slot: int) -> SlotDecision | None:
        """Rules 1 and 2."""
        certifiers: dict[bytes, list[int]] = {}
        for author, ids in self._graph.in_round(slot + 2):
            for block in dict.fromkeys(self._graph.certificate[one] for one in ids):
                if block is not None:
                    certifiers.setdefault(block, []).append(author)
        for block, authors in certifiers.items():
            if self._is_quorum(authors):
                return SlotDecision(block)
        against = [
            author
            for author, ids in self._graph.in_round(slot + 1)
            if any(self._graph.support[one] is None for one in ids)
        ]
        return SlotDecision(None) if self._is_quorum(against) else None

    def _indirect(self, slot: int, last: int, found: dict[int, SlotDecision | None]) -> SlotDecision | None:
        """Rule 3."""
        for later in range(slot + WAVE, last + 1):
            anchor = found[later]
            if anchor is None:
                return None
            if anchor.vertex is not None:
                return self._by_anchor(slot, anchor.vertex)
        return None

    def _by_anchor(self, slot: int, anchor: bytes) -> SlotDecision:
        for block in sorted(self._graph.leader_vertices(slot)):
            certificates = [
                one for _, ids in self._graph.in_round(slot + 2) for one in ids if self._graph.certificate[one] == block
            ]
            if self._graph.reaches(anchor, certificates) is not None:
                return SlotDecision(block)
        return SlotDecision(None)

    def _is_quorum(self, authors: list[int]) -> bool:
        return self._validators.weight(authors) >= self._validators.quorum
