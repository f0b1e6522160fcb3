"""Rule 7 of Simplex: votes are sent again, and who misses something asks, or is told. Whoever asks is answered seldom, so that nobody can make us talk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fluvial.consensus.effects import (
    Broadcast,
    Send,
)
from fluvial.encoding import encode
from fluvial.identity import PeerId
from fluvial.ledger.statements import (
    NOTARIZE,
)

from fluvial_consensus_bft.messages import (
    Ask,
    Proof,
    Proposal,
    Vote,
)
from fluvial_consensus_bft.voter import VoterState

REPEATED_VIEWS: Final = 3
"""Views whose votes are repeated by a validator that is stuck: the last ones, and as many of the first that lack a certificate."""


class Recovery(VoterState):
    """A validator that repeats itself, asks and answers."""

    def _repeat_votes(self) -> None:
        """Rule 7: send the votes of the last views again, and the newest certificate."""
        if self._silent:
            return
        mine = [number for number, view in sorted(self._views.open.items()) if view.own]
        # A certificate that was known before a crash may be lost everywhere: then only the votes can make it again.
        uncertified = [number for number in mine if not self._views.open[number].is_certified][:REPEATED_VIEWS]
        for number in sorted({*uncertified, *mine[-REPEATED_VIEWS:]}):
            view = self._views.open[number]
            if view.proposed is not None:
                self._set(Broadcast(encode(view.proposed), "proposal"))
            for kind, vote in view.own.items():
                if kind != NOTARIZE or view.proposed is None:
                    again = Vote(kind, vote.view, vote.digest, vote.signer, vote.signature, vote.leader, retry=True)
                    self._set(Broadcast(encode(again), "vote"))
        if self._best is not None:
            self._set(Broadcast(encode(Proof(self._best)), "certificate"))

    def _may_ask(self) -> bool:
        if self._now - self._asked_at < self._setup.delta_ms // 2:
            return False
        self._asked_at = self._now
        return True

    def _ask_views(self) -> None:
        """Ask everybody for what is lacking."""
        lacking = self._views.lacking(self._current)
        if lacking and self._may_ask():
            self._set(Broadcast(encode(Ask(lacking)), "sync"))

    def _answer_ask(self, sender: PeerId, views: Sequence[int]) -> None:
        if not self._may_answer(sender):
            return
        for number in views:
            view = self._views.open.get(number)
            if view is None:
                continue
            if not view.is_certified and not self._silent:
                for vote in view.own.values():
                    self._set(Send(sender, encode(vote), "vote"))
            for certificate in (view.nullification, view.certified):
                if certificate is not None:
                    self._set(Send(sender, encode(Proof(certificate)), "certificate"))
            if view.certified is not None and (proposal := view.proposals.get(view.certified.digest)) is not None:
                self._set(Send(sender, encode(Proposal(proposal.block, proposal.signature)), "sync"))

    def _answer_retry(self, sender: PeerId, number: int) -> None:
        """Tell who is stuck in a view that is over here what it has missed."""
        if number >= self._current or not self._may_answer(sender):
            return
        view = self._views.open.get(number)
        known = [view.nullification, view.certified] if view is not None else []
        known.append(self._final_certificate if number <= self._views.final.slot else None)
        known.append(self._best)
        for certificate in {id(one): one for one in known if one is not None}.values():
            self._set(Send(sender, encode(Proof(certificate)), "certificate"))

    def _may_answer(self, sender: PeerId) -> bool:
        """Whether a peer may be answered: not more often than every Δ/2."""
        if self._now - self._answered.get(sender, -self._setup.delta_ms) < self._setup.delta_ms // 2:
            return False
        self._answered[sender] = self._now
        return True
