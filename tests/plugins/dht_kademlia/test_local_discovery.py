"""Peers of one network find each other by mDNS, without a seed; over the loopback interface."""

from __future__ import annotations

from pathlib import Path

import pytest
from fluvial.testing.nodes import nodes, until

pytest.importorskip("zeroconf")


async def test_two_peers_find_each_other_without_a_seed(tmp_path: Path) -> None:
    tcp = {"kind": "tcp", "listen": ["/ip4/127.0.0.1/tcp/0"]}
    local = {"kind": "kademlia", "local_discovery": True, "local_interfaces": ["127.0.0.1"]}
    name = f"local-{tmp_path.name}"[:32]
    async with nodes(base_dir=tmp_path, transport=tcp, routing=local, network=name) as network:
        for peer in ("a", "b"):
            await network.start(peer)
        await until(lambda: all(network[peer].metric("fluvial_dht_table_peers") for peer in ("a", "b")), within_s=30)
