"""What a validator holds in memory of others' messages and of its own past is bounded in bytes."""

from __future__ import annotations

import msgspec
import pytest
from fluvial.consensus import block_chain, epoch_engine, snapshot_shelf
from fluvial.consensus.block_chain import BlockChain, BlocksInMemory, RecentBlocks, history_of
from fluvial.consensus.epoch_engine import EARLY_MAX, EarlyMessages
from fluvial.consensus.executor import Executor
from fluvial.consensus.lab.keys import keys_of
from fluvial.consensus.snapshot_shelf import SnapshotShelf
from fluvial.errors import RemoteProtocolError
from fluvial.ledger.blocks import BlockHeader, FinalityProof, LedgerBlock, payload_hash
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.rules import LedgerRules, PayloadLimits
from fluvial.ledger.statements import CHECKPOINT, NOTHING, Certificate, Validator

ADA, EVE = keys_of("ada").peer_id, keys_of("eve").peer_id
GENESIS = Genesis(name="bounds", time_ms=0, validators=(Validator(str(ADA)),))


def test_of_early_messages_whoever_has_most_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch_engine, "EARLY_BYTES_MAX", 10_000)
    early = EarlyMessages()
    early.put(ADA, bytes(1_000))
    for _ in range(EARLY_MAX):
        early.put(EVE, bytes(900))
        assert early.held_bytes <= 10_000
    early.put(EVE, bytes(20_000))
    early.put(ADA, bytes(1_001))
    kept = early.taken()
    assert [len(data) for sender, data in kept if sender == ADA] == [1_000, 1_001]
    assert len(kept) == 10
    assert sum(len(data) for _, data in kept) <= 10_000
    assert early.held_bytes == 0
    for _ in range(EARLY_MAX + 1):
        early.put(EVE, b"x")
    assert len(early.taken()) == EARLY_MAX


def block(height: int, payload: bytes = b"") -> LedgerBlock:
    header = BlockHeader(
        NOTHING, 0, height, height, NOTHING, payload_hash(payload), NOTHING, NOTHING, 0, 10 * height
    )  # fmt: skip
    return LedgerBlock(header, payload)


def test_blocks_in_memory_are_bounded_in_bytes_and_the_last_one_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_chain, "RECENT_BYTES_MAX", 10_000)
    store = RecentBlocks(100)
    for height in range(1, 21):
        store.append(block(height, bytes(1_000)))
    assert [height for height in range(1, 21) if store.has(height)] == list(range(11, 21))
    store.append(block(21, bytes(50_000)))
    assert store.first == 21
    for height in range(22, 200):
        store.append(block(height))
    assert store.first == 100
    store.clear()
    for height in range(1, 11):
        store.append(block(height, bytes(1_000)))
    assert store.first == 1


def test_who_asks_for_blocks_that_are_not_in_memory_any_more_hears_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_chain, "RECENT_BYTES_MAX", 3_000)
    chain = BlockChain(GENESIS.anchor(), RecentBlocks(100), GENESIS.chain)
    for height in range(1, 6):
        header = msgspec.structs.replace(block(height, bytes(1_000)).header, parent=chain.tip.id)
        chain.append(LedgerBlock(header, bytes(1_000)))
    assert chain.store.has(3)
    assert not chain.store.has(2)
    assert [chain.answer(above).height for above in (0, 1, 2, 5, 9)] == [5] * 5
    assert not chain.answer(0).blocks


def test_one_answer_holds_no_more_full_blocks_than_can_be_executed_in_one_piece() -> None:
    proof = FinalityProof(Certificate(CHECKPOINT, 0, 10, NOTHING, ()))
    full = [(block(height, bytes(200_000)), proof) for height in range(1, 10)]
    large = [(block(height, bytes(1_000_000)), proof) for height in range(1, 10)]
    assert [len(history_of(found, 9).blocks) for found in (full, large)] == [1, 1]


def test_a_snapshot_is_due_after_so_many_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot_shelf, "DUE_BYTES", 3_000)
    chain = BlockChain(GENESIS.anchor(), RecentBlocks(100), GENESIS.chain)
    shelf = SnapshotShelf(chain, 1_000)
    for height in range(1, 11):
        payload = bytes(1_000)
        new = LedgerBlock(msgspec.structs.replace(block(height, payload).header, parent=chain.tip.id), payload)
        chain.append(new)
        shelf.note(new, GENESIS.state(), terminal=False)
    proof = FinalityProof(Certificate(CHECKPOINT, 0, 10, chain.tip.id, ()))
    assert [one.header.height for one in shelf.prove(10, proof)[1]] == [3, 6, 9]


def test_a_block_of_the_log_has_the_payload_that_it_names() -> None:
    chain = BlockChain(GENESIS.anchor(), BlocksInMemory(), GENESIS.chain)
    executor = Executor(chain, GENESIS.state(), LedgerRules(GENESIS.chain, PayloadLimits()), 10**9)
    header = BlockHeader(
        GENESIS.chain, 0, 1, 1, chain.tip.id, payload_hash(b"\x91\x00"), chain.tip.state, NOTHING, 0, 1
    )  # fmt: skip
    with pytest.raises(RemoteProtocolError, match="another payload"):
        executor.replay(LedgerBlock(header, b""))


def test_what_was_executed_is_forgotten_once_it_is_final() -> None:
    chain = BlockChain(GENESIS.anchor(), BlocksInMemory(), GENESIS.chain)
    executor = Executor(chain, GENESIS.state(), LedgerRules(GENESIS.chain, PayloadLimits()), 10**9)
    for height in range(1, 5):
        parent = chain.tip.id
        payload, root, time_ms, _ = executor.build(parent, TransactionPool(GENESIS.chain), 100 * height)
        header = BlockHeader(
            GENESIS.chain, 0, height, height, parent, payload_hash(payload), root, NOTHING, 0, time_ms
        )  # fmt: skip
        final = LedgerBlock(header, payload)
        executor.advance(final, executor.check(final, 10**6))
        assert not executor._results
        assert not executor._blocks
