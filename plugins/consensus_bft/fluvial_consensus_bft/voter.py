"""What every rule of Simplex uses: the state of a validator, its signatures, and checks of what others have signed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fluvial.consensus.effects import (
    Accuse,
    Effect,
)
from fluvial.consensus.engine import EngineSetup
from fluvial.identity import PeerId
from fluvial.ledger.blocks import Anchor, BlockHeader
from fluvial.ledger.statements import (
    NOTHING,
    NULLIFY,
    Certificate,
    Evidence,
    leader_of,
    signed_bytes,
)

from fluvial_consensus_bft.messages import Proposal
from fluvial_consensus_bft.tally import ViewTally
from fluvial_consensus_bft.views import Views

GROWTH_MAX: Final = 32
"""Timeouts grow to at most so many times their usual length."""


class VoterState:
    """The state of one validator, or of a follower that casts no votes.

    Args:
        setup: its world.
    """

    def __init__(self, setup: EngineSetup) -> None:
        self._setup = setup
        self._validators = setup.validators
        self._index = setup.validators.index(setup.me)
        self._final_certificate: Certificate | None = None
        self._current = setup.anchor.slot
        self._views = Views(setup.epoch, setup.validators, setup.anchor)
        self._verdicts: dict[bytes, str | None] = {}
        self._terminal: dict[bytes, None] = {}
        self._best: Certificate | None = None
        self._pending: Certificate | None = None
        self._building = 0
        self._building_on = b""
        self._records = 0
        self._progressed = False
        self._asked_at = -setup.delta_ms
        self._answered: dict[PeerId, int] = {}
        self._silent = self._index is None
        self._over = False
        self._now = 0
        self._effects: list[Effect] = []

    def _count(self, tally: ViewTally, kind: int, view: int, digest: bytes, signer: int, signature: bytes) -> None:
        """Count a vote, if it is new, there is room and the signature is right."""
        if tally.knows(kind, digest, signer) or not tally.has_room(kind, signer):
            return
        if self._verified(kind, view, digest, signer, signature):
            self._accuse(tally.add(kind, digest, signer, signature))

    def _verified(self, kind: int, view: int, digest: bytes, signer: int, signature: bytes) -> bool:
        message = signed_bytes(self._setup.chain, kind, self._setup.epoch, view, digest)
        return self._setup.verify(self._validators.keys[signer], signature, message)

    def _accuse(self, evidence: Evidence | None) -> None:
        if evidence is not None:
            self._set(Accuse(evidence))

    def _is_signed(self, certificate: Certificate, tally: ViewTally | None) -> bool:
        kind, number, digest = certificate.kind, certificate.slot, certificate.digest
        if (kind == NULLIFY) != (digest == NOTHING):
            return False
        return all(
            (tally is not None and tally.signature(kind, digest, signer) == signature)
            or self._verified(kind, number, digest, signer, signature)
            for signer, signature in certificate.signatures
        )

    def _is_well_formed(self, proposal: Proposal) -> bool:
        """Whether a proposal may be kept; certificates with more signatures than there are validators only fill the memory."""
        header = proposal.block.header
        return (
            header.chain == self._setup.chain
            and header.epoch == self._setup.epoch
            and header.proposer == self._leader(header.slot)
            and header.validators == self._validators.digest
            and proposal.block.is_whole()
            and all(len(one.signatures) <= len(self._validators) for one in proposal.justification)
        )

    def _filler(self, parent: BlockHeader | Anchor, slot: int) -> BlockHeader:
        """The header of the filler on a terminal block or on another filler."""
        return BlockHeader(
            chain=self._setup.chain,
            epoch=self._setup.epoch,
            slot=slot,
            height=parent.height,
            parent=parent.id,
            payload=NOTHING,
            state=parent.state,
            validators=self._validators.digest,
            proposer=self._leader(slot),
            time_ms=parent.time_ms + 1,
            filler=True,
        )

    def _sign(self, kind: int, view: int, digest: bytes) -> bytes:
        return self._setup.sign(signed_bytes(self._setup.chain, kind, self._setup.epoch, view, digest))

    def _span(self) -> int:
        """Δ, or more after many views without a final block: if the Δ that was configured is too short, it grows until it is not."""
        beyond = self._current - self._views.final.slot - 2 - self._validators.faulty_max
        grown = self._setup.delta_ms
        for _ in range(min(max(0, beyond), 16)):
            grown = grown * 3 // 2
        return min(grown, GROWTH_MAX * self._setup.delta_ms)

    def _leader(self, number: int) -> int:
        return leader_of(self._validators, self._setup.epoch, number)

    def _set(self, effect: Effect) -> None:
        self._effects.append(effect)

    def _taken(self) -> Sequence[Effect]:
        effects, self._effects = self._effects, []
        return effects
