"""Simplex by hand: one engine, and messages that a test makes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from fluvial.consensus.effects import Accuse, Broadcast, BuildPayload, CheckPayload, Commit, Effect, Persist, Send
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.events import Event, MessageReceived, PayloadBuilt, PayloadChecked, TimerFired
from fluvial.consensus.lab.keys import keys_of, verify_once
from fluvial.consensus.lab.run import Algorithm
from fluvial.encoding import encode
from fluvial.ledger.blocks import Anchor, BlockHeader, LedgerBlock
from fluvial.ledger.statements import (
    FINALIZE,
    NOTARIZE,
    NOTHING,
    NULLIFY,
    Certificate,
    Validator,
    ValidatorSet,
    signed_bytes,
)
from fluvial.testing.engine import EngineConformance
from fluvial_consensus_bft.messages import Proof, Proposal, Vote, read_message
from fluvial_consensus_bft.plugin import TRAITS, SimplexOptions, make
from fluvial_consensus_bft.simplex import Simplex

KEYS = [keys_of(f"node {number}") for number in range(4)]
VALIDATORS = ValidatorSet(Validator(str(keys.peer_id)) for keys in KEYS)
CHAIN = bytes(32)
GENESIS = Anchor(0, 0, NOTHING, bytes(32), 0)


class TestSimplexInTheKit(EngineConformance):
    @pytest.fixture
    def algorithm(self) -> Algorithm:
        return Algorithm(name="simplex", make=make, options=SimplexOptions(), traits=TRAITS)


class Unchecked(Simplex):
    """Checks no signatures."""

    def _verified(self, *of: Any) -> bool:
        return True


class PersistsLate(Simplex):
    """Sends before it persists."""

    def handle(self, event: Event, now: int) -> Sequence[Effect]:
        return sorted(super().handle(event, now), key=lambda one: isinstance(one, Persist))


def validator(me: int, kind: type[Simplex] = Simplex) -> Simplex:
    setup = EngineSetup(
        me=KEYS[me].peer_id,
        sign=KEYS[me].sign,
        verify=verify_once,
        chain=CHAIN,
        epoch=0,
        validators=VALIDATORS,
        anchor=GENESIS,
        delta_ms=100,
    )
    return kind(setup)


def signature(signer: int, kind: int, view: int, digest: bytes) -> bytes:
    return KEYS[signer].sign(signed_bytes(CHAIN, kind, 0, view, digest))


def vote(signer: int, kind: int, view: int, digest: bytes = NOTHING, *, by: int | None = None) -> MessageReceived:
    made = Vote(kind, view, digest, signer, signature(signer if by is None else by, kind, view, digest))
    return MessageReceived(KEYS[signer].peer_id, encode(made))


def block(view: int, *, time_ms: int = 5) -> LedgerBlock:
    header = BlockHeader(CHAIN, 0, view, 1, NOTHING, NOTHING, bytes(32), VALIDATORS.digest, view % 4, time_ms)
    return LedgerBlock(header)


def proposal(of: LedgerBlock) -> MessageReceived:
    leader = of.header.proposer
    made = Proposal(of, signature(leader, NOTARIZE, of.header.slot, of.id))
    return MessageReceived(KEYS[leader].peer_id, encode(made))


def votes(effects: Sequence[Effect]) -> list[tuple[int, int]]:
    """Kind and view of the votes that were sent."""
    found = []
    for effect in effects:
        match effect:
            case Broadcast(data) if isinstance(message := read_message(data), Vote):
                found.append((message.kind, message.view))
    return found


def voted(engine: Simplex, of: LedgerBlock) -> list[tuple[int, int]]:
    """The votes after a proposal whose payload is right."""
    effects = engine.handle(proposal(of), 1)
    assert any(isinstance(one, CheckPayload) for one in effects)
    return votes(engine.handle(PayloadChecked(of.id), 1))


def test_a_block_is_final_after_a_quorum_has_finalized_it() -> None:
    engine = validator(0)
    engine.start([], 0)
    first = block(1)
    assert voted(engine, first) == [(NOTARIZE, 1)]
    effects = engine.handle(vote(2, NOTARIZE, 1, first.id), 2)  # with the leader's and its own that makes three
    assert votes(effects) == [(FINALIZE, 1)]
    engine.handle(vote(1, FINALIZE, 1, first.id), 3)
    commits = [one for one in engine.handle(vote(2, FINALIZE, 1, first.id), 3) if isinstance(one, Commit)]
    assert [one.blocks for one in commits] == [(first,)]
    assert commits[0].proof.proves(first.header, CHAIN, 0, VALIDATORS, verify_once)


def test_who_has_nullified_a_view_does_not_finalize_it() -> None:
    engine = validator(0)
    engine.start([], 0)
    assert votes(engine.handle(TimerFired("leader"), 200)) == [(NULLIFY, 1)]
    first = block(1)
    assert voted(engine, first) == [(NOTARIZE, 1)]
    assert votes(engine.handle(vote(2, NOTARIZE, 1, first.id), 201)) == []


def test_who_has_notarized_another_block_does_not_finalize() -> None:
    engine = validator(0)
    engine.start([], 0)
    assert voted(engine, block(1)) == [(NOTARIZE, 1)]
    other = block(1, time_ms=6)
    found = [effect for signer in (1, 2, 3) for effect in engine.handle(vote(signer, NOTARIZE, 1, other.id), 2)]
    assert votes(found) == []
    assert [one.evidence.offence for one in found if isinstance(one, Accuse)] == ["double_notarize"]


def test_a_bad_payload_nullifies_the_view_at_once() -> None:
    engine = validator(0)
    engine.start([], 0)
    engine.handle(proposal(block(1)), 1)
    assert votes(engine.handle(PayloadChecked(block(1).id, "state root"), 1)) == [(NULLIFY, 1)]


def test_the_leader_of_the_next_view_is_told_why_it_begins() -> None:
    engine = validator(0)
    engine.start([], 0)
    found = [one for signer in (1, 2, 3) for one in engine.handle(vote(signer, NULLIFY, 1), 2) if isinstance(one, Send)]
    assert [(one.to, type(read_message(one.data))) for one in found] == [(KEYS[2].peer_id, Proof)]


def test_after_a_crash_the_same_block_is_proposed_again() -> None:
    engine = validator(1)
    build = next(one for one in engine.start([], 0) if isinstance(one, BuildPayload))
    effects = engine.handle(PayloadBuilt(build.request, b"", bytes(32), 7), 1)
    records = [one.record for one in effects if isinstance(one, Persist)]
    sent = [one.data for one in effects if isinstance(one, Broadcast)]
    again = validator(1).start(records, 0)
    assert [one.data for one in again if isinstance(one, Broadcast) and one.kind == "proposal"] == sent
    assert not any(isinstance(one, BuildPayload) for one in again)


def test_a_payload_that_was_built_on_another_parent_is_built_again() -> None:
    """An idle host answers late; meanwhile somebody shows that the view before was notarized as well as nullified."""
    engine = validator(2)
    engine.start([], 0)
    first = block(1)
    voted(engine, first)
    wishes: list[Effect] = []
    for signer in (0, 1, 3):
        wishes += engine.handle(vote(signer, NULLIFY, 1), 2)
    assert [one.parent for one in wishes if isinstance(one, BuildPayload)] == [NOTHING]
    engine.handle(vote(3, NOTARIZE, 1, first.id), 3)
    effects = engine.handle(PayloadBuilt(2, b"", bytes(32), 7), 4)
    assert [one.parent for one in effects if isinstance(one, BuildPayload)] == [first.id]
    built = [
        read_message(one.data)
        for one in engine.handle(PayloadBuilt(2, b"", bytes(32), 8), 5)
        if isinstance(one, Broadcast)
    ]
    assert [one.block.header.parent for one in built if isinstance(one, Proposal)] == [first.id]


def forged_votes_count(kind: type[Simplex]) -> bool:
    engine = validator(0, kind)
    engine.start([], 0)
    effects = [effect for signer in (1, 2) for effect in engine.handle(vote(signer, NULLIFY, 1, by=3), 1)]
    effects += engine.handle(vote(3, NULLIFY, 1), 1)
    return any(isinstance(one, Send) for one in effects)


def is_persisted_before_it_is_sent(kind: type[Simplex]) -> bool:
    engine = validator(0, kind)
    engine.start([], 0)
    effects = [*engine.handle(TimerFired("leader"), 200)]
    kinds = [type(one) for one in effects if isinstance(one, Persist | Broadcast)]
    return kinds == [Persist, Broadcast]


def test_forged_votes_do_not_count() -> None:
    assert not forged_votes_count(Simplex)
    assert forged_votes_count(Unchecked), "this test would notice"


def test_a_vote_is_persisted_before_it_is_sent() -> None:
    assert is_persisted_before_it_is_sent(Simplex)
    assert not is_persisted_before_it_is_sent(PersistsLate), "this test would notice"


@pytest.mark.parametrize("data", [b"", b"\0", b"\xff" * 70, encode([1, 2, 3]), bytes(10_000)])
def test_garbage_does_nothing(data: bytes) -> None:
    engine = validator(0)
    engine.start([], 0)
    assert engine.handle(MessageReceived(KEYS[1].peer_id, data), 1) == []


def test_votes_far_ahead_are_not_kept() -> None:
    engine = validator(0)
    engine.start([], 0)
    for view in (2**40, 10_000, 66):
        engine.handle(vote(1, NULLIFY, view), 1)
    assert engine.inspect()["views"] == 1


def test_a_proposal_is_not_kept_with_certificates_that_can_be_none() -> None:
    """Of each view ahead two are kept, and one liar leads many of them: each could bring 256 certificates with 512 signatures."""
    engine = validator(0)
    engine.start([], 0)
    leader = block(1).header.proposer
    some = Certificate(NULLIFY, 0, 1, NOTHING, tuple((index, bytes(64)) for index in range(len(VALIDATORS) + 1)))
    of = block(1)
    made = Proposal(of, signature(leader, NOTARIZE, 1, of.id), (some,))
    assert engine.handle(MessageReceived(KEYS[leader].peer_id, encode(made)), 1) == []
    assert not engine._views.view(1).proposals
    assert (NOTARIZE, 1) in voted(engine, of), "it is taken without them"
