"""Bad variants of Simplex, for the laboratory: what a validator can do wrong that only the algorithm itself knows."""

from __future__ import annotations

from fluvial.consensus.effects import Broadcast
from fluvial.encoding import encode
from fluvial.ledger.blocks import Anchor, BlockHeader
from fluvial.ledger.statements import FINALIZE, NOTARIZE, NOTHING, NULLIFY, Certificate

from fluvial_consensus_bft.messages import Proposal, Vote
from fluvial_consensus_bft.simplex import Simplex


class SimplexOnOld(Simplex):
    """Proposes on the last final block, whatever was notarized since."""

    def _parent_for(self, number: int) -> BlockHeader | Anchor | None:
        return self._views.final

    def _justification(self, number: int, parent: bytes) -> tuple[Certificate, ...]:
        known = [self._views.open[before].nullification for before in sorted(self._views.open) if before < number]
        return tuple(one for one in known if one is not None)


class SimplexSignsAll(Simplex):
    """Notarizes, nullifies and finalizes whatever is proposed."""

    def _take_proposal(self, proposal: Proposal) -> None:
        super()._take_proposal(proposal)
        number, block = proposal.block.header.slot, proposal.block.id
        if self._index is None:
            return
        for kind, digest in ((NOTARIZE, block), (NULLIFY, NOTHING), (FINALIZE, block)):
            leader = proposal.signature if kind == NOTARIZE else None
            vote = Vote(kind, number, digest, self._index, self._sign(kind, number, digest), leader)
            self._set(Broadcast(encode(vote), "vote"))
