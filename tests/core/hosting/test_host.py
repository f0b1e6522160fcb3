"""Four whole nodes hold one ledger: blocks, restarts, followers, lost databases."""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from fluvial.assembly.peers import DirectPeers
from fluvial.consensus.wire import EngineMessage, HistoryAnswer, HistoryAsk, LedgerStatus, SnapshotAsk
from fluvial.encoding import decode, encode
from fluvial.errors import ConfigError, Refused, RemoteProtocolError, StorageError, Unreachable
from fluvial.hosting.follower_news import GAP_S
from fluvial.hosting.history_desk import WISH_BYTES_MAX
from fluvial.hosting.host import PROTOCOL
from fluvial.hosting.offer_lines import TRANSACTIONS
from fluvial.identity import KeyPair
from fluvial.ledger.blocks import LedgerBlock
from fluvial.ledger.genesis import ACCOUNTS, Account
from fluvial.ledger.state import Changes
from fluvial.ledger.transactions import TransferUnits, sign_transaction
from fluvial.testing.nodes import keys_of, nodes, until
from fluvial.virtual.loop import BACKEND

from tests.support.ledgers import (
    VALIDATORS,
    chain_of,
    host_of,
    ledger_nodes,
    start_holder,
    transaction,
    until_height,
    write_genesis,
)

OUTCOMES = ("answered", "refused")
PAYEE = keys_of("payee").public_key


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


def balance(node: object, key: bytes = PAYEE) -> int:
    replica = host_of(node).replica  # type: ignore[arg-type]
    assert replica is not None
    account = Changes(replica.state).read(ACCOUNTS, key, Account)
    return account.balance if account is not None else 0


def lose_database(folder: Path, name: str) -> None:
    for file in folder.glob(f"{name}.db*"):
        file.unlink()


@pytest.mark.parametrize("algorithm", ["simplex", "dag"])
async def test_a_transaction_reaches_all_ledgers(tmp_path: Path, algorithm: str) -> None:
    async with ledger_nodes(tmp_path, algorithm=algorithm) as network:
        ada = network["ada"]
        await host_of(ada).submit(transaction(ada, TransferUnits(PAYEE, 7), 0))
        await until(lambda: all(balance(network[one]) == 7 for one in VALIDATORS))
        heights = min(len(chain_of(network[one])) for one in VALIDATORS)
        assert len({tuple(chain_of(network[one])[:heights]) for one in VALIDATORS}) == 1
        view = host_of(ada).view()
        assert view.height
        assert view.root == host_of(ada).replica.chain.header(view.height).state  # type: ignore[union-attr]


@pytest.mark.parametrize("algorithm", ["simplex", "dag"])
async def test_a_validator_alone_is_idle_while_nothing_waits(tmp_path: Path, algorithm: str) -> None:
    write_genesis(tmp_path / "genesis.json", ["ada"])
    async with nodes(base_dir=tmp_path) as network:
        ada = await start_holder(network, "ada", algorithm, idle_ms=500)
        await anyio.sleep(10)
        idle = host_of(ada).view().height
        assert 10 <= idle <= 21
        await host_of(ada).submit(transaction(ada, TransferUnits(PAYEE, 7), 0))
        await anyio.sleep(0.1)
        assert balance(ada) == 7, "what waits is not held back"


async def test_followers_are_told_of_many_blocks_together(tmp_path: Path) -> None:
    """A ledger that has a block each few milliseconds tells its followers ten times a second, and they are up to date."""
    write_genesis(tmp_path / "genesis.json", ["ada"])
    async with nodes(base_dir=tmp_path) as network:
        ada = await start_holder(network, "ada", idle_ms=5)
        follower = await start_holder(network, "eve", "none")
        await until_height(ada, 50)
        await until_height(follower, 50)

        def told() -> float:
            return sum(follower.metric("fluvial_messages_total", protocol=PROTOCOL, outcome=one) for one in OUTCOMES)

        before_s, before, height = anyio.current_time(), told(), host_of(ada).view().height
        await until_height(follower, height + 200)
        rounds = (anyio.current_time() - before_s) / GAP_S
        assert 0 < told() - before <= 2 * (rounds + 2), "in each round news, and the blocks for who asks then"


async def test_a_validator_that_was_away_catches_up_and_all_survive_a_stop(tmp_path: Path) -> None:
    async with ledger_nodes(tmp_path) as network:
        await until_height(network["ada"], 3)
        await network.stop("dan")
        ada = network["ada"]
        await host_of(ada).submit(transaction(ada, TransferUnits(PAYEE, 7), 0))
        await until(lambda: balance(network["bob"]) == 7)
        await until_height(network["ada"], host_of(ada).view().height + 5)
        dan = await start_holder(network, "dan")
        assert host_of(dan).view().height >= 1, "it has read its log"
        await until(lambda: balance(dan) == 7)
        seen = chain_of(network["bob"])
        for name in VALIDATORS:
            await network.stop(name)
        for name in VALIDATORS:
            await start_holder(network, name)
        await until_height(network["bob"], len(seen) + 3)
        assert chain_of(network["bob"])[: len(seen)] == seen


@pytest.mark.parametrize("algorithm", ["simplex", "dag"])
async def test_a_follower_holds_what_is_proven_and_hands_on_transactions(tmp_path: Path, algorithm: str) -> None:
    async with ledger_nodes(tmp_path, algorithm=algorithm) as network:
        await until_height(network["ada"], 3)
        eve = await start_holder(network, "eve", "none")
        await until_height(eve, 3)
        assert not host_of(eve).is_validator
        await host_of(eve).submit(transaction(eve, TransferUnits(PAYEE, 5), 0))
        await until(lambda: balance(eve) == 5)
        with pytest.raises(Refused, match="nonce"):
            await host_of(eve).submit(transaction(eve, TransferUnits(PAYEE, 5), 0))


async def test_a_key_whose_database_was_lost_stays_silent(tmp_path: Path) -> None:
    async with ledger_nodes(tmp_path) as network:
        await until_height(network["ada"], 3)
        await network.stop("dan")
        lose_database(tmp_path, "dan")
        dan = await start_holder(network, "dan")
        host = host_of(dan)
        assert host.silent
        assert not host.is_validator
        await until_height(dan, 5)
        await network.stop("dan")
        dan = await start_holder(network, "dan")
        assert host_of(dan).silent, "a restart does not bring the votes back"
        before = host_of(dan).view().height
        await network.stop("cyd")
        assert [one.level for one in host_of(dan).contributions().health()] == ["warn"]  # type: ignore[misc]
        # Two of four that vote are no quorum: the blocks end.
        ada = network["ada"]
        await host_of(ada).submit(transaction(ada, TransferUnits(PAYEE, 7), 0))
        with pytest.raises(TimeoutError):
            await until(lambda: balance(ada) == 7, within_s=20)
        assert host_of(dan).view().height <= before + 3


async def test_one_key_cannot_run_twice(tmp_path: Path) -> None:
    async with ledger_nodes(tmp_path) as network:
        with pytest.raises(ConfigError, match="another process votes with this key"):
            await network.start(
                "eve",
                identity={"key_file": "ada.key"},
                consensus={"kind": "simplex"},
                ledger={"genesis": "genesis.json"},
            )


async def test_a_database_is_for_one_ledger(tmp_path: Path) -> None:
    async with ledger_nodes(tmp_path) as network:
        await network.stop("dan")
        text = (tmp_path / "genesis.json").read_text()
        (tmp_path / "other.json").write_text(text.replace('"time_ms": 1', '"time_ms": 2'))
        with pytest.raises(ConfigError, match="belongs to another ledger"):
            await start_holder(network, "dan", genesis="other.json")


@pytest.mark.parametrize("table", ["consensus_records", "consensus_blocks", "consensus_proofs"])
@pytest.mark.parametrize("damage", ["bytes", "row"])
async def test_damage_is_found(tmp_path: Path, table: str, damage: str) -> None:
    async with ledger_nodes(tmp_path) as network:
        await until_height(network["dan"], 5)
        await network.stop("dan")
        with sqlite3.connect(tmp_path / "dan.db") as database:
            key = "number" if table == "consensus_records" else "height"
            middle = f"(SELECT {key} FROM {table} ORDER BY {key} LIMIT 1 OFFSET 1)"
            if damage == "bytes":
                changed = database.execute(f"UPDATE {table} SET entry = zeroblob(length(entry)) WHERE {key} = {middle}")
            else:
                changed = database.execute(f"DELETE FROM {table} WHERE {key} = {middle}")
            assert changed.rowcount == 1
        database.close()
        if (table, damage) == ("consensus_proofs", "row"):
            await start_holder(network, "dan")  # one of many proofs is no loss: a later one covers the block
        else:
            with pytest.raises(StorageError, match="the log of the consensus is damaged"):
                await start_holder(network, "dan")


async def test_strangers_cannot_hold_up_the_ledger(tmp_path: Path) -> None:
    """Garbage, votes in others' names, wrong histories, questions without end, and transactions that pay for nothing."""
    async with ledger_nodes(tmp_path) as network:
        eve = await network.start("eve")
        network.introduce()
        ada = network["ada"]
        await until_height(ada, 2)
        genesis = host_of(ada).genesis
        assert genesis is not None
        peers = eve.node.assembly.peers
        before = host_of(ada).view().height
        block = LedgerBlock(msgspec.structs.replace(host_of(ada).replica.chain.header(1), height=9_999))  # type: ignore[union-attr]
        lies = [
            b"",
            b"garbage",
            encode([b"\x93\xa3ask"]),
            encode([b""] * 300),
            encode([encode(EngineMessage(0, bytes(1_000)))] * 50),
            encode([encode(LedgerStatus(9, 10_000))] * 50),
            encode([encode(HistoryAnswer((block,), None, 10_000))] * 5),
            encode([encode(HistoryAsk(0))] * 50),
            encode([encode(HistoryAsk(2**60))]),
        ]
        for lie in lies:
            with suppress(RemoteProtocolError, Unreachable):
                await peers.request(ada.peer_id, PROTOCOL, lie, timeout_s=5)
        for keeps in (b"\x94\xa5wants" + bytes(WISH_BYTES_MAX), encode(SnapshotAsk(0, 0, bytes(32))) + bytes(10_000)):
            with pytest.raises(RemoteProtocolError, match="no question for a part"):
                await peers.request(ada.peer_id, PROTOCOL, encode([keeps]), timeout_s=5)
        nothing = KeyPair.from_secret(b"nothing".ljust(32, b"\0"))
        poor = [sign_transaction(nothing, genesis.chain, 10**6 + one, TransferUnits(PAYEE, 1)) for one in range(100)]
        answer = await peers.request(ada.peer_id, TRANSACTIONS, encode([b"", *poor]), timeout_s=5)
        reasons = decode(answer, list[str], what="reasons")
        assert len(reasons) == 101
        assert all(reasons)
        await host_of(ada).submit(transaction(ada, TransferUnits(PAYEE, 7), 0))
        await until(lambda: all(balance(network[one]) == 7 for one in VALIDATORS), within_s=20)
        await until_height(ada, before + 5)
        replica = host_of(ada).replica
        assert replica is not None
        assert not replica.alarmed
        assert not replica.evidence


async def test_nobody_is_looked_for_who_has_asked_and_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for: list[object] = []
    send = DirectPeers.send

    async def watched(self: DirectPeers, to: Any, protocol: str, payload: bytes) -> None:
        looked_for.append(to)
        await send(self, to, protocol, payload)

    async with ledger_nodes(tmp_path) as network:
        eve = await network.start("eve")
        network.introduce()
        ada = network["ada"]
        await until_height(ada, 2)
        await eve.node.assembly.peers.request(ada.peer_id, PROTOCOL, encode([encode(HistoryAsk(0))]), timeout_s=5)
        await until_height(ada, host_of(ada).view().height + 1)
        await network.stop("eve")
        monkeypatch.setattr(DirectPeers, "send", watched)
        await until_height(ada, host_of(ada).view().height + 3)
        assert eve.peer_id not in looked_for


async def test_a_follower_hands_on_many_transactions_at_once(tmp_path: Path) -> None:
    async with ledger_nodes(tmp_path) as network:
        eve = await start_holder(network, "eve", "none")
        await until_height(eve, 2)
        async with anyio.create_task_group() as tasks:
            for nonce in range(60):
                tasks.start_soon(host_of(eve).submit, transaction(network["ada"], TransferUnits(PAYEE, 1), nonce))
        await until(lambda: balance(eve) == 60, within_s=20)
