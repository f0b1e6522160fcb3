"""Services in WebAssembly on running peers: deployed from manifests, replaced while flows run, with effectors of strangers, and killed."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from fluvial.client import Client, connect
from wasmtime import wat2wasm

from tests.attacks.wasm import NODE_MB_MAX, carry_out
from tests.docs.pages import ROOT
from tests.plugins.fce_wasm.deploying import WAT
from tests.plugins.fce_wasm.stages import LOGIC_2, write_service
from tests.support.processes import NETWORK, PeerProcess, fluvial, fluvial_here, wait_until
from tests.support.third_party import Site, write_distribution

pytestmark = pytest.mark.timeout(180)

MORE = 10
"""Flows that begin after the replacement."""


def settings_of(peer_id: str, *effectors: str) -> dict[str, Any]:
    grants = [{"effector": one, "owners": [peer_id]} for one in effectors]
    return {"extras": {one: {} for one in effectors}, "execution": {"kind": "wasm", "grants": grants}}


def started(peer: PeerProcess, *effectors: str) -> PeerProcess:
    """The peer with other grants; its id is known only when it is there."""
    import tomlkit

    document = tomlkit.parse(peer.config.read_text())
    document.update(settings_of(peer.peer_id, *effectors))
    peer.config.write_text(tomlkit.dumps(document))
    peer.start()
    return peer


@pytest.fixture
def peer(tmp_path: Path, variables: Mapping[str, str]) -> Iterator[PeerProcess]:
    made = PeerProcess(tmp_path / "peer", variables)
    yield started(made, "kv")
    made.close()


def command(peer: PeerProcess, *arguments: str | Path, variables: Mapping[str, str] | None = None) -> Any:
    """What a command in the peer's folder prints; with variables it is a process of its own."""
    if variables is None:
        done = fluvial_here(*arguments, "--json", cwd=peer.folder)
    else:
        done = fluvial(*arguments, "--json", cwd=peer.folder, variables=variables)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


def write_manifest(folder: Path, name: str, module: str | bytes, more: str = "") -> Path:
    folder.mkdir()
    data = wat2wasm((WAT / f"{module}.wat").read_text()) if isinstance(module, str) else module
    (folder / f"{name}.wasm").write_bytes(data)
    path = folder / "service.toml"
    path.write_text(f'name = "{name}"\n{more}\n[[module]]\nname = "{name}"\nfile = "{name}.wasm"\n')
    return path


async def ask(client: Client, what: str, *arguments: Any, ttl_s: float = 60) -> Any:
    service, function = what.split()
    values = {f"v{place}": value for place, value in enumerate(arguments)}
    script = (
        f'(xor (seq (call "{client.relay_id}" ("{service}" "{function}") [{" ".join(values)}] x)'
        ' (call %init_peer_id% ("return" "") [x])) (call %init_peer_id% ("return" "") [%last_error%]))'
    )
    async with client.run(script, ttl_s=ttl_s, **values) as flow:
        (value,) = await flow.result()
    return value


async def test_a_module_is_replaced_while_flows_run_and_none_is_lost(
    peer: PeerProcess, tmp_path: Path, variables: Mapping[str, str]
) -> None:
    first = write_service(tmp_path / "first")
    second = write_service(tmp_path / "second", logic=LOGIC_2)
    assert command(peer, "service", "deploy", first)["replaced"] is False
    results: dict[int, int] = {}
    sent: list[int] = []
    replaced: list[bool] = []

    async def send(client: Client, number: int) -> None:
        results[number] = await ask(client, "notes send", f"note {number}")

    async def sending(client: Client) -> None:
        """Until the module has been replaced, and a little longer."""
        left = MORE
        for number in itertools.count():
            group.start_soon(send, client, number)
            sent.append(number)
            await anyio.sleep(0.05)
            left -= bool(replaced)
            if not left:
                break

    async with connect(peer.address, network=NETWORK) as client, anyio.create_task_group() as group:
        group.start_soon(sending, client)
        await anyio.sleep(0.5)
        made = await to_thread.run_sync(lambda: command(peer, "service", "deploy", second, variables=variables))
        replaced.append(made["replaced"])
    assert replaced == [True]
    assert sorted(results) == sent
    assert {value > 0 for value in results.values()} == {True, False}, "some were answered before, some after"
    # storage and logic share one library: n-th call gives (2n - 1) + 2n, before and after, from the start of each deployment
    for sign in (1, -1):
        numbers = sorted(sign * value for value in results.values() if value * sign > 0)
        assert numbers == [4 * n - 1 for n in range(1, len(numbers) + 1)]


@pytest.mark.long
async def test_an_effector_of_a_stranger_is_installed_granted_and_revoked(
    tmp_path: Path, variables: Mapping[str, str]
) -> None:
    site = Site(tmp_path / "site")
    source = (ROOT / "examples" / "dice.py").read_text()
    site.install(write_distribution(tmp_path, "fluvial-effector-dice", source, entry_point="effector_dice"))
    variables = {**variables, "PYTHONPATH": str(site.folder)}
    peer = PeerProcess(tmp_path / "peer", variables)
    guest = """(component (import "example:dice/rolls@0.1.0" (instance $d (export "roll" (func (param "sides" u32) (result (result u32 (error string)))))))
      (core module $l (memory (export "m") 1) (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
      (core instance $l (instantiate $l))
      (core func $roll (canon lower (func $d "roll") (memory (core memory $l "m")) (realloc (core func $l "realloc"))))
      (core module $m (import "h" "roll" (func $roll (param i32 i32)))
        (func (export "roll") (param i32) (result i32) (call $roll (local.get 0) (i32.const 16)) (i32.const 16)))
      (core instance $i (instantiate $m (with "h" (instance (export "roll" (func $roll))))))
      (func (export "roll") (param "sides" u32) (result (result u32 (error string))) (canon lift (core func $i "roll") (memory (core memory $l "m")))))"""
    manifest = write_manifest(tmp_path / "lucky", "lucky", bytes(wat2wasm(guest)))
    try:
        started(peer, "dice")
        command(peer, "service", "deploy", manifest, variables=variables)
        assert command(peer, "service", "call", "lucky", "roll", "6", variables=variables)["ok"] in range(1, 7)
        assert "2 to 20 sides" in command(peer, "service", "call", "lucky", "roll", "100", variables=variables)["err"]
        shown = command(peer, "module", "interfaces", variables=variables)
        assert "dice" in [one["effector"] for one in shown]
        peer.stop()
        started(peer)
        for arguments in (("service", "call", "lucky", "roll", "6"), ("service", "deploy", manifest)):
            done = fluvial(*arguments, cwd=peer.folder, variables=variables)
            assert done.returncode != 0
            assert "example:dice/rolls@0.1.0" in done.stderr
    finally:
        peer.close()


async def test_a_peer_that_is_killed_has_its_services_and_does_not_call_again_what_is_recorded(
    peer: PeerProcess, tmp_path: Path
) -> None:
    command(peer, "service", "deploy", write_manifest(tmp_path / "user", "user", "kv_user"))
    calls = 30
    chain = '(call %init_peer_id% ("return" "") [])'
    for number in reversed(range(calls)):
        chain = f'(seq (call "{peer.peer_id}" ("user" "put") ["k{number:02}" "v"] r{number}) {chain})'
    async with connect(peer.address, network=NETWORK) as client:
        async with client.run(chain, ttl_s=100) as flow:
            await to_thread.run_sync(
                lambda: wait_until(lambda: len(done(peer)) >= 5, within_s=30, what="some calls are made")
            )
            peer.kill()
            recorded = len(done(peer))
            assert recorded < calls, "it was killed too late"
            peer.start()
            await flow.result()
        assert await ask(client, "user keys", "") == [f"k{number:02}" for number in range(calls)]
    assert len(done(peer)) <= calls + 1, "only the call that was in progress is made again"


def done(peer: PeerProcess) -> list[dict[str, Any]]:
    return [event for event in peer.events("call_done") if (event["service"], event["function"]) == ("user", "put")]


async def test_a_process_of_a_service_that_is_killed_costs_one_call(peer: PeerProcess, tmp_path: Path) -> None:
    command(peer, "service", "deploy", write_manifest(tmp_path / "nap", "nap", "sleep", "wasi = true"))
    async with connect(peer.address, network=NETWORK) as client:
        assert await ask(client, "nap nap", 1) is None
        (child,) = guests_of(peer.pid)
        answers: list[Any] = []

        async def sleeping() -> None:
            answers.append(await ask(client, "nap nap", 5 * 10**9))

        async with anyio.create_task_group() as group:
            group.start_soon(sleeping)
            await anyio.sleep(1)
            os.kill(child, signal.SIGKILL)
        assert "ret_code is 101" in answers[0]["message"]
        assert await ask(client, "nap nap", 1) is None
        assert guests_of(peer.pid) != [child]
    peer.stop()
    assert [event["kind"] for event in peer.events("service_instances_lost")] == ["trap"]


def test_an_aqua_program_calls_a_service_by_its_generated_declaration(peer: PeerProcess, tmp_path: Path) -> None:
    command(peer, "service", "deploy", write_manifest(tmp_path / "kinds", "kinds", "arguments"))
    shown = command(peer, "service", "show", "kinds")
    export = ("aqua", "export", "-", "--name", "Kinds", "--id", "kinds")
    made = fluvial_here(*export, cwd=tmp_path, stdin=json.dumps(shown))
    assert made.returncode == 0, made.stderr
    (tmp_path / "kinds.aqua").write_text(made.stdout)
    program = tmp_path / "program.aqua"
    program.write_text("""aqua Program declares *
import "kinds.aqua"
export paint

func paint(c: string) -> string:
  on HOST_PEER_ID:
    painted <- Kinds.paint(c)
  <- painted
""")
    assert command(peer, "aqua", "run", program, "paint", "-a", "c=green")["result"] == "green"


@pytest.mark.long
async def test_hostile_services_cost_their_own_calls_alone() -> None:
    """Some of the attacks; `python -m tests.attacks.wasm` carries out all, and looks at times."""
    found = await carry_out(["loops", "memory-bomb", "host-raises"], seconds=60, seed=7)
    for name, seen in found.items():
        assert (name, seen.faults) == (name, [])
        assert seen.answers > 0
        assert 0 < seen.node_mb < NODE_MB_MAX


def guests_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in children if b"process.child\0guest" in Path(f"/proc/{one}/cmdline").read_bytes()]
