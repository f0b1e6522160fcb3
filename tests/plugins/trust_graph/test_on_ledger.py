"""Perimeters and revocations of the ledger at work in whole nodes: what is committed holds from the next question on, and can be proven."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from fluvial.encoding import decode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import KeyPair, PeerId
from fluvial.ledger.light_client import LightClient, ProvenFact
from fluvial.ledger.perimeters import (
    ClosePerimeter,
    CreatePerimeter,
    PerimeterMember,
    PerimeterTerms,
    UpdatePerimeter,
    perimeter_id,
)
from fluvial.ledger.revocations import REVOCATIONS, revocation_key
from fluvial.ledger.statements import NOTHING
from fluvial.ledger.transactions import carry_revocation, transaction_id
from fluvial.testing.nodes import NETWORK, NodeNetwork, RunningNode, keys_of, until
from fluvial.virtual.loop import BACKEND
from fluvial_trust_graph.policy.perimeters import PerimeterTable, checked
from fluvial_trust_graph.statements import (
    RevocationStatement,
    TrustStatement,
    encode_statement,
    sign_revocation,
    sign_trust,
)

from tests.support.ledgers import ADMINISTRATOR, host_of, ledger_nodes, start_holder, transaction, until_height

pytestmark = pytest.mark.anyio
HOME = perimeter_id(ADMINISTRATOR.public_key, 0)
SERVING = ("ada", "bob", "eve")
"""Two validators and a follower."""
IN_HOME = {
    "authorization": {
        "kind": "trust_graph",
        "perimeters": {"home": {"ledger": HOME.hex()}},
        "services": {"op": {"identity": [{"perimeter": "home"}]}},
    }
}


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


async def said(
    guest: RunningNode, at: RunningNode, service: str = "op", function: str = "identity", *values: Any
) -> Any:
    """The answer of a peer to a flow of the guest; an error's text if it is refused."""
    given = {f"value_{number}": value for number, value in enumerate(values or ("hi",))}
    script = (
        f'(xor (seq (call there ("{service}" "{function}") [{" ".join(given)}] x) (call %init_peer_id% ("return" "") [x]))'
        ' (call %init_peer_id% ("return" "") [:error:.$.message]))'
    )
    async with guest.run(script, there=at.peer_id, **given) as flow:
        ending = await flow.ending()
    return ending.arguments[0]


def terms(*members: RunningNode) -> PerimeterTerms:
    return PerimeterTerms(
        tuple(PerimeterMember("*", str(one.peer_id)) for one in members), NOTHING, (ADMINISTRATOR.public_key,)
    )


async def on_ledger(network: NodeNetwork, signed: bytes) -> None:
    """Bring a transaction onto the ledger, and wait until all three peers have the block."""
    ada = host_of(network["ada"])
    await ada.submit(signed)
    await until(lambda: transaction_id(signed) in ada.outcomes)
    height, failed = ada.outcomes[transaction_id(signed)]
    assert not failed
    await until(lambda: all(host_of(network[one]).view().height >= height for one in SERVING))


@pytest.mark.parametrize("algorithm", ["simplex", "dag"])
async def test_a_member_that_is_removed_is_refused_everywhere_from_that_block_on(
    tmp_path: Path, algorithm: str
) -> None:
    async with ledger_nodes(tmp_path, algorithm=algorithm, more=IN_HOME) as network:
        await start_holder(network, "eve", "none", IN_HOME)
        guest = await network.start("gus")
        network.introduce()
        for one in SERVING:
            assert "no member of perimeter home (the ledger does not know it)" in await said(guest, network[one])
        ada = network["ada"]
        await on_ledger(network, transaction(ada, CreatePerimeter(terms(guest)), 0))
        for one in SERVING:
            assert await said(guest, network[one]) == "hi"
        await on_ledger(network, transaction(ada, UpdatePerimeter(HOME, 1, terms()), 1))
        for one in SERVING:
            refusal = await said(guest, network[one])
            assert "no member of perimeter home (version 2 on the ledger" in refusal
            assert f"query perimeters {HOME.hex()}" in refusal
        await on_ledger(network, transaction(ada, UpdatePerimeter(HOME, 2, terms(guest)), 2))
        assert await said(guest, network["bob"]) == "hi"
        await on_ledger(network, transaction(ada, ClosePerimeter(HOME, 3), 3))
        assert "no member" in await said(guest, network["bob"])


def _trust(issuer: KeyPair, subject: PeerId, now: int) -> str:
    """A signed trust, base64."""
    trust = TrustStatement(
        network=NETWORK,
        issuer=issuer.peer_id,
        subject=subject,
        issued_at=now,
        sequence=0,
        expires_at=now + 10_000,
        depth=5,
    )
    return base64.b64encode(encode_statement(sign_trust(trust, issuer))).decode()


async def test_a_revocation_on_the_ledger_is_obeyed_and_its_absence_was_proven(tmp_path: Path) -> None:
    gus, mia = keys_of("gus").peer_id, keys_of("mia")
    trusting = {
        "authorization": {
            "kind": "trust_graph",
            "roots": {str(mia.peer_id): 5},
            "services": {"op": {"identity": [{"weight": 4}]}},
            "gossip_s": 3600.0,
        }
    }
    async with ledger_nodes(tmp_path, more=trusting) as network:
        eve = await start_holder(network, "eve", "none", trusting)
        guest = await network.start("gus")
        network.introduce()
        assert "weight" in await said(guest, eve)
        now = eve.node._clock.now_ms() // 1000
        made = [_trust(mia, subject, now) for subject in (mia.peer_id, gus)]
        for one in SERVING:
            await said(guest, network[one], "trust", "add", made)
            assert await said(guest, network[one]) == "hi"
        await until_height(eve, 1)
        genesis = host_of(eve).genesis
        assert genesis is not None
        client = LightClient(genesis)
        key = revocation_key(NETWORK, mia.public_key, gus.public_key)
        fact = decode(
            base64.b64decode(await said(guest, eve, "ledger", "prove", REVOCATIONS, key.hex())), ProvenFact, what=""
        )
        assert client.checked(fact, REVOCATIONS, key) is None, "not revoked as of that height"
        ban = RevocationStatement(network=NETWORK, issuer=mia.peer_id, subject=gus, issued_at=now, sequence=1)
        statement = encode_statement(sign_revocation(ban, mia))
        await on_ledger(network, carry_revocation(ADMINISTRATOR, genesis.chain, statement))
        for one in SERVING:
            assert "weight" in await said(guest, network[one]), one
        height = host_of(eve).view().height
        with pytest.raises(RemoteProtocolError, match="too old"):
            client.checked(fact, REVOCATIONS, key, height_min=height)
        fact = decode(
            base64.b64decode(await said(guest, eve, "ledger", "prove", REVOCATIONS, key.hex())), ProvenFact, what=""
        )
        assert client.checked(fact, REVOCATIONS, key) is not None


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        (PerimeterTable(ledger="12"), "64 hexadecimal digits"),
        (PerimeterTable(ledger="xy"), "64 hexadecimal digits"),
        (PerimeterTable(ledger=HOME.hex(), services=("auth",)), "the ledger says which peers and services are inside"),
    ],
)
def test_a_table_about_the_ledger_is_checked(table: PerimeterTable, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        checked("home", table)
