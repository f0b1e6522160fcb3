"""Who is too far behind for blocks fetches a snapshot; in virtual time, with pruned logs and with liars."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from fluvial.consensus import snapshot_shelf
from fluvial.consensus.block_chain import BlockChain, BlocksInMemory
from fluvial.consensus.lab.compare import good_case
from fluvial.consensus.lab.copies import NodeCopy
from fluvial.consensus.lab.keys import keys_of
from fluvial.consensus.lab.run import Algorithm, LaboratoryRun
from fluvial.consensus.lab.schedule import Action, Crash
from fluvial.consensus.outputs import Output, SnapshotFetched, StartTimer
from fluvial.consensus.state_sync import StateSync
from fluvial.consensus.wire import HistoryAnswer, SnapshotAnswer, SnapshotAsk, decode_message
from fluvial.encoding import encode
from fluvial.identity import PeerId
from fluvial.ledger.blocks import BlockHeader, FinalityProof
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.snapshots import SnapshotChunk, chunk_at
from fluvial.ledger.state import State
from fluvial.ledger.statements import FINALIZE, NOTHING, Certificate, Validator, ValidatorSet

from tests.support.algorithms import DAG, SIMPLEX

END_MS = 1_500
AWAY = msgspec.structs.replace(
    good_case("away", 4, end_ms=END_MS),
    standby=1,
    actions=[Action("validator_update", 300, 0, add=[4]), Action("validator_update", 600, 1, remove=[4])],
    faults=[Crash(node=3, at_ms=100, restart_ms=900)],
)
LATE = msgspec.structs.replace(
    good_case("late", 4, end_ms=END_MS),
    standby=1,
    actions=[Action("validator_update", 900, 0, add=[4])],
    faults=[Crash(node=4, at_ms=1, restart_ms=700)],
)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even these small states travel in several parts."""
    monkeypatch.setattr(snapshot_shelf, "chunk_at", partial(chunk_at, bytes_max=500))


def height_of(run: LaboratoryRun, node: int) -> int:
    replica = run.copies[node].replica
    assert replica is not None
    return replica.chain.tip.height


def go_on(run: LaboratoryRun, ms: int) -> None:
    run.schedule = msgspec.structs.replace(run.schedule, end_ms=run.now_us / 1000 + ms)
    run.play()


def assert_all_well(run: LaboratoryRun) -> None:
    highest = max(height_of(run, copy.node) for copy in run.copies)
    for copy in run.copies:
        assert copy.replica is not None
        assert not copy.replica.alarmed
        assert not copy.replica.evidence
        assert copy.findings.failure is None
        assert height_of(run, copy.node) >= highest - 5


@pytest.mark.parametrize("algorithm", [SIMPLEX, DAG], ids=lambda one: one.name)
def test_who_was_away_for_epochs_goes_on_from_a_snapshot_and_votes_again(algorithm: Algorithm) -> None:
    run = LaboratoryRun(AWAY, algorithm, 1, snapshot_blocks=10)
    run.play()
    away = run.copies[3]
    assert len(away.findings.installed) == 1
    assert away.replica is not None
    assert (away.replica.epoch, sorted(away.replica.shelf.steps)) == (2, [0, 1])
    assert_all_well(run)
    before = height_of(run, 3)
    run.copies[0].stop()
    go_on(run, 800)
    assert height_of(run, 3) > before + 5, "it is one of the three that a quorum needs"
    # What it has written leads to the same again.
    tip = away.replica.chain.tip
    away.stop()
    away.start()
    assert away.replica is not None
    assert away.replica.chain.tip == tip


@pytest.mark.parametrize("algorithm", [SIMPLEX, DAG], ids=lambda one: one.name)
def test_a_new_validator_begins_with_a_snapshot(algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fluvial_consensus_dag.dag.DEPTH", 20)  # else others still have the graph from the beginning on
    monkeypatch.setattr("fluvial_consensus_dag.dag.SLACK", 5)
    run = LaboratoryRun(LATE, algorithm, 2, snapshot_blocks=10)
    run.play()
    new = run.copies[4]
    assert new.findings.installed, "perhaps twice: by then blocks may be gone again"
    assert new.replica is not None
    assert len(new.replica.validators) == 5
    assert_all_well(run)
    before = height_of(run, 4)
    run.copies[0].stop()
    go_on(run, 800)
    assert height_of(run, 4) > before + 5, "it is one of the four that a quorum needs"


class LyingRun(LaboratoryRun):
    """Two validators of four send wrong parts of snapshots."""

    lie: Callable[[SnapshotAnswer], SnapshotAnswer | None]

    def post(self, sender: NodeCopy, to: PeerId | None, data: bytes, kind: Any) -> None:
        """Twist what the liars say."""
        if sender.node < 2 and kind == "sync":
            message = decode_message(data)
            if isinstance(message, SnapshotAnswer):
                twisted = self.lie(message)
                if twisted is None:
                    return
                data = encode(twisted)
        super().post(sender, to, data, kind)


class DoublingRun(LaboratoryRun):
    """All parts of snapshots come twice."""

    parts = 0

    def post(self, sender: NodeCopy, to: PeerId | None, data: bytes, kind: Any) -> None:
        """Send the same again."""
        super().post(sender, to, data, kind)
        if kind == "sync" and isinstance(decode_message(data), SnapshotAnswer):
            self.parts += 1
            super().post(sender, to, data, kind)


def test_a_late_answer_is_no_lie() -> None:
    run = DoublingRun(AWAY, SIMPLEX, 1, snapshot_blocks=10)
    run.play()
    assert run.parts > 3
    assert len(run.copies[3].findings.installed) == 1
    assert not run.copies[3].findings.misled_by
    assert_all_well(run)


def other_value(answer: SnapshotAnswer) -> SnapshotAnswer:
    assert answer.chunk is not None
    (module, key, _), *rest = answer.chunk.leaves
    return msgspec.structs.replace(
        answer, chunk=SnapshotChunk(answer.chunk.start, answer.chunk.siblings, ((module, key, b"more"), *rest))
    )


def other_state(answer: SnapshotAnswer) -> SnapshotAnswer:
    assert answer.header is not None
    return msgspec.structs.replace(answer, header=msgspec.structs.replace(answer.header, state=bytes(32)))


def other_height(answer: SnapshotAnswer) -> SnapshotAnswer:
    assert answer.header is not None
    return msgspec.structs.replace(answer, header=msgspec.structs.replace(answer.header, height=10**6))


def other_validators(answer: SnapshotAnswer) -> SnapshotAnswer:
    first, *rest = answer.steps
    assert first.value is not None
    return msgspec.structs.replace(
        answer, steps=(msgspec.structs.replace(first, value=first.value[:-1] + b"\5"), *rest)
    )


def no_steps(answer: SnapshotAnswer) -> SnapshotAnswer:
    return msgspec.structs.replace(answer, steps=())


LIES: dict[str, tuple[Callable[[SnapshotAnswer], SnapshotAnswer | None], bool]] = {
    "value": (other_value, True),
    "state": (other_state, True),
    "height": (other_height, True),
    "validators": (other_validators, True),
    "no steps": (no_steps, False),
    "nothing": (lambda answer: SnapshotAnswer(()), False),
    "silence": (lambda answer: None, False),
}


@pytest.mark.parametrize("lie", LIES)
def test_liars_cost_themselves_alone(lie: str) -> None:
    run = LyingRun(AWAY, SIMPLEX, 1, snapshot_blocks=10)
    run.lie, provable = LIES[lie]
    run.play()
    go_on(run, 1_000)
    away = run.copies[3]
    assert len(away.findings.installed) == 1
    assert_all_well(run)
    liars = set(run.peers[:2])
    assert set(away.findings.misled_by) <= liars
    assert len(away.findings.misled_by) == len(set(away.findings.misled_by)), "who was caught is not asked again"
    if provable:
        assert away.findings.misled_by


def test_a_peer_that_has_all_blocks_is_believed_as_before() -> None:
    """Nobody prunes: blocks are fetched, and no snapshot."""
    run = LaboratoryRun(AWAY, SIMPLEX, 1)
    run.play()
    assert not run.copies[3].findings.installed
    assert_all_well(run)


def test_an_answer_without_being_asked_is_nothing() -> None:
    run = LaboratoryRun(AWAY, SIMPLEX, 1, snapshot_blocks=10)
    run.play()
    copy = run.copies[0]
    other = run.copies[1].replica
    assert copy.replica is not None
    assert other is not None
    newest = max(other.shelf._kept)
    kept = other.shelf._kept[newest]
    for message in (
        HistoryAnswer((), None, 10**9, 10**9),
        SnapshotAnswer((), kept.header, kept.proof, None),
    ):
        before = (copy.replica.chain.tip, copy.replica.epoch)
        copy.hear(run.peers[1], encode(message))
        assert (copy.replica.chain.tip, copy.replica.epoch) == before
        assert not copy.findings.misled_by


def test_who_hands_out_a_key_at_a_time_just_in_time_holds_up_nobody_for_long() -> None:
    """Four validators, one of which does; how long a fetch of 2,000 keys takes."""
    keys = [keys_of(f"node {number}") for number in range(4)]
    genesis = Genesis(name="slow", time_ms=0, validators=tuple(Validator(str(one.peer_id)) for one in keys))
    state = State().with_changes({("m", number.to_bytes(4, "big")): bytes(200) for number in range(2_000)})
    validators = ValidatorSet(genesis.validators)
    header = BlockHeader(
        genesis.chain, 0, 9, 9, NOTHING, NOTHING, state.root, validators.digest, 0, 9
    )  # fmt: skip
    signatures = tuple((index, bytes(64)) for index in range(3))
    proof = FinalityProof(Certificate(FINALIZE, 0, 9, header.id, signatures))
    questions: list[tuple[PeerId, SnapshotAsk]] = []
    outputs: list[Output] = []
    chain = BlockChain(genesis.anchor(), BlocksInMemory(), genesis.chain)
    sync = StateSync(
        keys_of("new").peer_id,
        genesis,
        chain,
        lambda key, signature, message: True,
        100,
        snapshot_shelf.SnapshotShelf(chain, 10),
        transmit=lambda to, message: questions.append((to, message)),  # type: ignore[arg-type]  # all are such
        put=outputs.append,
        put_now=outputs.append,
        write=lambda entry: None,
        convicted=lambda evidence: None,
    )
    sync.begin(keys[1].peer_id, 0, validators)
    now, turn_ends = 0, 400
    while not any(isinstance(one, SnapshotFetched) for one in outputs) and now < 10**6:
        to, ask = questions.pop()
        is_liar = to == keys[1].peer_id
        now += 390 if is_liar else 5
        if now < turn_ends:
            chunk = chunk_at(state, ask.start, bytes_max=1 if is_liar else 4_000)
            sync.take(to, SnapshotAnswer((), header, proof, chunk))
        else:
            outputs.clear()
            sync.expired()
        if any(isinstance(one, StartTimer) for one in outputs):
            turn_ends = now + 400
        outputs[:] = [one for one in outputs if isinstance(one, SnapshotFetched)]
    assert now < 10_000
