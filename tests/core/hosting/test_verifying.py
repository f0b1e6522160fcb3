"""Signatures in payloads that somebody brings are verified a few at a time, and not again when these are executed."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import anyio.lowlevel
import pytest
from fluvial.consensus.wire import EngineMessage, HistoryAnswer
from fluvial.encoding import encode
from fluvial.errors import RemoteProtocolError
from fluvial.hosting.verifying import IN_ONE_TURN, carried, verify_ahead
from fluvial.identity import verify
from fluvial.ledger.blocks import BlockHeader, LedgerBlock, payload_hash
from fluvial.ledger.execution import Invalid
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.parsed import ParsedRecords
from fluvial.ledger.rules import LedgerRules, PayloadLimits
from fluvial.ledger.statements import NOTHING, Validator
from fluvial.ledger.transactions import REMEMBERED_BYTES, TransferUnits, encode_payload, sign_transaction
from fluvial.testing.nodes import keys_of
from fluvial_consensus_dag.messages import Bundle, NewVertex, Vertex, payloads

ADA, EVE = keys_of("ada"), keys_of("eve")
GENESIS = Genesis(name="verifying", time_ms=0, validators=(Validator(str(ADA.peer_id)),))
RULES = LedgerRules(GENESIS.chain, PayloadLimits())
MANY = 4 * IN_ONE_TURN


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def answer_of(*payloads: bytes) -> bytes:
    headers = (
        BlockHeader(GENESIS.chain, 0, height, height, NOTHING, payload_hash(one), NOTHING, NOTHING, 0, height)
        for height, one in enumerate(payloads, 1)
    )
    return encode(HistoryAnswer(tuple(map(LedgerBlock, headers, payloads)), None, len(payloads)))


def transfer(nonce: int) -> bytes:
    return sign_transaction(EVE, GENESIS.chain, nonce, TransferUnits(ADA.public_key, 0))


def in_history(answer: bytes, *, height: int = 0, asked: frozenset[bytes] = frozenset({b"history"})) -> Sequence[bytes]:
    return carried([answer], asked=asked, height=height, of_engine=None)


async def test_signatures_are_verified_a_few_in_each_turn_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = encode_payload([transfer(nonce) for nonce in range(MANY)])
    monkeypatch.setattr("fluvial.ledger.transactions._remembered", ParsedRecords(REMEMBERED_BYTES))
    verified, in_one_turn = 0, [0]

    def counted(key: bytes, signature: bytes, message: bytes) -> bool:
        nonlocal verified
        verified += 1
        in_one_turn[-1] += 1
        return verify(key, signature, message)

    async def tick() -> None:
        while True:
            in_one_turn.append(0)
            await anyio.lowlevel.checkpoint()

    monkeypatch.setattr("fluvial.ledger.transactions.verify", counted)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(tick)
        await verify_ahead(in_history(answer_of(payload)))
        tasks.cancel_scope.cancel()
    assert max(in_one_turn) == IN_ONE_TURN
    RULES.check(GENESIS.state(), payload, height=1, time_ms=1)
    assert verified == MANY


async def test_nothing_behind_a_wrong_signature_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[bytes] = []
    monkeypatch.setattr("fluvial.ledger.transactions._remembered", ParsedRecords(REMEMBERED_BYTES))
    monkeypatch.setattr("fluvial.ledger.transactions.verify", lambda key, *signed: verified.append(key))
    await verify_ahead([encode_payload([transfer(nonce) for nonce in range(5)])] * 2)
    assert len(verified) == 2


def test_large_payloads_are_looked_for_in_what_was_asked_for_and_in_messages_of_validators() -> None:
    large, small = (encode_payload([transfer(nonce) for nonce in range(count)]) for count in (MANY, 1))
    assert in_history(answer_of(large, large)) == [large] * 2
    assert in_history(answer_of(large, large), height=1) == [large]
    assert in_history(answer_of(small)) == ()
    assert in_history(answer_of(large), asked=frozenset({b"part"})) == ()
    vertex = Vertex(0, 1, 0, (), large, 1, bytes(64))
    messages = [encode(EngineMessage(0, encode(one))) for one in (NewVertex(vertex), Bundle((vertex, vertex)))]
    assert carried(messages, asked=frozenset(), height=0, of_engine=payloads) == [large] * 3
    assert carried(messages, asked=frozenset(), height=0, of_engine=None) == ()
    garbage = encode(EngineMessage(0, bytes(10_000)))
    assert carried([garbage], asked=frozenset(), height=0, of_engine=payloads) == ()
    with pytest.raises(RemoteProtocolError):
        in_history(answer_of(large)[:-1])


async def test_what_is_wrong_is_left_to_who_executes_it() -> None:
    good = transfer(0)
    wrong = good[:-1] + bytes([good[-1] ^ 1])
    for payload in (b"garbage", encode_payload([b"garbage"]), encode_payload([wrong])):
        await verify_ahead([payload])
        with pytest.raises(Invalid):
            RULES.check(GENESIS.state(), payload, height=1, time_ms=1)
