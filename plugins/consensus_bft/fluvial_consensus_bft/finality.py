"""Rule 6 of Simplex: a block with a finalization is final, and so are all its ancestors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fluvial.consensus.effects import Alarm, Broadcast, Commit, NeedHistory, Persist
from fluvial.encoding import encode
from fluvial.ledger.blocks import Anchor, FinalityProof, LedgerBlock
from fluvial.ledger.statements import Certificate

from fluvial_consensus_bft.messages import Ask, BaseRecord, VoteRecord
from fluvial_consensus_bft.recovery import Recovery

RECORDS_MAX: Final = 64
"""Records after which the ones that still matter are written anew."""


class Finality(Recovery):
    """A validator that commits what is final, and forgets what lies before it."""

    def _try_commit(self) -> None:
        """Rule 6: a final block and all its ancestors, once their bodies are here."""
        certificate = self._pending
        if certificate is None:
            return
        blocks, complete = self._views.chain_to(certificate)
        if not complete:
            self._blocks_missing(certificate, blocks)
            return
        self._pending = None
        blocks.reverse()
        real = [block for block in blocks if not block.header.filler]
        links = tuple(block.header for block in blocks if block.header.filler)
        self._final_certificate = certificate
        last = blocks[-1].header
        over = bool(links) or (bool(real) and real[-1].id in self._terminal)
        self._advance(Anchor(last.height, last.slot, last.id, last.state, last.time_ms), blocks)
        self._set(Commit(tuple(real), FinalityProof(certificate, links)))
        self._over = over
        if not over and self._records >= RECORDS_MAX:
            self._write_base()

    def _blocks_missing(self, certificate: Certificate, blocks: Sequence[LedgerBlock]) -> None:
        oldest = blocks[-1].header if blocks else None
        if oldest is not None and oldest.height <= self._views.final.height + 1 and not oldest.filler:
            self._alarm("fork", f"a final block of view {certificate.slot} does not stand on the final block here")
        elif self._may_ask():
            self._set(NeedHistory(self._validators.peers[certificate.signatures[0][0]]))
            self._set(Broadcast(encode(Ask(self._views.lacking(self._current))), "sync"))

    def _advance(self, final: Anchor, blocks: Sequence[LedgerBlock] | None) -> None:
        """Forget what is final."""
        self._progressed = True
        for block in self._views.advance(final, blocks):
            self._verdicts.pop(block, None)
            if block != final.id:
                self._terminal.pop(block, None)
        if self._pending is not None and self._pending.slot <= final.slot:
            self._pending = None

    def _write_base(self) -> None:
        votes = tuple(
            VoteRecord(vote, view.proposals.get(vote.digest))
            for view in self._views.open.values()
            for vote in view.own.values()
        )
        self._set(Persist(encode(BaseRecord(votes)), fresh=True))
        self._records = 0

    def _alarm(self, what: str, details: str) -> None:
        self._silent = True
        self._pending = None
        self._set(Alarm(what, details))
