"""Deliberately broken Simplexes, each with the schedule, or the kind of it, that finds it. What no schedule finds must not matter, or a schedule is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fluvial.consensus.effects import Accuse, Effect, Persist
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.events import Event, PayloadChecked
from fluvial.ledger.blocks import Anchor, BlockHeader, LedgerBlock
from fluvial.ledger.statements import FINALIZE, NOTARIZE, NOTHING, NULLIFY, Certificate, ValidatorSet
from fluvial_consensus_bft.messages import Proposal
from fluvial_consensus_bft.simplex import Simplex
from fluvial_consensus_bft.view import SimplexView
from fluvial_consensus_bft.views import Views


class LowQuorum(Simplex):
    """A quorum of 2f."""

    def __init__(self, setup: EngineSetup) -> None:
        super().__init__(setup)
        weak = ValidatorSet(setup.validators.members)
        object.__setattr__(weak, "quorum", 2 * weak.faulty_max)
        self._validators = weak
        self._views = Views(setup.epoch, weak, setup.anchor)


class Dropping(Simplex):
    """Leaves out some effects."""

    dropped: type[Any] = Persist

    def start(self, records: Sequence[bytes], now: int) -> Sequence[Effect]:
        return [one for one in super().start(records, now) if not self.drops(one)]

    def handle(self, event: Event, now: int) -> Sequence[Effect]:
        return [one for one in super().handle(event, now) if not self.drops(one)]

    def drops(self, effect: Effect) -> bool:
        return isinstance(effect, self.dropped)


class NoEvidence(Dropping):
    """Keeps what it knows of offences to itself."""

    dropped = Accuse


class IgnoresRecords(Simplex):
    """Forgets its votes in a crash."""

    def start(self, records: Sequence[bytes], now: int) -> Sequence[Effect]:
        return super().start([], now)


class PersistsLate(Simplex):
    """Sends before it persists."""

    def handle(self, event: Event, now: int) -> Sequence[Effect]:
        effects = super().handle(event, now)
        return [one for one in effects if not isinstance(one, Persist)] + [
            one for one in effects if isinstance(one, Persist)
        ]


class FinalizesAfterNullify(Simplex):
    """Forgets that it has nullified a view."""

    def _finalize(self, view: SimplexView, digest: bytes) -> None:
        if not self._silent and view.number > self._views.final.slot and FINALIZE not in view.own:
            self._cast(view, FINALIZE, digest)


class NullifiesAfterFinalize(Simplex):
    """Nullifies the view before the current one, which it may have finalized."""

    def _nullify(self) -> None:
        super()._nullify()
        before = self._views.open.get(self._current - 1)
        if before is not None and NULLIFY not in before.own and not self._silent:
            self._cast(before, NULLIFY, NOTHING)


class NotarizesTwice(Simplex):
    """Votes for each proposal of a view."""

    def _take_proposal(self, proposal: Proposal) -> None:
        super()._take_proposal(proposal)
        view = self._views.open.get(proposal.block.header.slot)
        mine = view.own.get(NOTARIZE) if view is not None else None
        if view is not None and mine is not None and mine.digest != proposal.block.id:
            self._cast(view, NOTARIZE, proposal.block.id, proposal)


class SkipsNullifications(Simplex):
    """Does not look whether the views between a block and its parent were nullified."""

    def __init__(self, setup: EngineSetup) -> None:
        super().__init__(setup)
        self._views = _Careless(setup.epoch, setup.validators, setup.anchor)

    def _parent_for(self, number: int) -> BlockHeader | Anchor | None:
        for before in range(number - 1, self._views.final.slot, -1):
            view = self._views.open.get(before)
            if view is not None and view.certified is not None and view.certified.digest in view.proposals:
                block = view.proposals[view.certified.digest].block
                return block.header if self._judge(block) == "" else None
        return self._views.final

    def _justification(self, number: int, parent: bytes) -> tuple[Certificate, ...]:
        return ()


class _Careless(Views):
    def parent_of(self, block: LedgerBlock) -> tuple[int, BlockHeader | Anchor] | None:
        parent = block.header.parent
        for number, view in sorted(self.open.items(), reverse=True):
            if number < block.header.slot and parent in view.proposals:
                return number, view.proposals[parent].block.header
        return (self.final.slot, self.final) if parent == self.final.id else None


class Believes(Simplex):
    """Votes for what its host has found to be wrong, for some reasons."""

    reasons: tuple[str, ...] = ("state root", "payload", "signature", "nonce")

    def handle(self, event: Event, now: int) -> Sequence[Effect]:
        if isinstance(event, PayloadChecked) and event.reason in self.reasons:
            event = PayloadChecked(event.block)
        return super().handle(event, now)


class IgnoresTime(Believes):
    """Accepts blocks from the future."""

    reasons = ("time",)


class Unchecked(Simplex):
    """Checks no signatures."""

    def _verified(self, kind: int, view: int, digest: bytes, signer: int, signature: bytes) -> bool:
        return True


class NoBackoff(Simplex):
    """Timeouts that never grow."""

    def _span(self) -> int:
        return self._setup.delta_ms


class NoRetry(Simplex):
    """Says nothing twice."""

    def _repeat_votes(self) -> None:
        pass

    def _stalled(self) -> None:
        pass


KILLERS: Final[dict[type[Simplex], tuple[str, int]]] = {
    LowQuorum: ("p04-split-in-half", 0),
    Dropping: ("p06-power-cut", 1),
    NoEvidence: ("h06-late-twin", 0),
    IgnoresRecords: ("p06-power-cut", 0),
    FinalizesAfterNullify: ("h02-told-too-short", 0),
    NullifiesAfterFinalize: ("h04-fast-clock", 0),
    NotarizesTwice: ("h12-forger", 0),
    SkipsNullifications: ("h04-fast-clock", 0),
    Believes: ("h08-builds-on-old", 0),
    IgnoresTime: ("h04-fast-clock", 0),
    NoBackoff: ("h02-told-too-short", 0),
    NoRetry: ("h11-one-way-links", 0),
}
"""For each mutant a schedule that it fails, and how many thousands its seed lies above the schedule's."""
