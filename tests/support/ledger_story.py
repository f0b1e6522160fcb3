"""A story that all algorithms tell alike: members of a perimeter on the ledger are served, and who is removed is refused everywhere from that block on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fluvial.ledger.perimeters import (
    ClosePerimeter,
    CreatePerimeter,
    PerimeterMember,
    PerimeterTerms,
    UpdatePerimeter,
    perimeter_id,
)
from fluvial.ledger.statements import NOTHING
from fluvial.ledger.transactions import transaction_id
from fluvial.testing.nodes import NodeNetwork, RunningNode, until

from tests.support.ledgers import ADMINISTRATOR, host_of, ledger_nodes, start_holder, transaction

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


async def member_is_removed(tmp_path: Path, algorithm: str | Mapping[str, Any]) -> None:
    """Told with one algorithm in the seat. Raises AssertionError."""
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
