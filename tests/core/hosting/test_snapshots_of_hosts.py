"""Whole nodes write snapshots in place of old blocks, restart from them, and bring others that are far behind up to date with them."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from fluvial.encoding import decode
from fluvial.errors import StorageError
from fluvial.hosting import host
from fluvial.hosting.services import LedgerService
from fluvial.ledger.genesis import Genesis
from fluvial.ledger.light_client import LightClient, ProvenFact
from fluvial.ledger.statements import Validator
from fluvial.ledger.transactions import TransferUnits, UpdateValidators
from fluvial.testing.nodes import keys_of, until
from fluvial.virtual.loop import BACKEND

from tests.support.ledgers import VALIDATORS, host_of, ledger_nodes, start_holder, transaction, until_height

PAYEE = keys_of("payee").public_key
SMALL = {"snapshot_blocks": 3, "kept_blocks": 4}


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


def replica_of(node: Any) -> Any:
    replica = host_of(node).replica
    assert replica is not None
    return replica


def lose_database(folder: Path) -> None:
    for file in folder.glob("dan.db*"):
        file.unlink()


def genesis_of(node: Any) -> Genesis:
    genesis = host_of(node).genesis
    assert genesis is not None
    return genesis


def heights(folder: Path, name: str, table: str) -> list[int]:
    with closing(sqlite3.connect(folder / f"{name}.db")) as database:
        return [row[0] for row in database.execute(f"SELECT DISTINCT height FROM {table} ORDER BY height")]


@pytest.mark.long
async def test_old_blocks_go_by_their_bytes(tmp_path: Path) -> None:
    async with ledger_nodes(tmp_path, snapshot_blocks=3, kept_bytes=2_000) as network:
        await until_height(network["dan"], 20)
        await until(lambda: heights(tmp_path, "dan", "consensus_blocks")[0] > 1)
        await network.stop("dan")
        (newest,) = heights(tmp_path, "dan", "consensus_snapshots")
        assert newest - heights(tmp_path, "dan", "consensus_blocks")[0] < 12


async def test_a_restart_reads_a_snapshot_and_the_blocks_since(tmp_path: Path) -> None:
    async with ledger_nodes(tmp_path, **SMALL) as network:
        ada = network["ada"]
        await host_of(ada).submit(transaction(ada, TransferUnits(PAYEE, 7), 0))
        await until_height(network["dan"], 12)
        await until(lambda: len(heights(tmp_path, "dan", "consensus_snapshots")) == 1)
        await network.stop("dan")
        (newest,) = heights(tmp_path, "dan", "consensus_snapshots")
        kept = heights(tmp_path, "dan", "consensus_blocks")
        assert newest % 3 == 0
        assert newest - 12 <= kept[0] <= newest - 3
        assert kept == list(range(kept[0], kept[-1] + 1))
        dan = await start_holder(network, "dan", **SMALL)
        assert replica_of(dan).chain.base == newest
        assert replica_of(dan).state.get("accounts", PAYEE)
        await until_height(dan, kept[-1] + 2)
        await network.stop("dan")
        (newest,) = heights(tmp_path, "dan", "consensus_snapshots")
        with closing(sqlite3.connect(tmp_path / "dan.db")) as database, database:
            database.execute("UPDATE consensus_snapshots SET entry = zeroblob(length(entry)) WHERE number = 0")
        with pytest.raises(StorageError, match="the log of the consensus is damaged: consensus_snapshots"):
            await start_holder(network, "dan", **SMALL)


@pytest.mark.long
async def test_who_was_away_for_longer_than_blocks_are_kept_goes_on_from_a_snapshot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "RECENT_BLOCKS", 8)
    async with ledger_nodes(tmp_path, **SMALL) as network:
        await until_height(network["dan"], 3)
        await network.stop("dan")
        ada, tip = network["ada"], heights(tmp_path, "dan", "consensus_blocks")[-1]
        await host_of(ada).submit(transaction(ada, TransferUnits(PAYEE, 7), 0))
        await until_height(ada, tip + 20)
        await until(lambda: heights(tmp_path, "ada", "consensus_blocks")[0] > tip + 1)
        dan = await start_holder(network, "dan", **SMALL)
        await until_height(dan, tip + 20)
        base = replica_of(dan).chain.base
        assert base > tip
        assert replica_of(dan).state.get("accounts", PAYEE)
        await network.stop("dan")
        assert heights(tmp_path, "dan", "consensus_blocks")[0] > tip
        dan = await start_holder(network, "dan", **SMALL)
        assert replica_of(dan).chain.base >= base
        await until_height(dan, replica_of(dan).chain.tip.height + 3)


@pytest.mark.long
async def test_a_key_whose_database_was_lost_votes_again_in_the_next_epoch(tmp_path: Path) -> None:
    async with ledger_nodes(tmp_path) as network:
        ada = network["ada"]
        await until_height(ada, 3)
        await network.stop("dan")
        lose_database(tmp_path)
        dan = await start_holder(network, "dan")
        assert host_of(dan).silent
        await until_height(dan, 3)
        more = UpdateValidators((Validator(str(dan.peer_id), 2),), ())
        await host_of(ada).submit(transaction(ada, more, 0))
        await until(lambda: all(replica_of(network[one]).epoch == 1 for one in VALIDATORS))
        assert not host_of(dan).silent
        assert host_of(dan).is_validator
        assert (tmp_path / "dan.voted").read_text().split()[1::2] == ["0", "1"]
        light = LightClient(genesis_of(ada))
        (step,) = LedgerService(host_of(ada)).epochs(0)
        light.follow(decode(base64.b64decode(step), ProvenFact, what="step"))
        assert (light.epoch, light.validators.power) == (1, 5)
        await network.stop("cyd")
        # Ada, bob and dan have four of five votes; without dan it would be no quorum.
        await host_of(ada).submit(transaction(ada, TransferUnits(PAYEE, 7), 1))
        await until(lambda: replica_of(ada).state.get("accounts", PAYEE) is not None)
        await network.stop("dan")
        dan = await start_holder(network, "dan")
        assert not host_of(dan).silent, "its database knows what it has signed since"
        assert not replica_of(dan).evidence


@pytest.mark.long
async def test_a_mark_that_cannot_be_read_keeps_the_key_silent_for_good(tmp_path: Path) -> None:
    async with ledger_nodes(tmp_path) as network:
        await until_height(network["ada"], 2)
        await network.stop("dan")
        mark = tmp_path / "dan.voted"
        mark.write_text(mark.read_text().replace(" 0", " ?"))
        lose_database(tmp_path)
        dan = await start_holder(network, "dan")
        assert host_of(dan).silent
        (finding,) = host_of(dan).contributions().health()  # type: ignore[misc]
        assert "votes again never" in finding.text
