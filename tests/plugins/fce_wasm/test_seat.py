"""The execution in a node: what is deployed by scripts, called by scripts, replaced, and there again after a restart."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import TaskStatus
from fluvial.effectors import Call
from fluvial.ports import Context
from fluvial.tables import Tables
from fluvial.testing.execution import ExecutionConformance, call_of
from fluvial.testing.nodes import NodeNetwork, RunningNode, nodes
from fluvial.testing.tables import TablesConformance
from fluvial_fce_wasm.blueprints import blueprint_bytes, blueprint_id, made_blueprint
from fluvial_fce_wasm.definitions import metadata
from fluvial_fce_wasm.seat.options import WasmOptions
from fluvial_fce_wasm.seat.seat import WasmExecution
from fluvial_fce_wasm.tables import TABLES
from sqlalchemy import MetaData

from tests.plugins.fce_wasm.deploying import ask, deployed, refusal, wasm
from tests.support.postgres import PostgresServer


class Deployed(WasmExecution):
    """Deploys two services before it is asked."""

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        async def deploy() -> None:
            me = self._context.keys.peer_id
            blob = await self._context.blobs.put(wasm("arguments"))
            for name in ("one", "two"):
                blueprint = await self.deployments.add_blueprint(made_blueprint(name, [blob]), me)
                await self.deployments.set_alias(name, await self.deployments.create(blueprint, me, hint=me))

        async def deploy_and_tell() -> None:
            with anyio.move_on_after(1):
                await deploy()
            task_status.started()

        class Opened(TaskStatus[None]):
            def started(self, value: None = None) -> None:
                group.start_soon(deploy_and_tell)

        async with anyio.create_task_group() as group:
            await super().run(task_status=Opened())


class TestSeat(ExecutionConformance):
    tables = TABLES

    @pytest.fixture
    def build(self) -> Callable[[Context], WasmExecution]:
        return lambda context: Deployed(context, WasmOptions())

    @pytest.fixture
    def works(self) -> Call:
        return call_of("one", "paint", ["green"])


class TestTables(TablesConformance):
    @pytest.fixture
    def tables(self) -> Tables:
        return TABLES

    @pytest.fixture
    def metadata(self) -> MetaData:
        return metadata

    @pytest.fixture
    def postgresql_url(self, postgres_server: PostgresServer) -> AsyncIterator[str]:
        with postgres_server.database() as url:
            yield url


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[NodeNetwork]:
    execution = {"kind": "wasm"}
    async with nodes("ada", "bob", base_dir=tmp_path, execution=execution) as made:
        yield made


async def test_a_service_is_deployed_called_replaced_and_removed(network: NodeNetwork) -> None:
    ada, bob = network["ada"], network["bob"]
    await deployed(bob, bob, "counter", "store", "front")
    assert await ask(ada, bob, "counter bump") == 1
    assert await ask(ada, bob, "counter fluvial:demo/front@0.1.0#many", 10) == 11
    assert await ask(ada, bob, "counter label", "hé") == "hé"
    code, text = await refusal(ada, bob, "counter many", "ten")
    assert code == 4
    assert "n: 'ten' is no u32" in text
    assert (await refusal(ada, bob, "counter nothing"))[0] == 2
    described = await ask(ada, bob, "srv get_interface", "counter")
    assert [one["text"] for one in described["functions"]] == [
        "bump: func() -> s64",
        "many: func(n: u32) -> s64",
        "label: func(s: string) -> string",
        "many-label: func(n: u32, s: string) -> u32",
    ]
    blob = await bob.node.blobs.put(wasm("arguments"))
    made = await ask(bob, bob, "dist make_blueprint", "other", [str(blob)])
    other = await ask(bob, bob, "dist add_blueprint", made)
    await ask(bob, bob, "srv replace", "counter", other)
    assert await ask(ada, bob, "counter count") == 1
    info = await ask(ada, bob, "srv info", "counter")
    assert (info["name"], info["aliases"], info["owner"]) == ("other", ["counter"], bob.peer_id)
    await ask(bob, bob, "srv remove", "counter")
    assert (await refusal(ada, bob, "counter count"))[0] == 1
    assert await ask(ada, bob, "srv list") == []


async def test_what_nothing_needs_can_be_removed(network: NodeNetwork) -> None:
    ada, bob = network["ada"], network["bob"]
    service = await deployed(bob, bob, "counter", "store", "front")
    blueprint = (await ask(bob, bob, "srv info", service))["blueprint"]
    modules = [one["id"] for one in await ask(ada, bob, "dist list_modules")]
    assert (await refusal(bob, bob, "dist remove_blueprint", blueprint))[0] == 409
    assert (await refusal(bob, bob, "dist remove_module", modules[0]))[0] == 409
    await ask(bob, bob, "srv remove", service)
    for what in ("dist remove_blueprint", "dist remove_module"):
        assert (await refusal(ada, bob, what, blueprint))[0] == 8
    await ask(bob, bob, "dist remove_blueprint", blueprint)
    for module in modules:
        await ask(bob, bob, "dist remove_module", module)
    assert await ask(ada, bob, "dist list_modules") == []
    assert await ask(ada, bob, "dist list_blueprints") == []
    assert (await refusal(bob, bob, "dist remove_blueprint", blueprint))[0] == 404
    await deployed(bob, bob, "counter", "store", "front")
    assert await ask(ada, bob, "counter bump") == 1


async def test_whoever_is_not_named_cannot_deploy(network: NodeNetwork) -> None:
    ada, bob = network["ada"], network["bob"]
    blob = await ada.node.blobs.put(wasm("arguments"))
    await deployed(bob, bob, "mine", "arguments")
    for what, *arguments in (
        ("dist add_module", str(blob)),
        ("dist add_blueprint", {"name": "x", "dependencies": [{"/": str(blob)}]}),
        ("srv create", str(blob)),
        ("srv replace", "mine", str(blob)),
        ("srv remove", "mine"),
        ("srv add_alias", "yours", "mine"),
        ("dist remove_module", str(blob)),
    ):
        assert (await refusal(ada, bob, what, *arguments))[0] == 8, what


async def test_a_stranger_who_may_deploy_runs_in_a_process_and_changes_only_what_is_hers(tmp_path: Path) -> None:
    async with nodes("ada", base_dir=tmp_path, execution={"kind": "wasm"}) as network:
        ada = network["ada"]
        bob = await network.start("bob", execution={"kind": "wasm", "deployers": [ada.peer_id]})
        network.introduce()
        await deployed(bob, bob, "his", "arguments")
        await deployed(ada, bob, "hers", "arguments")
        assert [await ask(ada, bob, "hers count") for _ in range(3)] == [1, 2, 3]
        assert await ask(ada, bob, "his count") == 1
        assert (await ask(ada, bob, "srv info", "hers"))["isolation"] == "process"
        assert (await ask(ada, bob, "srv info", "his"))["isolation"] == "thread"
        assert (await refusal(ada, bob, "srv remove", "his"))[0] == 8
        assert (await refusal(ada, bob, "srv add_alias", "his", "hers"))[0] == 8
        await ask(ada, bob, "srv remove", "hers")


async def test_aliases_are_shared_like_services(tmp_path: Path) -> None:
    async with nodes("ada", base_dir=tmp_path, execution={"kind": "wasm"}) as network:
        ada = network["ada"]
        bob = await network.start("bob", execution={"kind": "wasm", "deployers": [ada.peer_id], "services_max": 2})
        network.introduce()
        await deployed(bob, bob, "his", "arguments")
        await deployed(ada, bob, "hers", "arguments")
        for number in range(5):
            await ask(ada, bob, "srv add_alias", f"hers{number}", "hers")
        code, text = await refusal(ada, bob, "srv add_alias", "hers5", "hers")
        assert (code, "has 6 aliases here, the most that one deployer may have" in text) == (507, True)
        await ask(ada, bob, "srv add_alias", "hers4", "hers")
        await ask(bob, bob, "srv add_alias", "his1", "his")
        code, text = await refusal(bob, bob, "srv add_alias", "his2", "his")
        assert (code, "there are 8 aliases here, the most there may be" in text) == (507, True)
        await ask(ada, bob, "srv remove_alias", "hers0")
        await ask(bob, bob, "srv add_alias", "his2", "his")
        listed = {tuple(one["aliases"]) for one in await ask(ada, bob, "srv list")}
        assert listed == {("hers", "hers1", "hers2", "hers3", "hers4"), ("his", "his1", "his2")}


@pytest.mark.long
async def test_blueprints_are_shared_like_modules_also_after_a_restart(tmp_path: Path) -> None:
    async with nodes(base_dir=tmp_path) as network:
        ada = await network.start("ada")
        sections = {
            "execution": {"kind": "wasm", "deployers": [ada.peer_id], "modules_max": 8},
            "storage": {"url": f"sqlite:///{tmp_path}/bob.db"},
            "blobs": {"folder": "blobs"},
        }
        bob = await network.start("bob", **sections)
        network.introduce()
        await deployed(bob, bob, "his", "arguments")
        (module,) = [one["id"] for one in await ask(ada, bob, "dist list_modules")]

        async def add(by: RunningNode, name: str) -> str:
            return str(await ask(by, bob, "dist add_blueprint", _named(name, module)))

        for name in ("one", "two", "three"):
            await add(ada, name)
        await network.stop("bob")
        bob = await network.start("bob", **sections)
        network.introduce()
        for name in ("four", "five", "six", "six", "his"):
            last = await add(ada, name)
        code, text = await refusal(ada, bob, "dist add_blueprint", _named("seven", module))
        assert (code, "has 6 blueprints here, the most that one deployer may have" in text) == (507, True)
        mine = await add(bob, "mine")
        code, text = await refusal(bob, bob, "dist add_blueprint", _named("seven", module))
        assert (code, "there are 8 blueprints here, the most there may be" in text) == (507, True)
        await ask(bob, bob, "dist remove_blueprint", mine)
        assert await add(bob, "seven") != last


def _named(name: str, module: str) -> dict[str, Any]:
    return {"name": name, "dependencies": [{"/": module}]}


async def test_deployments_and_files_survive_a_restart(tmp_path: Path) -> None:
    sections = {
        "execution": {"kind": "wasm"},
        "storage": {"url": f"sqlite:///{tmp_path}/bob.db"},
        "blobs": {"folder": "blobs"},
    }
    async with nodes(base_dir=tmp_path) as network:
        bob = await network.start("bob", **sections)
        service = await deployed(bob, bob, "files", "fill", wasi=True, state=True)
        assert await ask(bob, bob, "files fill", 97, 5) == 5
        state = tmp_path / "state" / "wasm" / "services" / service / "state"
        assert [path.stat().st_size for path in state.iterdir()] == [5 * 4096]
        await network.stop("bob")
        bob = await network.start("bob", **sections)
        assert await ask(bob, bob, "srv resolve_alias", "files") == service
        assert await ask(bob, bob, "files fill", 98, 1) == 1
        assert len(list(state.iterdir())) == 2
        await ask(bob, bob, "srv remove", "files")
        assert not state.exists()


async def test_a_guest_that_fails_costs_one_call(network: NodeNetwork) -> None:
    ada, bob = network["ada"], network["bob"]
    await deployed(bob, bob, "kit", "kit_env", "kit", limits={"call_s": 0.5})
    for what, status in (("spin", 3), ("trap", 101), ("badstr", 104)):
        assert (await refusal(ada, bob, f"kit {what}"))[0] == status
    assert (await refusal(ada, bob, "kit recurse", 10**8))[0] == 103
    assert await ask(ada, bob, "kit bump", 5) == 5
    assert bob.metric("fluvial_wasm_instances_lost_total", kind="trap") == 1
    assert len(bob.events("service_instances_lost")) == 4


async def test_what_cannot_be_linked_is_not_deployed(network: NodeNetwork) -> None:
    bob = network["bob"]
    blob = await bob.node.blobs.put(wasm("front"))
    blueprint = await ask(bob, bob, "dist add_blueprint", {"name": "x", "dependencies": [{"/": str(blob)}]})
    code, text = await refusal(bob, bob, "srv create", blueprint)
    assert code == 107
    assert "fluvial:demo/counter@0.1.0" in text
    assert await ask(bob, bob, "srv list") == []


@pytest.mark.long
async def test_services_that_are_called_at_once_have_no_more_processes_than_there_may_be(tmp_path: Path) -> None:
    async with nodes("bob", base_dir=tmp_path, execution={"kind": "wasm", "processes_max": 2}) as network:
        bob, names = network["bob"], ("one", "two", "three", "four")
        for name in names:
            await deployed(bob, bob, name, "arguments", isolation="process")
        answers: dict[str, Any] = {}

        async def call(name: str) -> None:
            answers[name] = await ask(bob, bob, f"{name} count")

        for _ in range(2):  # when nothing runs, and when two are idle
            async with anyio.create_task_group() as group:
                for name in names:
                    group.start_soon(call, name)
            refused = [one["message"] for one in answers.values() if isinstance(one, dict)]
            assert sum(one["running"] for one in await ask(bob, bob, "srv list")) == 2
            assert len(refused) == 2
            assert all("2 services are busy in their processes" in one for one in refused)
            for name in names:
                await call(name)
                assert not isinstance(answers[name], dict)


async def test_a_policy_of_a_blueprint_reaches_the_authorization(tmp_path: Path) -> None:
    vouching = Path(__file__).parents[2] / "toys" / "vouching.py"
    async with nodes(
        "ada",
        "bob",
        base_dir=tmp_path,
        plugins={"vouching": vouching},
        authorization="vouching",
        execution={"kind": "wasm"},
    ) as network:
        ada, bob = network["ada"], network["bob"]
        await deployed(bob, bob, "guarded", "arguments", policy={"weight": 3})
        assert (await refusal(ada, bob, "guarded count"))[0] == 8
        await ask(bob, bob, "vouch trust", ada.peer_id, 3)
        assert await ask(ada, bob, "guarded count") == 1


async def test_a_policy_that_the_authorization_does_not_understand_is_refused_at_deployment(tmp_path: Path) -> None:
    async with nodes(
        "bob", base_dir=tmp_path, authorization={"kind": "trust_graph"}, execution={"kind": "wasm"}
    ) as network:
        bob = network["bob"]
        module = await bob.node.blobs.put(wasm("arguments"))
        body = {"name": "guarded", "dependencies": [{"/": str(module)}], "policy": {"wieght": 3}}
        _, text = await refusal(bob, bob, "srv create", await ask(bob, bob, "dist add_blueprint", body))
        assert "its policy cannot be used on this peer" in text
        await deployed(bob, bob, "guarded", "arguments", policy={"*": [{"weight": 3}]})


def test_the_id_of_a_plain_blueprint_is_that_of_the_reference() -> None:
    """A vector of the reference node's own tests."""
    modules = [
        "bafybeiey4i2vtj7uu7tlvdoc2o52uuuwxa4ahcx5g4lpqzk4qtd5klniuq",
        "bafybeibuvzascfzi5ikyzhjxdkridgytg4z26ujtnx7xrejq7gxq54ssdm",
    ]
    body = blueprint_bytes(made_blueprint("trust-graph", modules))
    assert blueprint_id(body) == "bafkreifdehdwcppttfsqaju4kodgn5wgbefrarbzc72k4sore2bwpeq2fa"
