"""Whoever has many modules compiled waits for their own; others do not wait for them."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from fluvial.identity import PeerId
from fluvial.testing.nodes import keys_of, nodes
from fluvial_fce_wasm.compile_turns import CompileTurns
from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.failures import GuestError
from hypothesis import given
from hypothesis import strategies as st
from wasmtime import wat2wasm

from tests.plugins.fce_wasm.deploying import WAT, ask, deployed, refusal, wasm

FLOODER, OTHER, THIRD = (PeerId(name) for name in ("flooder", "other", "third"))
SLOW = "".join(f"(local.set 0 (i32.add (local.get 0) (i32.const {n})))" for n in range(1_500))


def slow_module(number: int) -> bytes:
    functions = "".join(f"(func (param i32) (result i32) {SLOW} (local.get 0))" for _ in range(3))
    return bytes(wat2wasm(f"(component (core module {functions} (func (result i32) (i32.const {number}))))"))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), max_size=20), st.integers(1, 3))
def test_nobody_has_two_places_and_all_get_their_turn(wishes: list[tuple[str, int, bool]], places: int) -> None:
    async def play() -> None:
        turns, busy, served = CompileTurns(places), list[str](), 0

        async def one(owner: str, rounds: int, is_cancelled: bool) -> None:
            nonlocal served
            with anyio.CancelScope() as scope:
                if is_cancelled:
                    group.start_soon(cancel, scope, rounds)
                async with turns.turn(PeerId(owner)):
                    assert owner not in busy
                    busy.append(owner)
                    assert len(busy) <= places
                    try:
                        for _ in range(rounds):
                            await anyio.lowlevel.checkpoint()
                    finally:
                        busy.remove(owner)
            served += 1

        async def cancel(scope: anyio.CancelScope, after: int) -> None:
            for _ in range(after):
                await anyio.lowlevel.checkpoint()
            scope.cancel()

        async with anyio.create_task_group() as group:
            for wish in wishes:
                group.start_soon(one, *wish)
        assert served == len(wishes)
        for owner in "abc":
            async with turns.turn(PeerId(owner)):
                pass

    anyio.run(play)


async def test_others_are_served_while_one_floods(tmp_path: Path) -> None:
    cache, done = CodeCache(tmp_path / "code"), list[str]()

    async def compile_for(owner: PeerId, path: Path) -> None:
        await cache.compiled([(path.stem, path)], counts_fuel=False, is_text=True, owner=owner)
        done.append(str(owner))

    def written(number: int) -> Path:
        path = tmp_path / f"{number}.wasm"
        path.write_bytes(slow_module(number))
        return path

    async with anyio.create_task_group() as group:
        for path in [written(number) for number in range(4)]:
            group.start_soon(compile_for, FLOODER, path)
        await anyio.lowlevel.checkpoint()
        group.start_soon(compile_for, OTHER, WAT / "store.wat")
        group.start_soon(compile_for, THIRD, WAT / "front.wat")
    assert done.index("other") < 3
    assert done.index("third") < 4
    assert done[-1] == "flooder"


async def test_a_module_that_cannot_be_compiled_gives_its_place_back(tmp_path: Path) -> None:
    cache = CodeCache(tmp_path / "code")
    (tmp_path / "bad.wasm").write_bytes(b"no")
    for _ in range(3):
        with pytest.raises(GuestError):
            await cache.compiled([("bad", tmp_path / "bad.wasm")], counts_fuel=False, owner=OTHER)
    await cache.compiled([("store", WAT / "store.wat")], counts_fuel=False, is_text=True, owner=OTHER)


async def test_one_deployer_leaves_room_to_the_others(tmp_path: Path) -> None:
    ada, eve = (str(keys_of(name).peer_id) for name in ("ada", "eve"))
    execution = {"kind": "wasm", "deployers": [ada, eve], "modules_max": 4, "services_max": 4}
    async with nodes("ada", "eve", base_dir=tmp_path, execution={"kind": "wasm"}) as network:
        bob = await network.start("bob", execution=execution)
        network.introduce()
        for name in ("store", "front", "arguments"):
            blob = await network["eve"].node.blobs.put(wasm(name))
            await ask(network["eve"], bob, "dist add_module", str(blob))
        blob = await network["eve"].node.blobs.put(wasm("right_p"))
        code, text = await refusal(network["eve"], bob, "dist add_module", str(blob))
        assert code == 507
        assert "one deployer" in text
        await deployed(network["ada"], bob, "hers", "right_p")
        assert (await refusal(bob, bob, "dist add_module", str(await bob.node.blobs.put(wasm("net")))))[0] == 507
