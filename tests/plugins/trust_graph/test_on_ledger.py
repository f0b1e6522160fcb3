"""Perimeters and revocations of the ledger at work in whole nodes: what is committed holds from the next question on, and can be proven."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from fluvial.hosting.view import StateView
from fluvial.identity import KeyPair, PeerId
from fluvial.ledger import state
from fluvial.ledger.light_client import LightClient, ProvenFact
from fluvial.ledger.revocations import REVOCATIONS, RevocationRecord, revocation_key
from fluvial.ledger.transactions import carry_revocation
from fluvial.ledger.tree import Node, TreeLeaf
from fluvial.testing.nodes import NETWORK, keys_of
from fluvial.testing.ports import ValuesLedger
from fluvial.virtual.loop import BACKEND
from fluvial_trust_graph.on_ledger import TAKEN_AT_ONCE, LedgerRevocations
from fluvial_trust_graph.policy.perimeters import PerimeterTable, checked
from fluvial_trust_graph.statements import (
    RevocationStatement,
    TrustStatement,
    encode_statement,
    sign_revocation,
    sign_trust,
)

from tests.support.ledger_story import HOME, SERVING, member_is_removed, on_ledger, said
from tests.support.ledgers import ADMINISTRATOR, host_of, ledger_nodes, start_holder, until_height


@pytest.fixture
def anyio_backend() -> object:
    return BACKEND


@pytest.mark.parametrize("algorithm", ["simplex", "dag"])
async def test_a_member_that_is_removed_is_refused_everywhere_from_that_block_on(
    tmp_path: Path, algorithm: str
) -> None:
    await member_is_removed(tmp_path, algorithm)


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


async def test_a_block_with_a_revocation_costs_what_it_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    looked, taken = 0, list[int]()

    def counted(walk: Callable[..., Iterator[TreeLeaf]]) -> Callable[..., Iterator[TreeLeaf]]:
        def counting(*trees: Node) -> Iterator[TreeLeaf]:
            nonlocal looked
            for one in walk(*trees):
                looked += 1
                yield one

        return counting

    for name in ("leaves", "differing"):
        monkeypatch.setattr(state, name, counted(getattr(state, name)))

    def ban(number: int) -> tuple[tuple[str, bytes], bytes]:
        mia, gus = keys_of("mia"), keys_of(f"gus {number}")
        made = RevocationStatement(
            network=NETWORK, issuer=mia.peer_id, subject=gus.peer_id, issued_at=1, signature=bytes(64)
        )
        key = revocation_key(NETWORK, mia.public_key, gus.public_key)
        return (REVOCATIONS, key), encode(RevocationRecord(encode_statement(made), 1))

    async def take(found: Sequence[RevocationStatement]) -> None:
        taken.append(len(found))

    ledger = ValuesLedger()
    follower = LedgerRevocations(ledger, NETWORK, take)
    many = {("names", bytes([number])): b"x" for number in range(200)}
    now = state.State().with_changes({**many, **dict(map(ban, range(TAKEN_AT_ONCE + 9)))})

    async def block(height: int, changed: int, *, again: bool = False) -> tuple[int, list[int]]:
        """How many keys are looked at, and what is taken in at once, after a block."""
        nonlocal looked
        ledger.seen, looked = StateView(height, now, {REVOCATIONS: changed}), 0
        taken.clear()
        await follower.follow(again=again)
        assert not follower.behind
        return looked, list(taken)

    assert await block(1, 1) == (200 + TAKEN_AT_ONCE + 9, [TAKEN_AT_ONCE, 9])
    now = now.with_changes({("names", bytes([number])): b"y" for number in range(200)})
    assert await block(2, 1) == (0, [])
    now = now.with_changes(dict([ban(1_000), (("names", b"1"), b"z")]))
    assert await block(3, 3) == (2, [1])
    assert await block(3, 3, again=True) == (0, [TAKEN_AT_ONCE, 10])


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
