"""What a validator knows of one view."""

from __future__ import annotations

from fluvial.ledger.statements import FINALIZE, NOTARIZE, NULLIFY, Certificate

from fluvial_consensus_bft.messages import Proposal, Vote
from fluvial_consensus_bft.tally import ViewTally

PROPOSALS_MAX = 2
"""Proposals that are kept of one view; two are the proof that its leader cheats."""


class SimplexView:
    """One view that is not final.

    Attributes:
        number: which one.
        tally: the votes.
        proposals: by block id, in the order in which they came.
        notarization, nullification, finalization: certificates.
        own: this validator's votes, by kind.
        proposed: this validator's proposal, if it leads.
    """

    __slots__ = ("finalization", "notarization", "nullification", "number", "own", "proposals", "proposed", "tally")

    def __init__(self, number: int, tally: ViewTally) -> None:
        self.number, self.tally = number, tally
        self.proposals: dict[bytes, Proposal] = {}
        self.notarization: Certificate | None = None
        self.nullification: Certificate | None = None
        self.finalization: Certificate | None = None
        self.own: dict[int, Vote] = {}
        self.proposed: Proposal | None = None

    @property
    def certified(self) -> Certificate | None:
        """The certificate that its block may be built on."""
        return self.notarization or self.finalization

    @property
    def is_certified(self) -> bool:
        """Whether there is any certificate of it."""
        return self.certified is not None or self.nullification is not None

    def has(self, certificate: Certificate) -> bool:
        """Whether it has such a certificate already."""
        known = {NOTARIZE: self.notarization, NULLIFY: self.nullification, FINALIZE: self.finalization}
        return known[certificate.kind] is not None

    def put(self, certificate: Certificate) -> None:
        """Keep a certificate."""
        if certificate.kind == NOTARIZE:
            self.notarization = certificate
        elif certificate.kind == NULLIFY:
            self.nullification = certificate
        else:
            self.finalization = certificate

    def has_room(self, block: bytes) -> bool:
        """Whether a proposal may be kept: one of the first two, or the one that has a certificate."""
        wanted = self.certified is not None and self.certified.digest == block
        return wanted or len(self.proposals) < PROPOSALS_MAX

    def may_finalize(self, block: bytes) -> bool:
        """Rule 5: a validator finalizes a block only if it has not nullified the view, nor notarized another block in it."""
        notarized = self.own.get(NOTARIZE)
        return FINALIZE not in self.own and NULLIFY not in self.own and (notarized is None or notarized.digest == block)

    def may_nullify(self) -> bool:
        """Rule 4: a validator that has finalized in a view never nullifies it."""
        return FINALIZE not in self.own and NULLIFY not in self.own
