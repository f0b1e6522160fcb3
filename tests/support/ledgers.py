"""Whole nodes that hold one ledger, in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from fluvial.effectors import Effector
from fluvial.hosting.genesis_file import GenesisDocument, GenesisParameters, GenesisValidator, genesis_text
from fluvial.hosting.host import ConsensusHost
from fluvial.identity import KeyPair
from fluvial.ledger.transactions import Body, sign_transaction
from fluvial.testing.nodes import NodeNetwork, RunningNode, keys_of, nodes, until

VALIDATORS = ("ada", "bob", "cyd", "dan")
ADMINISTRATOR = KeyPair.from_secret(b"administrator".ljust(32, b"\0"))
UNITS = 1_000_000


def write_genesis(path: Path, validators: Sequence[str] = VALIDATORS, *, time_ms: int = 1) -> None:
    """A genesis whose validators are nodes of these names, and whose administrator owns all units."""
    administrator = str(ADMINISTRATOR.peer_id)
    document = GenesisDocument(
        name="test",
        time_ms=time_ms,
        validators=tuple(GenesisValidator(str(keys_of(one).peer_id)) for one in validators),
        balances={administrator: UNITS},
        parameters=GenesisParameters(administrators=(administrator,), validators_min=1),
    )
    path.write_bytes(genesis_text(document))


def sections_of(name: str, algorithm: str | Mapping[str, Any] = "simplex", **ledger: Any) -> Mapping[str, Any]:
    """The sections of a node that holds the ledger; ``none`` follows it."""
    follow = {"follow": True} if algorithm == "none" else {}
    return {
        "identity": {"key_file": f"{name}.key"},
        "consensus": {"kind": algorithm} if isinstance(algorithm, str) else algorithm,
        "ledger": {"genesis": "genesis.json", "delta_ms": 50, "idle_ms": 200, **follow, **ledger},
        "storage": {"url": f"sqlite:///{name}.db"},
    }


async def start_holder(
    network: NodeNetwork,
    name: str,
    algorithm: str | Mapping[str, Any] = "simplex",
    more: Mapping[str, Any] = MappingProxyType({}),
    serves: Sequence[Effector[Any]] = (),
    **ledger: Any,
) -> RunningNode:
    """Start a node that holds the ledger, perhaps again; all know each other's addresses then. ``more`` are further sections."""
    node = await network.start(name, serves=serves, **sections_of(name, algorithm, **ledger), **more)
    network.introduce()
    return node


@asynccontextmanager
async def ledger_nodes(
    base_dir: Path,
    *,
    algorithm: str | Mapping[str, Any] = "simplex",
    more: Mapping[str, Any] = MappingProxyType({}),
    **ledger: Any,
) -> AsyncIterator[NodeNetwork]:
    """Four validators, with further sections and options of ``[ledger]``."""
    write_genesis(base_dir / "genesis.json")
    async with nodes(base_dir=base_dir) as network:
        for name in VALIDATORS:
            await start_holder(network, name, algorithm, more, **ledger)
        yield network


def host_of(node: RunningNode) -> ConsensusHost:
    """What sits in the seat of consensus."""
    part = node.node.assembly.consensus.part
    assert isinstance(part, ConsensusHost)
    return part


def transaction(node: RunningNode, body: Body, nonce: int, *, keys: KeyPair = ADMINISTRATOR) -> bytes:
    """A signed transaction for the ledger of a node."""
    genesis = host_of(node).genesis
    assert genesis is not None
    return sign_transaction(keys, genesis.chain, nonce, body)


async def until_height(node: RunningNode, height: int) -> None:
    """Wait until a node's ledger has so many blocks."""
    await until(lambda: host_of(node).view().height >= height)


def chain_of(node: RunningNode) -> Sequence[bytes]:
    """The ids of the blocks that a node holds in memory."""
    replica = host_of(node).replica
    assert replica is not None
    return [replica.chain.header(height).id for height in range(1, replica.chain.tip.height + 1)]
