"""Simplex: validators vote on one block per view, and go on with a certificate that it was notarized, or that the view was nullified.

Source: Chan and Pass, "Simplex Consensus: A Simple and Fast Consensus Protocol" (TCC 2023). The rules are numbered in `docs/consensus.md`.

Deviations from the paper:

- A finalize vote names its block, and a validator that has notarized another block in the view does not cast it. So every offence is two signatures
  of one key in one view, and a fork convicts a third of the validators.
- A notarize vote carries the leader's signature on the block, so that two halves that saw different blocks prove it to each other.
- Lost votes are sent again, and who seems to be stuck is told what it has missed.

All of a view that is not final is in a ``View``; everything older is forgotten, except for the votes of the last views, which are compared with late
ones for evidence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fluvial.consensus.effects import (
    Broadcast,
    BuildPayload,
    CancelTimer,
    CheckPayload,
    Effect,
    NeedHistory,
    Persist,
    Send,
    SetTimer,
)
from fluvial.consensus.events import Event, MessageReceived, PayloadBuilt, PayloadChecked, Synced, TimerFired
from fluvial.encoding import decode, encode
from fluvial.identity import PeerId
from fluvial.ledger.blocks import Anchor, BlockHeader, LedgerBlock, payload_hash
from fluvial.ledger.statements import (
    FINALIZE,
    NOTARIZE,
    NOTHING,
    NULLIFY,
    Certificate,
)

from fluvial_consensus_bft.finality import Finality
from fluvial_consensus_bft.messages import (
    JUSTIFICATION_MAX,
    Ask,
    BaseRecord,
    Message,
    Proof,
    Proposal,
    Record,
    Vote,
    VoteRecord,
    read_message,
)
from fluvial_consensus_bft.view import SimplexView

AHEAD_MAX: Final = 64
"""Votes of views further ahead are dropped; a certificate of any view is taken."""
REPEATED_MAX: Final = 16
"""Finalize votes of one's own that are repeated at once."""


class Simplex(Finality):
    """One validator, or a follower that casts no votes.

    Args:
        setup: its world.
    """

    # --- the engine's three methods -------------------------------------------------------------------------------------

    def start(self, records: Sequence[bytes], now: int) -> Sequence[Effect]:
        """Begin, or go on with the votes of an earlier run."""
        self._now = now
        known: list[VoteRecord] = []
        for data in records:
            record: Record = decode(data, Record, what="record of Simplex")  # type: ignore[arg-type]  # a union
            known = [*record.votes] if isinstance(record, BaseRecord) else [*known, record]
        newest = self._views.final.slot
        for one in known:
            if one.vote.view > self._views.final.slot:
                self._recall(one)
                newest = max(newest, one.vote.view)
        self._set(SetTimer("stall", 3 * self._setup.delta_ms))
        if known or self._views.final.height:
            self._set(NeedHistory())
        self._enter(max(self._views.final.slot + 1, newest), None)
        if known:
            self._repeat_votes()
        self._progress()
        return self._taken()

    def handle(self, event: Event, now: int) -> Sequence[Effect]:
        """React to one event."""
        self._now = now
        if self._over:
            return ()
        match event:
            case MessageReceived(sender, data):
                if (message := read_message(data)) is not None:
                    self._receive(sender, message)
            case TimerFired(name):
                self._fired(name)
            case PayloadBuilt():
                self._built(event)
            case PayloadChecked(block, reason, terminal):
                self._checked(block, reason, terminal)
            case Synced(anchor):
                self._synced(anchor)
        return self._taken()

    def inspect(self) -> Mapping[str, Any]:
        """Where it stands."""
        return {"view": self._current, "final_view": self._views.final.slot, "views": len(self._views.open)}

    # --- messages -------------------------------------------------------------------------------------------------------

    def _receive(self, sender: PeerId, message: Message) -> None:
        match message:
            case Vote():
                self._take_vote(sender, message)
            case Proof(certificate):
                self._take_certificate(certificate)
            case Proposal():
                self._take_proposal(message)
            case Ask(views):
                self._answer_ask(sender, views)

    def _take_vote(self, sender: PeerId, vote: Vote) -> None:
        if vote.signer >= len(self._validators) or vote.view > self._current + AHEAD_MAX or vote.view < 1:
            return
        if vote.kind == NULLIFY and vote.digest != NOTHING:
            return
        view = self._views.view(vote.view) if vote.view > self._views.final.slot else None
        tally = self._views.tally(vote.view)
        if tally is not None:
            self._count(tally, vote.kind, vote.view, vote.digest, vote.signer, vote.signature)
            leader = self._leader(vote.view)
            if vote.kind == NOTARIZE and vote.leader is not None:
                self._count(tally, NOTARIZE, vote.view, vote.digest, leader, vote.leader)
            if view is not None and tally.knows(vote.kind, vote.digest, vote.signer):
                self._certify(view, vote.kind, vote.digest)
                if vote.kind == NULLIFY and vote.signer == leader and vote.view == self._current:
                    self._nullify()
        if vote.retry:
            self._answer_retry(sender, vote.view)

    def _certify(self, view: SimplexView, kind: int, digest: bytes) -> None:
        """Make a certificate of the votes, once they are enough."""
        certificate = view.tally.certificate(kind, digest)
        if certificate is not None and not view.has(certificate):
            self._use(view, certificate)

    def _take_certificate(self, certificate: Certificate) -> bool:
        """Check a certificate as a whole and count its votes; contradictions that two certificates hide come to light so."""
        number = certificate.slot
        if certificate.epoch != self._setup.epoch or not NOTARIZE <= certificate.kind <= FINALIZE or number < 1:
            return False
        view = self._views.open.get(number)
        if view is not None and view.has(certificate):
            return True
        tally = self._views.tally(number)
        if number <= self._views.final.slot and tally is None:
            return self._views.is_past_known(number)
        if not certificate.is_wellformed(self._validators) or not self._is_signed(certificate, tally):
            return False
        if tally is None:
            view = self._views.view(number)
            tally = view.tally
        for signer, signature in certificate.signatures:
            new = not tally.knows(certificate.kind, certificate.digest, signer)
            if new and tally.has_room(certificate.kind, signer):
                self._accuse(tally.add(certificate.kind, certificate.digest, signer, signature))
        if view is not None:
            self._use(view, certificate)
        elif certificate.kind == FINALIZE and self._views.contradicts(number, certificate.digest):
            self._alarm("fork", f"another block is final in view {number}")
        return True

    def _take_proposal(self, proposal: Proposal) -> None:
        header = proposal.block.header
        number = header.slot
        if not self._views.final.slot < number <= self._current + AHEAD_MAX or not self._is_well_formed(proposal):
            return
        view = self._views.view(number)
        leader = self._leader(number)
        if header.id not in view.proposals:
            if not view.tally.knows(NOTARIZE, header.id, leader) and not self._verified(
                NOTARIZE, number, header.id, leader, proposal.signature
            ):
                return
            self._count(view.tally, NOTARIZE, number, header.id, leader, proposal.signature)
            if view.has_room(header.id):
                view.proposals[header.id] = proposal
                self._certify(view, NOTARIZE, header.id)
        if number >= self._current:
            for certificate in proposal.justification:
                if not self._take_certificate(certificate):
                    break
        self._progress()

    # --- certificates and views -----------------------------------------------------------------------------------------

    def _use(self, view: SimplexView, certificate: Certificate) -> None:
        """Act on a new certificate: rules 1, 5 and 6."""
        view.put(certificate)
        if self._best is None or certificate.slot >= self._best.slot:
            self._best = certificate
        if certificate.kind == NOTARIZE:
            self._finalize(view, certificate.digest)
        if certificate.kind == FINALIZE and (self._pending is None or certificate.slot > self._pending.slot):
            self._pending = certificate
        if certificate.slot >= self._current:
            self._enter(certificate.slot + 1, certificate)
        self._progress()

    def _enter(self, number: int, certificate: Certificate | None) -> None:
        """Rule 1: begin a view, and let its leader know why it has begun."""
        self._current = number
        span = self._span()
        self._set(SetTimer("leader", 2 * span + self._setup.idle_ms))
        self._set(SetTimer("view", 3 * span + self._setup.idle_ms))
        self._set(CancelTimer("retry"))
        leader = self._leader(number)
        if certificate is not None and leader != self._index:
            self._set(Send(self._validators.peers[leader], encode(Proof(certificate)), "certificate"))

    def _progress(self) -> None:
        """Do whatever is possible now: commit, propose, vote."""
        self._try_commit()
        if self._silent or self._over:
            return
        view = self._views.view(self._current)
        if self._leader(self._current) == self._index:
            self._try_propose(view)
        if NOTARIZE not in view.own:
            for proposal in list(view.proposals.values()):
                if self._try_vote(view, proposal):
                    break

    def _try_vote(self, view: SimplexView, proposal: Proposal) -> bool:
        """Rule 3; returns whether it was voted for."""
        block = proposal.block
        if self._views.parent_of(block) is None:
            if self._may_ask():
                leader = self._validators.peers[self._leader(view.number)]
                self._set(Send(leader, encode(Ask(self._views.lacking(self._current))), "sync"))
            return False
        verdict = self._judge(block)
        if verdict is None:
            return False
        if verdict:
            self._nullify()
            return False
        self._cast(view, NOTARIZE, block.id, proposal)
        self._set(CancelTimer("leader"))
        return True

    def _judge(self, block: LedgerBlock) -> str | None:
        """Why a block must not be voted for; empty if it may; None as long as that is not known. Parents are judged first."""
        if block.id in self._verdicts:
            return self._verdicts[block.id]
        found = self._views.parent_of(block)
        if found is None:
            return None
        _, parent = found
        header = block.header
        if parent.id != self._views.final.id:
            above = self._judge(self._views.open[found[0]].proposals[parent.id].block)
            if above != "":
                return above
        if header.filler or parent.id in self._terminal:
            fits = parent.id in self._terminal and header == self._filler(parent, header.slot)
            self._verdicts[block.id] = "" if fits and not block.payload else "filler"
            if fits:
                self._terminal[block.id] = None
            return self._verdicts[block.id]
        if header.height != parent.height + 1:
            self._verdicts[block.id] = "height"
            return "height"
        self._verdicts[block.id] = None
        self._set(CheckPayload(block))
        return None

    def _checked(self, block: bytes, reason: str, terminal: bool) -> None:
        if block in self._verdicts:  # else it has become final meanwhile
            self._verdicts[block] = reason
            if terminal:
                self._terminal[block] = None
            self._progress()

    # --- proposing ------------------------------------------------------------------------------------------------------

    def _try_propose(self, view: SimplexView) -> None:
        """Rule 2: on the newest certified block, with every view between nullified."""
        if view.proposed is not None or self._building == view.number or NULLIFY in view.own:
            return
        parent = self._parent_for(view.number)
        if parent is None:
            self._ask_views()
            return
        if parent.id in self._terminal:
            self._propose(view, LedgerBlock(self._filler(parent, view.number)))
        else:
            self._building, self._building_on = view.number, parent.id
            self._set(BuildPayload(view.number, parent.id))

    def _parent_for(self, number: int) -> BlockHeader | Anchor | None:
        """The header of the block that a view's leader builds on; None if something is missing for that."""
        for before in range(number - 1, self._views.final.slot, -1):
            view = self._views.open.get(before)
            if view is None:
                return None
            proposal = view.proposals.get(view.certified.digest) if view.certified is not None else None
            if proposal is not None and (verdict := self._judge(proposal.block)) is not None and not verdict:
                return proposal.block.header
            if view.nullification is None:
                return None
        return self._views.final

    def _built(self, built: PayloadBuilt) -> None:
        view = self._views.open.get(built.request)
        self._building = 0 if self._building == built.request else self._building
        if view is None or built.request != self._current or view.proposed is not None or self._silent:
            return
        parent = self._parent_for(view.number)
        if parent is None or parent.id in self._terminal or NOTARIZE in view.own:
            return
        if parent.id != self._building_on:  # a certificate came meanwhile
            self._try_propose(view)
            return
        header = BlockHeader(
            chain=self._setup.chain,
            epoch=self._setup.epoch,
            slot=view.number,
            height=parent.height + 1,
            parent=parent.id,
            payload=payload_hash(built.payload),
            state=built.state,
            validators=self._validators.digest,
            proposer=self._leader(view.number),
            time_ms=built.time_ms,
        )
        self._propose(view, LedgerBlock(header, built.payload))

    def _propose(self, view: SimplexView, block: LedgerBlock) -> None:
        signature = self._sign(NOTARIZE, view.number, block.id)
        proposal = Proposal(block, signature, self._justification(view.number, block.header.parent))
        view.proposed = proposal
        view.proposals[block.id] = proposal
        self._judge(block)
        self._cast(view, NOTARIZE, block.id, proposal)

    # --- votes of one's own ---------------------------------------------------------------------------------------------

    def _cast(self, view: SimplexView, kind: int, digest: bytes, proposal: Proposal | None = None) -> None:
        """Persist a vote, send it and count it."""
        assert self._index is not None, "only a validator votes"
        signature = self._sign(kind, view.number, digest)
        leader = proposal.signature if proposal is not None and view.proposed is None else None
        vote = Vote(kind, view.number, digest, self._index, signature, leader)
        view.own[kind] = vote
        self._set(Persist(encode(VoteRecord(vote, proposal))))
        self._records += 1
        if kind == NOTARIZE and view.proposed is not None:
            self._set(Broadcast(encode(view.proposed), "proposal"))  # the leader's signature on it is its vote
        else:
            self._set(Broadcast(encode(vote), "vote"))
        self._accuse(view.tally.add(kind, digest, self._index, signature))
        self._certify(view, kind, digest)

    def _finalize(self, view: SimplexView, digest: bytes) -> None:
        """Rule 5."""
        if not self._silent and view.number > self._views.final.slot and view.may_finalize(digest):
            self._cast(view, FINALIZE, digest)

    def _nullify(self) -> None:
        """Rule 4."""
        view = self._views.view(self._current)
        if not self._silent and view.may_nullify():
            self._set(SetTimer("retry", 3 * self._span()))
            self._cast(view, NULLIFY, NOTHING)

    def _recall(self, record: VoteRecord) -> None:
        """Know a vote of an earlier run again."""
        vote = record.vote
        view = self._views.view(vote.view)
        view.own[vote.kind] = vote
        view.tally.add(vote.kind, vote.digest, vote.signer, vote.signature)
        proposal = record.proposal
        if proposal is not None:
            view.proposals[proposal.block.id] = proposal
            leader = self._leader(vote.view)
            if leader == self._index:
                view.proposed = proposal
            else:
                view.tally.add(NOTARIZE, vote.digest, leader, proposal.signature)

    # --- finality -------------------------------------------------------------------------------------------------------

    def _synced(self, anchor: Anchor) -> None:
        if anchor.slot > self._views.final.slot:
            self._final_certificate = None
            self._advance(anchor, None)
            if self._current <= anchor.slot:
                self._enter(anchor.slot + 1, None)
            self._progress()

    def _justification(self, number: int, parent: bytes) -> tuple[Certificate, ...]:
        found = self._views.justification(number, parent, self._final_certificate)
        return tuple(found[:JUSTIFICATION_MAX])

    # --- timers, and what was lost --------------------------------------------------------------------------------------

    def _fired(self, name: str) -> None:
        view = self._views.view(self._current)
        match name:
            case "leader":
                if NOTARIZE not in view.own:
                    self._nullify()
            case "view":
                self._nullify()
                self._set(SetTimer("retry", 3 * self._span()))
            case "retry":
                self._set(SetTimer("retry", 3 * self._span()))
                self._repeat_votes()
                self._ask_views()
            case "stall":
                self._set(SetTimer("stall", 3 * self._setup.delta_ms))
                if not self._progressed:
                    self._stalled()
                self._progressed = False

    def _stalled(self) -> None:
        """Nothing became final for a while: perhaps finalize votes were lost, or this peer misses what others have."""
        mine = [view.own[FINALIZE] for view in self._views.open.values() if FINALIZE in view.own]
        if not self._silent:
            for vote in mine[-REPEATED_MAX:]:
                self._set(Broadcast(encode(vote), "vote"))
        self._set(NeedHistory())
        self._progress()
        self._ask_views()
