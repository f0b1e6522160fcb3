"""In the seat of whole nodes: the service, what is closed by default, and weights at work."""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from fluvial.client import connect
from fluvial.effectors import Call, Tetraplet
from fluvial.errors import ConfigError, Refused, ServiceError, Unreachable
from fluvial.identity import KeyPair
from fluvial.policies import PolicyReader
from fluvial.seats import Decision
from fluvial.testing.authorization import decided
from fluvial.testing.solo import Solo, solo
from fluvial.virtual.loop import BACKEND
from fluvial_trust_graph.authorization import TrustGraphAuthorization
from fluvial_trust_graph.options import TrustGraphOptions
from fluvial_trust_graph.statements import encode_statement, sign_trust
from fluvial_trust_graph.tables import TABLES

from tests.plugins.trust_graph.test_gossip import NOW, ban, trust
from tests.plugins.trust_graph.worlds import keys_of
from tests.support.nodes import LISTEN, NETWORK, Peer, peer

ADA, BOB, EVE = (keys_of(name) for name in ("ada", "bob", "eve"))
SEAT = {"kind": "trust_graph", "owners": [str(ADA.peer_id)]}


async def call(to: Peer, keys: KeyPair, expression: str, *arguments: Any, credentials: tuple[bytes, ...] = ()) -> Any:
    service, function = expression.split(".")
    names = {f"argument_{number}": value for number, value in enumerate(arguments)}
    script = (
        f'(seq (call there ("{service}" "{function}") [{" ".join(names)}] x) (call %init_peer_id% ("return" "") [x]))'
    )
    async with connect(to.address, keys=keys, network=NETWORK, credentials=credentials) as client:
        (answer,) = await client.run(script, there=to.peer_id, ttl_s=20, **names)
        return answer


async def test_flows_ask_and_owners_state(tmp_path: Path) -> None:
    async with peer("one", tmp_path, authorization=SEAT) as one:
        later = one.node._clock.now_ms() // 1000 + 10_000
        made = await call(one, ADA, "trust.issue", str(BOB.peer_id), later)
        assert (made["issuer"], made["subject"], made["kind"]) == (one.peer_id, BOB.peer_id, "trust")
        assert await call(one, EVE, "trust.get_weight", str(BOB.peer_id)) == 128
        assert await call(one, EVE, "trust.get_weight_from", str(BOB.peer_id), one.peer_id) == 128
        assert await call(one, EVE, "trust.is_certified", str(BOB.peer_id), one.peer_id)
        assert await call(one, EVE, "trust.verify", made["statement"])
        (chain,) = await call(one, EVE, "trust.get_certificates", str(BOB.peer_id))
        assert len(chain) == 2
        said = await call(one, EVE, "trust.explain", str(BOB.peer_id))
        assert (said["weight"], said["chain"]) == (128, [one.peer_id, BOB.peer_id])
        assert (await call(one, ADA, "trust.revoke", str(BOB.peer_id)))["kind"] == "revocation"
        assert await call(one, EVE, "trust.get_weight", str(BOB.peer_id)) == 0
        await call(one, ADA, "trust.set_root", str(EVE.peer_id), 3)
        assert (await call(one, EVE, "trust.list_roots"))[EVE.peer_id] == 3
        await call(one, ADA, "trust.remove_root", str(EVE.peer_id))
        assert EVE.peer_id not in await call(one, EVE, "trust.list_roots")
    async with peer("one", tmp_path, authorization=SEAT) as one:
        (kept,) = await call(one, EVE, "trust.list_statements", str(BOB.peer_id))
        assert kept["kind"] == "revocation", "it is there again after a restart"


@pytest.mark.parametrize("function", ["issue", "revoke", "set_root", "remove_root", "anything"])
async def test_what_changes_the_node_is_closed(tmp_path: Path, function: str) -> None:
    async with peer("one", tmp_path, authorization=SEAT) as one:
        with pytest.raises(ServiceError, match="only owners may call it") as caught:
            await call(one, EVE, f"trust.{function}", str(BOB.peer_id), 1)
        assert caught.value.status == 8
        assert one.metric("fluvial_trust_statements_kept") == 1


async def test_commands_that_deploy_act_for_the_owner_with_the_key_that_the_execution_has_made(tmp_path: Path) -> None:
    closed = {"kind": "trust_graph", "admit": []}
    async with peer("one", tmp_path, authorization=closed, execution={"kind": "wasm"}) as one:
        operator = KeyPair.load(tmp_path / "state" / "wasm" / "operator.key")
        made = await call(
            one, operator, "dist.make_blueprint", "x", ["bafkreihdwdcefgh4dqkjv67uzcmw7ojee6xedzdetojuzjevtenxquvyku"]
        )
        assert made["name"] == "x"
        with pytest.raises(Refused, match="lets only the owners in"):
            await call(one, EVE, "dist.list_modules")


async def test_who_is_not_admitted_is_told_and_nothing_is_called(tmp_path: Path) -> None:
    closed = {**SEAT, "admit": [{"weight": 8}], "own_exponent": 4}
    async with peer("one", tmp_path, authorization=closed) as one:
        with pytest.raises(Refused, match="has weight 0, less than 8") as caught:
            await call(one, EVE, "op.identity", 1)
        assert caught.value.reason == "weight"
        assert one.watcher.calls == []
        assert await call(one, ADA, "op.identity", 1) == 1, "an owner"
        now = one.node._clock.now_ms() // 1000
        await call(one, ADA, "trust.issue", str(BOB.peer_id), now + 1_000)
        assert await call(one, BOB, "op.identity", 2) == 2
        shown = sign_trust(replace(trust(BOB, EVE.peer_id, at=now), network=NETWORK, signature=b""), BOB)
        with pytest.raises(Refused, match="has weight 4, less than 8"):
            await call(one, EVE, "op.identity", 3, credentials=(encode_statement(shown),))


async def test_who_has_weight_gets_a_place_and_strangers_keep_theirs(tmp_path: Path) -> None:
    """The transport asks the port for weights: here they come from statements."""
    transport = {"listen": [LISTEN], "connections_max": 10, "prefix_connections_max": 10}
    async with peer("one", tmp_path, authorization=SEAT, transport=transport) as one, AsyncExitStack() as strangers:
        now = one.node._clock.now_ms() // 1000
        await call(one, ADA, "trust.issue", str(BOB.peer_id), now + 1_000)
        for number in range(12):
            with suppress(Unreachable):
                keys = keys_of(f"stranger {number}")
                await strangers.enter_async_context(connect(one.address, keys=keys, network=NETWORK))
        assert len(one.node.transport.connected()) == 10, "all places are taken"
        async with connect(one.address, keys=BOB, network=NETWORK), AsyncExitStack() as later:
            assert BOB.peer_id in one.node.transport.connected()
            for number in range(12, 20):
                with suppress(Unreachable):
                    keys = keys_of(f"stranger {number}")
                    await later.enter_async_context(connect(one.address, keys=keys, network=NETWORK))
            assert BOB.peer_id in one.node.transport.connected(), "a crowd does not displace who has weight"
            assert len(one.node.transport.connected()) == 10, "all other places are for those without"


class TestAlone:
    """The part without a node, under virtual time."""

    @pytest.fixture
    def anyio_backend(self) -> Any:
        return BACKEND

    async def part(self, base_dir: Path = Path(), **options: Any) -> Any:
        return solo(
            TrustGraphAuthorization,
            TrustGraphOptions(**options),
            kind="authorization",
            tables=TABLES,
            base_dir=base_dir,
        )

    def asked(self, part: Solo[Any], **fields: Any) -> Call:
        defaults = {
            "particle_id": "p",
            "initiator": EVE.peer_id,
            "service": "chat",
            "function": "post",
            "arguments": [],
        }
        return Call(**{**defaults, **fields})

    async def test_settings_and_deployment_must_both_let_a_call_in(self) -> None:
        chosen = {"owners": [str(ADA.peer_id)], "services": {"chat": {"post": [{"peers": [str(BOB.peer_id)]}]}}}
        options = msgspec.convert(chosen, TrustGraphOptions)
        async with solo(TrustGraphAuthorization, options, kind="authorization", tables=TABLES) as one:

            async def permit(call: Call, policy: Any) -> Decision:
                return await decided(one.part.permit(call, policy))

            inside = {"post": [{"anyone": True, "arguments": [{"at": 0, "on": ["here"]}]}]}
            here = [[Tetraplet(str(one.peer), "auth", "check")]]
            by = {name: self.asked(one, initiator=keys.peer_id) for name, keys in (("a", ADA), ("b", BOB), ("e", EVE))}
            good = self.asked(one, initiator=BOB.peer_id, arguments=[1], tetraplets=here)
            assert (await permit(by["b"], None)).allowed
            assert (await permit(by["a"], None)).allowed, "an owner"
            assert (await permit(by["e"], None)).reason == "peers"
            assert (await permit(good, inside)).allowed
            assert (await permit(by["b"], inside)).reason == "provenance"
            assert (await permit(by["a"], inside)).reason == "provenance", "owners are not exempt from deployments"
            assert (await permit(by["b"], {"other": [{"anyone": True}]})).reason == "closed"
            assert (await permit(by["b"], {"post": [{}]})).reason == "policy"
            (reader,) = one.given.extensions
            assert isinstance(reader, PolicyReader)
            assert reader.problem_with(inside) == ""
            assert "whom it lets in" in reader.problem_with([{}])
            assert "no perimeter 'home' here" in reader.problem_with([{"perimeter": "home"}])

    async def test_the_file_of_perimeters_is_read_again_when_it_changes(self, tmp_path: Path) -> None:
        file = tmp_path / "perimeters.toml"
        file.write_text(f'[home]\nauthors = ["{BOB.peer_id}"]\n')
        options = {"perimeters_file": "perimeters.toml", "admit": ()}
        async with await self.part(tmp_path, **options) as one:
            assert one.part.book.perimeters.names() == {"home"}
            file.write_text(f'[home]\nauthors = ["{EVE.peer_id}", "{BOB.peer_id}"]\n')
            await anyio.sleep(3)
            assert one.part.book.perimeters.get("home").authors == {EVE.peer_id, BOB.peer_id}
            file.write_text("[home")
            await anyio.sleep(3)
            assert one.part.book.perimeters.get("home").authors == {EVE.peer_id, BOB.peer_id}, "as it was"
            assert [entry["event"] for entry in one.around.logged if "perimeters" in entry["event"]][
                -1
            ] == "perimeters_unreadable"

    async def test_a_file_of_perimeters_that_is_not_there_ends_the_start(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="perimeters cannot be read"):
            async with await self.part(tmp_path, perimeters_file="none.toml"):
                pass

    async def test_an_expiry_counts_at_once(self) -> None:
        async with await self.part(roots={str(ADA.peer_id): 5}) as one:
            await one.part.book.take(
                [trust(ADA, ADA.peer_id), trust(ADA, BOB.peer_id, lasts_s=50), ban(BOB, EVE.peer_id, at=NOW)], one.peer
            )
            assert one.part.weight(BOB.peer_id) == 16
            await anyio.sleep(51)
            assert one.part.weight(BOB.peer_id) == 0
