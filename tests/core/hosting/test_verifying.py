"""Signatures in blocks that somebody brings are verified a few at a time, and not again when the blocks are executed."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from fluvial.consensus.wire import HistoryAnswer
from fluvial.encoding import encode
from fluvial.errors import RemoteProtocolError
from fluvial.hosting.verifying import IN_ONE_TURN, verify_ahead
from fluvial.identity import verify
from fluvial.ledger.blocks import BlockHeader, LedgerBlock, payload_hash
from fluvial.ledger.execution import Invalid
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.parsed import ParsedRecords
from fluvial.ledger.rules import LedgerRules, PayloadLimits
from fluvial.ledger.statements import NOTHING, Validator
from fluvial.ledger.transactions import REMEMBERED_BYTES, TransferUnits, encode_payload, sign_transaction
from fluvial.testing.nodes import keys_of

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


async def test_signatures_are_verified_a_few_in_each_turn_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    payload = encode_payload(
        [sign_transaction(EVE, GENESIS.chain, one, TransferUnits(ADA.public_key, 0)) for one in range(MANY)]
    )
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
        await verify_ahead(answer_of(payload), 0)
        tasks.cancel_scope.cancel()
    assert max(in_one_turn) == IN_ONE_TURN
    RULES.check(GENESIS.state(), payload, height=1, time_ms=1)
    assert verified == MANY
    await verify_ahead(answer_of(payload), 1)
    assert verified == MANY, "nothing is new"


async def test_what_is_wrong_is_left_to_who_executes_it() -> None:
    good = sign_transaction(EVE, GENESIS.chain, 0, TransferUnits(ADA.public_key, 0))
    wrong = good[:-1] + bytes([good[-1] ^ 1])
    for payload in (b"garbage", encode_payload([b"garbage"]), encode_payload([wrong])):
        await verify_ahead(answer_of(payload), 0)
        with pytest.raises(Invalid):
            RULES.check(GENESIS.state(), payload, height=1, time_ms=1)
    with pytest.raises(RemoteProtocolError):
        await verify_ahead(b"garbage", 0)
