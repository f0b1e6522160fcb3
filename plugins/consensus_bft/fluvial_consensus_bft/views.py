"""The views that are not final, and what is remembered of those that are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fluvial.ledger.blocks import Anchor, BlockHeader, LedgerBlock
from fluvial.ledger.statements import Certificate, ValidatorSet

from fluvial_consensus_bft.messages import VIEWS_MAX
from fluvial_consensus_bft.tally import ViewTally
from fluvial_consensus_bft.view import SimplexView

REMEMBERED: Final = 128
"""Final views whose votes are still compared with what comes late."""


class Views:
    """All that a validator knows of the views of one epoch.

    Args:
        epoch: which.
        validators: who votes in them.
        anchor: the last final block.

    Attributes:
        final: the last final block; views up to its slot are over.
        open: the views after it, by number.
    """

    def __init__(self, epoch: int, validators: ValidatorSet, anchor: Anchor) -> None:
        self._epoch, self._validators = epoch, validators
        self.final = anchor
        self.open: dict[int, SimplexView] = {}
        self._past: dict[int, ViewTally] = {}
        self._final_blocks: dict[int, bytes] = {anchor.slot: anchor.id}
        self._known_from = anchor.slot

    def view(self, number: int) -> SimplexView:
        """An open view."""
        assert number > self.final.slot, "views up to the final one are over"
        view = self.open.get(number)
        if view is None:
            view = self.open[number] = SimplexView(number, ViewTally(self._epoch, number, self._validators))
        return view

    def tally(self, number: int) -> ViewTally | None:
        """The votes of a view that is open and known, or final and remembered."""
        view = self.open.get(number)
        return view.tally if view is not None else self._past.get(number)

    def contradicts(self, number: int, digest: bytes) -> bool:
        """Whether a block that is final in a past view is none of the chain here."""
        return number >= self._known_from and self._final_blocks.get(number) != digest

    def is_past_known(self, number: int) -> bool:
        """Whether a past view's block is one of the chain here."""
        return number in self._final_blocks

    def parent_of(self, block: LedgerBlock) -> tuple[int, BlockHeader | Anchor] | None:
        """View and header of the certified block that a block stands on.

        None if its certificate or body is not here, or a view between is not nullified.
        """
        parent = block.header.parent
        for number in range(block.header.slot - 1, self.final.slot, -1):
            view = self.open.get(number)
            if view is None:
                return None
            if view.certified is not None and view.certified.digest == parent:
                found = view.proposals.get(parent)
                return None if found is None else (number, found.block.header)
            if view.nullification is None:
                return None
        return (self.final.slot, self.final) if parent == self.final.id else None

    def justification(self, number: int, parent: bytes, final: Certificate | None) -> Sequence[Certificate]:
        """What shows that a block of a view may stand on its parent; the parent's certificate comes first.

        Args:
            number: the view.
            parent: id of the parent, as :meth:`parent_of` would find it.
            final: the certificate of the last final block, if one is known.
        """
        certificates: list[Certificate] = []
        for before in range(number - 1, self.final.slot, -1):
            view = self.open[before]
            if view.certified is not None and view.certified.digest == parent:
                return [view.certified, *reversed(certificates)]
            assert view.nullification is not None, "views between a block and its parent are nullified"
            certificates.append(view.nullification)
        return [*([final] if final is not None else []), *reversed(certificates)]

    def chain_to(self, certificate: Certificate) -> tuple[list[LedgerBlock], bool]:
        """The blocks from the last final one to a certified one, newest first, and whether none is missing."""
        blocks: list[LedgerBlock] = []
        wanted = certificate.digest
        for number in range(certificate.slot, self.final.slot, -1):
            view = self.open.get(number)
            proposal = view.proposals.get(wanted) if view is not None else None
            if proposal is not None:
                blocks.append(proposal.block)
                wanted = proposal.block.header.parent
        return blocks, wanted == self.final.id

    def lacking(self, current: int) -> tuple[int, ...]:
        """The newest views before the current one that lack a certificate, or the block that one is for."""
        lacking = [
            number
            for number in range(self.final.slot + 1, current)
            if (view := self.open.get(number)) is None
            or (view.certified is None and view.nullification is None)
            or (view.certified is not None and view.certified.digest not in view.proposals)
        ]
        return tuple(lacking[-VIEWS_MAX:])

    def advance(self, final: Anchor, blocks: Sequence[LedgerBlock] | None) -> list[bytes]:
        """Close the views up to a final block; only their votes are remembered, for a while.

        Args:
            final: the block.
            blocks: all final blocks since the last one; None if they are not known here.

        Returns:
            The ids of the blocks whose bodies are forgotten.
        """
        self.final = final
        if blocks is None:
            self._known_from = final.slot
        for block in blocks or ():
            self._final_blocks[block.header.slot] = block.id
        self._final_blocks[final.slot] = final.id
        gone: list[bytes] = []
        for number in [one for one in self.open if one <= final.slot]:
            view = self.open.pop(number)
            self._past[number] = view.tally
            gone += view.proposals
        oldest = final.slot - REMEMBERED
        self._past = {number: tally for number, tally in self._past.items() if number > oldest}
        self._final_blocks = {number: one for number, one in self._final_blocks.items() if number > oldest}
        return gone
