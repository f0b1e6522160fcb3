"""A service that costs units: called with a voucher of a licence, refused without, and what was used survives a restart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fluvial.client import Client
from fluvial.effectors import Effector, NoConfig, function
from fluvial.encoding import encode
from fluvial.identity import KeyPair
from fluvial.ledger.genesis import ACCOUNTS, Account
from fluvial.ledger.licences import CloseLicence, OpenLicence, SettleLicence, licence_id, sign_voucher
from fluvial.ledger.state import Changes
from fluvial.ledger.transactions import Body, TransferUnits
from fluvial.testing.nodes import NodeNetwork, RunningNode, keys_of, nodes, until
from fluvial.virtual.loop import BACKEND

from tests.support.ledgers import ADMINISTRATOR, host_of, start_holder, transaction, write_genesis

EVE = keys_of("eve")
ID = licence_id(EVE.public_key, 0)
DEPOSIT = 12


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


class Weather(Effector[NoConfig]):
    """Costs five units a call."""

    service_id = "weather"

    @function(inline=True)
    def sky(self) -> str:
        """How it looks."""
        return "blue"


def voucher(amount: int, *, signer: KeyPair = EVE, chain: bytes) -> bytes:
    return encode(sign_voucher(signer, chain, ID, amount))


async def start_provider(network: NodeNetwork) -> RunningNode:
    return await start_holder(network, "ada", serves=[Weather()], prices={"weather": 5})


async def bring(node: RunningNode, body: Body, nonce: int, keys: KeyPair) -> None:
    """A transaction, until it is in a block."""
    host, signed = host_of(node), transaction(node, body, nonce, keys=keys)
    before = len(host.outcomes)
    await host.submit(signed)
    await until(lambda: len(host.outcomes) > before)


async def called(eve: RunningNode, credentials: Sequence[bytes] = ()) -> str:
    """What a call of the service came to, as its result or its error."""
    ada = keys_of("ada").peer_id
    script = (
        '(xor (seq (call ada ("weather" "sky") [] found) (call %init_peer_id% ("return" "") [found]))'
        ' (call %init_peer_id% ("return" "") [:error:.$.message]))'
    )
    (found,) = await Client(eve.node, credentials).run(script, ttl_s=30, ada=ada)
    return str(found)


async def test_a_service_that_costs_units_is_paid_for_by_vouchers(tmp_path: Path) -> None:
    write_genesis(tmp_path / "genesis.json", ["ada"])
    async with nodes("eve", base_dir=tmp_path) as network:
        ada, eve = await start_provider(network), network["eve"]
        assert "weather.sky is not allowed: a call of weather costs 5 units" in await called(eve)
        genesis = host_of(ada).genesis
        assert genesis is not None
        chain = genesis.chain
        paid = [voucher(10, chain=chain)]
        assert f"knows no licence {ID.hex()}" in await called(eve, paid)
        await bring(ada, TransferUnits(EVE.public_key, 20), 0, ADMINISTRATOR)
        await bring(ada, OpenLicence(keys_of("ada").public_key, "weather", DEPOSIT, 10_000), 0, EVE)

        assert "is not its licensee's" in await called(eve, [voucher(10, signer=keys_of("bob"), chain=chain)])
        assert "more than the 12" in await called(eve, [voucher(13, chain=chain)])
        assert await called(eve, paid) == "blue"
        assert await called(eve) == "blue", "what was signed for in advance"
        assert "sign a voucher of 15 units or more" in await called(eve, paid), "a voucher counts once"

        await network.stop("ada")
        ada = await start_provider(network)
        assert "of which 10 are used" in await called(eve, paid), "also after a restart"
        (held,) = await _held(ada)
        assert (held["amount"], held["used"]) == (10, 10)
        await bring(ada, SettleLicence(ID, held["amount"], bytes.fromhex(held["signature"])), 0, keys_of("ada"))
        replica = host_of(ada).replica
        assert replica is not None
        account = Changes(replica.state).read(ACCOUNTS, keys_of("ada").public_key, Account)
        assert account is not None
        assert account.balance == 10

        await bring(ada, CloseLicence(ID), 1, keys_of("ada"))
        await bring(ada, OpenLicence(keys_of("ada").public_key, "weather", 5, 10_000), 1, EVE)
        other = licence_id(EVE.public_key, 1)
        assert await called(eve, [encode(sign_voucher(EVE, chain, other, 5))]) == "blue"
        await network.stop("ada")
        ada = await start_provider(network)
        assert [held["licence"] for held in await _held(ada)] == [other.hex()], "the first one was closed"


async def test_nobody_uses_the_licence_of_another(tmp_path: Path) -> None:
    write_genesis(tmp_path / "genesis.json", ["ada"])
    async with nodes("eve", "bob", base_dir=tmp_path) as network:
        ada = await start_provider(network)
        genesis = host_of(ada).genesis
        assert genesis is not None
        await bring(ada, TransferUnits(EVE.public_key, 20), 0, ADMINISTRATOR)
        await bring(ada, OpenLicence(keys_of("ada").public_key, "weather", DEPOSIT, 10_000), 0, EVE)
        stolen = [voucher(10, chain=genesis.chain)]
        assert "is another peer's" in await called(network["bob"], stolen)
        assert await called(ada) == "blue", "the peer's own flows cost nothing"


async def test_a_peer_without_a_ledger_lets_nobody_pay(tmp_path: Path) -> None:
    async with nodes("eve", base_dir=tmp_path) as network:
        await network.start("ada", serves=[Weather()], ledger={"prices": {"weather": 5}})
        network.introduce()
        assert "this peer holds no ledger" in await called(network["eve"])


async def _held(node: RunningNode) -> list[dict[str, Any]]:
    (found,) = await Client(node.node).run(
        '(seq (call %init_peer_id% ("licence" "held") [] x) (call %init_peer_id% ("return" "") [x]))', ttl_s=30
    )
    return list(found)
