"""Blocks out of an order that comes from outside: the engine, the replica, and the kit for services."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import anyio
import pytest
from fluvial.consensus.lab.keys import keys_of, verify_once
from fluvial.consensus.ordering import OrderedEntry, OrderingService, OutsideOrder
from fluvial.consensus.outputs import Output, PublishEntry, StartTimer, Transmit
from fluvial.consensus.replica import Replica
from fluvial.consensus.replica_config import ReplicaConfig
from fluvial.consensus.wire import CheckpointVote, HistoryAnswer, HostMessage, decode_message
from fluvial.ledger.genesis import Genesis, Parameters
from fluvial.ledger.pool import TransactionPool
from fluvial.ledger.rules import LedgerRules, PayloadLimits
from fluvial.ledger.statements import Validator
from fluvial.ledger.transactions import TransferUnits, UpdateValidators, sign_transaction
from fluvial.testing.ordering import OrderingConformance

NODES = [keys_of(f"node {number}") for number in range(5)]
ADMIN = keys_of("administrator")
GENESIS = Genesis(
    name="test",
    time_ms=0,
    validators=tuple(Validator(str(one.peer_id)) for one in NODES[:4]),
    balances=((ADMIN.public_key, 1_000),),
    parameters=Parameters(administrators=(ADMIN.public_key,), validators_min=1),
)


def replica_of(number: int) -> tuple[Replica, Sequence[Output]]:
    keys = NODES[number]
    config = ReplicaConfig(
        me=keys.peer_id,
        sign=keys.sign,
        verify=verify_once,
        genesis=GENESIS,
        make=OutsideOrder,
        certifies_state=False,
        rules=LedgerRules(GENESIS.chain, PayloadLimits()),
        pool=TransactionPool(GENESIS.chain),
        delta_ms=100,
    )
    replica = Replica(config)
    return replica, replica.start([], 0, 1_000)


def published(outputs: Sequence[Output]) -> list[bytes]:
    return [one.data for one in outputs if isinstance(one, PublishEntry)]


def messages(outputs: Sequence[Output]) -> list[HostMessage]:
    found = [one.data for one in outputs if isinstance(one, Transmit)]
    return [decode_message(one) for one in found]


def entry(replica: Replica, transaction: bytes, now: int) -> bytes:
    """What a replica publishes for a transaction, once it looks for some."""
    replica.submit(transaction, now, now)
    (data,) = published(replica.fired(f"{replica.epoch}:look", now, now))
    return data


def pay(nonce: int) -> bytes:
    return sign_transaction(ADMIN, GENESIS.chain, nonce, TransferUnits(NODES[0].public_key, 1))


def test_entries_become_blocks_and_checkpoints() -> None:
    (ada, _), (bob, _) = replica_of(0), replica_of(1)
    data = entry(ada, pay(0), 10)
    votes = [messages(one.ordered(7, data, 20, 20)) for one in (ada, bob)]
    assert ada.chain.tip == bob.chain.tip
    assert (ada.chain.tip.height, ada.chain.tip.slot, ada.chain.tip.time_ms) == (1, 7, 10)
    assert all(isinstance(one[0], CheckpointVote) for one in votes)


def test_only_one_payload_of_a_validator_is_on_its_way_and_it_is_repeated() -> None:
    ada, started = replica_of(0)
    assert any(isinstance(one, StartTimer) and one.name == "0:look" for one in started)
    data = entry(ada, pay(0), 10)
    assert published(ada.submit(pay(1), 11, 11)) == []
    assert published(ada.fired("0:repeat", 3_000, 3_000)) == [data]
    (after,) = published(ada.ordered(1, data, 3_001, 3_001))
    assert after != data
    assert ada.ordered(2, data, 3_002, 3_002), "a doubled entry makes an empty block, the same for everybody"
    assert ada.chain.header(2).payload == bytes(32)


def test_garbage_and_entries_of_others_are_passed_over() -> None:
    ada, _ = replica_of(0)
    for position, data in enumerate((b"", b"garbage", entry(replica_of(1)[0], pay(0), 10)[:-1]), 1):
        ada.ordered(position, data, 20, 20)
    assert ada.chain.tip.height == 0


def test_who_got_history_does_not_execute_again_what_is_in_it() -> None:
    replicas = [replica_of(number)[0] for number in range(3)]
    late, _ = replica_of(3)
    entries: list[bytes] = []

    def order(data: bytes) -> None:
        """An entry comes out of the service; everybody but one takes it, and hears the checkpoints of the others."""
        entries.append(data)
        outputs = [one.ordered(len(entries), data, 20, 20) for one in replicas]
        for sender, said in zip(NODES, outputs, strict=False):
            for vote in said:
                for other in replicas:
                    if isinstance(vote, Transmit) and vote.kind == "vote":
                        other.receive(sender.peer_id, vote.data, 30, 30)

    order(entry(replicas[0], pay(0), 10))
    change = UpdateValidators((Validator(str(NODES[4].peer_id)),))
    order(entry(replicas[1], sign_transaction(ADMIN, GENESIS.chain, 1, change), 10))
    ada = replicas[0]
    assert (ada.epoch, ada.chain.tip.height) == (1, 2)

    (question,) = [one for one in late.order_lost(40, 40) if isinstance(one, Transmit)]
    asked = next(number for number, keys in enumerate(NODES) if keys.peer_id == question.to)
    (answer,) = [
        one for one in replicas[asked].receive(NODES[3].peer_id, question.data, 50, 50) if isinstance(one, Transmit)
    ]
    assert isinstance(messages([answer])[0], HistoryAnswer)
    late.receive(NODES[asked].peer_id, answer.data, 60, 60)
    assert (late.epoch, late.chain.tip) == (1, ada.chain.tip)
    for position, data in enumerate(entries, 1):
        late.ordered(position, data, 70, 70)
    assert late.chain.tip == ada.chain.tip


# --- the kit ------------------------------------------------------------------------------------------------------------


class MemoryLog:
    """An ordering service in memory; several share ``entries``."""

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries

    async def submit(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        self.entries.append(data)

    async def follow(self, after: int) -> AsyncIterator[OrderedEntry]:
        while True:
            while after < len(self.entries):
                after += 1
                yield OrderedEntry(after, self.entries[after - 1])
            await anyio.sleep(0.01)

    async def close(self) -> None:
        self.entries = []

    def describe(self) -> Mapping[str, Any]:
        return {"service": "memory"}


class Doubling(MemoryLog):
    async def submit(self, data: bytes) -> None:
        self.entries += [data, data]


class Inclusive(MemoryLog):
    def follow(self, after: int) -> AsyncIterator[OrderedEntry]:
        return super().follow(max(0, after - 1))


class Shuffled(MemoryLog):
    async def submit(self, data: bytes) -> None:
        self.entries.insert(len(self.entries) // 2, data)


class TestMemoryLog(OrderingConformance):
    @pytest.fixture
    def open_service(self) -> Callable[[], OrderingService]:
        entries: list[bytes] = []
        return lambda: MemoryLog(entries)


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Doubling, "test_what_is_submitted_comes_back_in_order"),
        (Inclusive, "test_who_was_away_goes_on_where_it_was"),
        (Shuffled, "test_what_is_submitted_comes_back_in_order"),
    ],
)
async def test_bad_services_are_found(kind: type[MemoryLog], test: str) -> None:
    entries: list[bytes] = []
    with pytest.raises(pytest.fail.Exception):
        await getattr(OrderingConformance(), test)(lambda: kind(entries))
