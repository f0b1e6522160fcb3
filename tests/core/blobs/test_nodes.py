"""Blobs between whole peers, over TCP."""

from __future__ import annotations

from pathlib import Path

import pytest
from fluvial import hookimpl
from fluvial.addresses import Contact
from fluvial.blobs.layout import CHUNK_BYTES
from fluvial.blobs.wire import PROTOCOL, PieceRequest
from fluvial.client import connect
from fluvial.config import from_values, load
from fluvial.effectors import NoConfig
from fluvial.errors import RemoteProtocolError, Unreachable
from fluvial.node import running
from fluvial.plugins import load_plugins
from fluvial.ports import Capability, Context
from fluvial.seats import Contributions, Part
from fluvial.telemetry import make_logger

from tests.core.blobs.contents import pattern, tree_of
from tests.support.nodes import NETWORK, WAIT_S, keys_of, peer

BIG = pattern(8 * CHUNK_BYTES + 5)
ROOT = PieceRequest(blob=str(tree_of(BIG).blob), block=0, offset=0, length=1).encoded()


async def test_a_peer_fetches_from_another_one(tmp_path: Path) -> None:
    async with peer("a", tmp_path) as a, peer("b", tmp_path, knows=[a]) as b:
        blob = await a.node.blobs.put(BIG)
        path = await b.node.blobs.get(blob, bytes_max=len(BIG), hints=[a.peer_id])
        assert path.read_bytes() == BIG
        assert path == tmp_path / "b.blobs" / blob
        assert a.metric("fluvial_messages_total", protocol=PROTOCOL, outcome="answered") == 1 + 8 * 6 + 1
    async with peer("b", tmp_path) as b:
        assert (await b.node.blobs.get(blob, bytes_max=len(BIG))).read_bytes() == BIG


async def test_a_client_uploads_by_being_asked_over_its_own_connection(tmp_path: Path) -> None:
    async with peer("a", tmp_path) as a:
        async with connect(a.address, network=NETWORK) as client:
            blob = await client.node.blobs.put(BIG)
            folder = (await client.node.blobs.get(blob, bytes_max=len(BIG))).parent
            path = await a.node.blobs.get(blob, bytes_max=len(BIG), hints=[client.peer_id], pin=True)
            assert path.read_bytes() == BIG
        assert not folder.exists()
        with pytest.raises(Unreachable):
            await a.node.blobs.get(tree_of(b"?").blob, bytes_max=1, hints=[client.peer_id])


async def test_a_part_has_the_port_and_what_it_keeps_can_be_looked_up(tmp_path: Path) -> None:
    borrowers: list[Borrower] = []

    def make(context: Context, options: NoConfig) -> Part:
        borrowers.append(Borrower(context))
        return borrowers[-1]

    plugins = load_plugins()
    plugins.registry.offering("borrower", "test 1")
    plugins.registry.extra("borrower", make, options=NoConfig)
    values = {"network": NETWORK, "storage": {"url": "sqlite://"}, "extras": {"borrower": {}}}
    configuration = load(from_values(values, base_dir=tmp_path), plugins=plugins)
    async with peer("a", tmp_path) as a:
        blob = await a.node.blobs.put(BIG)
        async with running(configuration, keys=keys_of("b"), log=make_logger(log_format="json", log_level="error")):
            context = borrowers[0].context
            hint = [Contact.configured(a.address)]
            await context.peers.request(hint[0], PROTOCOL, ROOT, timeout_s=WAIT_S)  # a connection stands from here on
            path = await context.blobs.get(blob, bytes_max=len(BIG), hints=[a.peer_id], pin=True)
            assert path.read_bytes() == BIG
            assert Capability("blob", blob) in context.directory.own()
            assert borrowers[0].changes == [frozenset(), frozenset({Capability("blob", blob)})]
    assert (tmp_path / "state" / "blobs" / f"{blob}.pin.extra%20borrower").exists()


class Borrower(Part):
    """A part that uses blobs, and hears when it can be looked up by others than before."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.changes: list[frozenset[Capability]] = []

    def contributions(self) -> Contributions:
        return Contributions(watchers=(self,))

    @hookimpl
    def fluvial_capabilities_changed(self) -> None:
        self.changes.append(self.context.directory.own())


async def test_what_is_refused_comes_back_with_its_code_and_the_connection_stands(tmp_path: Path) -> None:
    async with peer("a", tmp_path) as a, peer("b", tmp_path, knows=[a]) as b:
        unknown = PieceRequest(blob=str(tree_of(BIG).blob), block=0, offset=0, length=1).encoded()
        for payload, code in ((unknown, "F401"), (b"?", "F302"), (bytes(500), "F302")):
            with pytest.raises(RemoteProtocolError, match=code):
                await b.node.transport.request(Contact.parse(a.address), PROTOCOL, payload, timeout_s=WAIT_S)
        assert b.node.transport.connected() == {a.peer_id}
