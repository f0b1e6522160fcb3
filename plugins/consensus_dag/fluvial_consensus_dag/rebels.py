"""Bad variants of the DAG, for the laboratory: what a validator can do wrong that only the algorithm itself knows."""

from __future__ import annotations

from fluvial.consensus.effects import Broadcast
from fluvial.consensus.events import PayloadBuilt
from fluvial.encoding import encode
from fluvial.ledger.statements import VERTEX, signed_bytes

from fluvial_consensus_dag.dag import Dag
from fluvial_consensus_dag.messages import NewVertex, Parent, Vertex


class DagOnOld(Dag):
    """Makes vertices that stand on its own previous one alone, every second time."""

    def _parents(self, number: int) -> tuple[Parent, ...]:
        parents = super()._parents(number)
        return parents[:1] if number % 2 else parents


class DagSignsAll(Dag):
    """Makes two vertices in each round, and sends both to everybody."""

    def _built(self, built: PayloadBuilt) -> None:
        before = self._own_round
        super()._built(built)
        own = self._own
        if own is None or own.round <= before:
            return
        unsigned = Vertex(own.epoch, own.round, own.author, own.parents, own.payload, own.time_ms + 1, bytes(64))
        message = signed_bytes(self._setup.chain, VERTEX, own.epoch, own.round, unsigned.id)
        signature = self._setup.sign(message)
        second = Vertex(own.epoch, own.round, own.author, own.parents, own.payload, own.time_ms + 1, signature)
        self._set(Broadcast(encode(NewVertex(second)), "proposal"))
