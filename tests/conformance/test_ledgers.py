"""One ledger over three algorithms, changed by one line of the settings: Simplex, the DAG, and an etcd outside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.clock import SystemClock
from fluvial.encoding import decode
from fluvial.ledger.genesis import ACCOUNTS, Account
from fluvial.ledger.light_client import LightClient, prove_fact
from fluvial.ledger.revocations import REVOCATIONS, RevocationRecord, revocation_key
from fluvial.ledger.transactions import TransferUnits, carry_revocation
from fluvial.testing.nodes import NodeNetwork, RunningNode, keys_of, nodes, until

from tests.support.etcd import EtcdServer, etcd_server
from tests.support.ledger_story import member_is_removed
from tests.support.ledgers import (
    ADMINISTRATOR,
    VALIDATORS,
    chain_of,
    host_of,
    sections_of,
    transaction,
    write_genesis,
)
from tests.support.revocations import ANN, BOB, revocation

PAYEE = keys_of("payee").public_key
REVOKED = revocation_key("fluvial", ANN.public_key, BOB.public_key)
FREE = revocation_key("fluvial", BOB.public_key, ANN.public_key)
EVERYBODY = (*VALIDATORS, "eve")


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with etcd_server(tmp_path_factory.mktemp("etcd")) as server:
        yield server


def consensus(algorithm: str, log: str, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The section ``[consensus]``."""
    if algorithm != "etcd":
        return {"kind": algorithm}
    server: EtcdServer = request.getfixturevalue("etcd")
    return {"kind": "etcd", "endpoints": [server.url], "log": log}


async def start(network: NodeNetwork, name: str, section: dict[str, Any]) -> RunningNode:
    follows = name not in VALIDATORS
    sections = {**sections_of(name, "none" if follows else section["kind"], delta_ms=200)}
    if not follows:
        sections["consensus"] = section
    node = await network.start(name, **sections)
    network.introduce()
    return node


@asynccontextmanager
async def ledger(base_dir: Path, section: dict[str, Any]) -> AsyncIterator[NodeNetwork]:
    """Four validators, and eve who follows."""
    write_genesis(base_dir / "genesis.json")
    async with nodes(base_dir=base_dir, clock=SystemClock()) as network:
        for name in EVERYBODY:
            await start(network, name, section)
        yield network


def balance(node: RunningNode) -> int:
    value = host_of(node).view().get(ACCOUNTS, PAYEE)
    return 0 if value is None else decode(value, Account, what="account").balance


@pytest.mark.parametrize("algorithm", ["simplex", "dag", "etcd"])
async def test_one_ledger(tmp_path: Path, algorithm: str, request: pytest.FixtureRequest) -> None:
    section = consensus(algorithm, "one", request)
    async with ledger(tmp_path, section) as network:
        ada, eve = network["ada"], network["eve"]
        genesis = host_of(ada).genesis
        assert genesis is not None
        await host_of(ada).submit(transaction(ada, TransferUnits(PAYEE, 7), 0))
        await until(lambda: all(balance(network[one]) == 7 for one in EVERYBODY), within_s=60)
        await host_of(eve).submit(carry_revocation(ADMINISTRATOR, genesis.chain, revocation()))
        await until(
            lambda: all(host_of(network[one]).view().get(REVOCATIONS, REVOKED) for one in EVERYBODY), within_s=60
        )

        await network.stop("dan")
        await host_of(ada).submit(transaction(ada, TransferUnits(PAYEE, 5), 1))
        await until(lambda: balance(eve) == 12, within_s=60)
        dan = await start(network, "dan", section)
        await until(lambda: balance(dan) == 12, within_s=60)
        chains = [chain_of(network[one]) for one in EVERYBODY]
        shortest = min(map(len, chains))
        assert len({tuple(one[:shortest]) for one in chains}) == 1

        # What a follower has is enough for a light client.
        def is_proven() -> bool:
            newest = host_of(eve).certified.newest
            return newest is not None and newest.state.get(REVOCATIONS, REVOKED) is not None

        await until(is_proven, within_s=60)
        newest = host_of(eve).certified.newest
        assert newest is not None
        client = LightClient(genesis)
        facts = [prove_fact(newest.state, newest.header, newest.proof, REVOCATIONS, key) for key in (REVOKED, FREE)]
        value = client.checked(facts[0], REVOCATIONS, REVOKED)
        assert value is not None
        assert decode(value, RevocationRecord, what="record").statement == revocation()
        assert client.checked(facts[1], REVOCATIONS, FREE, height_min=newest.header.height) is None


async def test_who_is_removed_from_a_perimeter_is_refused_everywhere(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """As `tests/plugins/trust_graph/test_on_ledger.py` has it for engines, in virtual time."""
    await member_is_removed(tmp_path, consensus("etcd", "perimeter", request))


async def test_a_ledger_outlives_its_etcd(tmp_path: Path) -> None:
    with etcd_server(tmp_path) as server:
        section = {"kind": "etcd", "endpoints": [server.url]}
        async with ledger(tmp_path, section) as network:
            ada = network["ada"]
            await host_of(ada).submit(transaction(ada, TransferUnits(PAYEE, 1), 0))
            await until(lambda: balance(network["dan"]) == 1, within_s=60)
            server.stop()
            await host_of(ada).submit(transaction(ada, TransferUnits(PAYEE, 2), 1))
            await anyio.sleep(1)
            assert balance(ada) == 1
            await anyio.to_thread.run_sync(server.start)
            await until(lambda: all(balance(network[one]) == 3 for one in EVERYBODY), within_s=60)
            assert any("etcd" in one["error"] for one in ada.events("ordering_service_is_away"))
            warnings = [one.text for one in host_of(ada).contributions().health()]  # type: ignore[misc]
            assert "etcd tolerates crashes, and no liars" in warnings
