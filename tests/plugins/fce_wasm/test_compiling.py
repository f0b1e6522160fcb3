"""Compiling in a child process, and the folder of compiled code."""

from __future__ import annotations

import random
import secrets
import time
from functools import partial
from pathlib import Path

import anyio
import pytest
from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.wit.binary import declared_memories
from fluvial_fce_wasm.wit.printing import interface_text
from fluvial_fce_wasm.wit.types import WitInterface
from wasmtime import wat2wasm

WAT = Path(__file__).parents[2] / "conformance" / "fce"


async def test_what_was_compiled_is_loaded_only_under_its_seal(tmp_path: Path) -> None:
    cache = CodeCache(tmp_path / "code")
    modules = [("store", WAT / "store.wat")]
    (first,) = await cache.compiled(modules, counts_fuel=False, is_text=True)
    assert (tmp_path / "code").stat().st_mode & 0o777 == 0o700
    made = first.path.stat().st_mtime_ns
    honest = first.path.read_bytes()
    (again,) = await CodeCache(tmp_path / "code").compiled(modules, counts_fuel=False, is_text=True)
    assert (again.path, again.shape) == (first.path, first.shape)
    forged = bytearray(honest)
    forged[len(forged) // 2] ^= 1
    first.path.write_bytes(forged)
    (healed,) = await cache.compiled(modules, counts_fuel=False, is_text=True)
    assert healed.path.read_bytes() != forged
    assert healed.path.stat().st_mtime_ns != made
    (other,) = await cache.compiled(modules, counts_fuel=True, is_text=True)
    assert other.path != first.path


async def test_those_who_come_first_at_the_same_time_have_the_same_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[bytes] = []

    def slow(size: int) -> bytes:
        time.sleep(0.02)
        made.append(random.Random(len(made)).randbytes(size))
        return made[-1]

    monkeypatch.setattr(secrets, "token_bytes", slow)
    cache = CodeCache(tmp_path)
    async with anyio.create_task_group() as group:
        for _ in range(8):
            group.start_soon(partial(cache.compiled, [], counts_fuel=False))
    assert made == [(tmp_path / "key").read_bytes()]


async def test_a_seal_of_another_module_does_not_fit(tmp_path: Path) -> None:
    cache = CodeCache(tmp_path)
    one, two = await cache.compiled([(n, WAT / f"{n}.wat") for n in ("store", "net")], counts_fuel=False, is_text=True)
    for suffix in (".cwasm", ".seal"):
        one.path.with_suffix(suffix).write_bytes(two.path.with_suffix(suffix).read_bytes())
    (again,) = await cache.compiled([("store", WAT / "store.wat")], counts_fuel=False, is_text=True)
    assert again.shape == one.shape


async def test_text_is_taken_only_where_it_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="no WebAssembly component") as error:
        await CodeCache(tmp_path).compiled([("store", WAT / "store.wat")], counts_fuel=False)
    assert error.value.kind is FailureKind.COMPONENT


async def test_a_module_that_compiles_too_long_is_given_up(tmp_path: Path) -> None:
    body = "".join(f"(local.set 0 (i32.add (local.get 0) (i32.const {n})))" for n in range(20_000))
    functions = "".join(f"(func (param i32) (result i32) {body} (local.get 0))" for _ in range(30))
    slow = tmp_path / "slow.wasm"
    slow.write_bytes(wat2wasm(f"(component (core module {functions}))"))
    with pytest.raises(GuestError, match="killed") as error:
        await CodeCache(tmp_path / "code", compile_s=0.5).compiled([("slow", slow)], counts_fuel=False)
    assert error.value.kind is FailureKind.COMPONENT
    assert not list((tmp_path / "code").glob("*.new"))


async def test_mutated_components_are_refused_or_harmless(tmp_path: Path) -> None:
    """A sample; `python -m tests.fuzz.components` does it for as long as one likes."""
    rng = random.Random(7)
    honest = bytes(wat2wasm((WAT / "store.wat").read_text()))
    cache = CodeCache(tmp_path / "code")
    refused = []
    for number in range(12):
        data = bytearray(honest)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(8, len(data))] = rng.randrange(256)
        path = tmp_path / f"{number}.wasm"
        path.write_bytes(data)
        try:
            await cache.compiled([("mutated", path)], counts_fuel=False)
        except GuestError as error:
            refused.append(error.kind)
    assert set(refused) == {FailureKind.COMPONENT}


async def test_types_that_are_small_in_the_file_and_large_in_use_are_refused(tmp_path: Path) -> None:
    def bomb(depth: int) -> str:
        types = "".join(f"(type $t{n + 1} (tuple $t{n} $t{n}))" for n in range(depth))
        return f"""(component (type $t0 u8) {types}
            (core module $m (memory (export "m") 1) (func (export "f") (param i32))
                (func (export "r") (param i32 i32 i32 i32) (result i32) (i32.const 0)))
            (core instance $i (instantiate $m))
            (func (export "f") (param "x" $t{depth})
                (canon lift (core func $i "f") (memory (core memory $i "m")) (realloc (core func $i "r")))))"""

    cache = CodeCache(tmp_path / "code")
    for depth in (12, 13):
        (tmp_path / str(depth)).write_text(bomb(depth))
    (fits,) = await cache.compiled([("fits", tmp_path / "12")], counts_fuel=False, is_text=True)
    assert set(fits.shape.exports) == {"f"}
    with pytest.raises(GuestError, match=r"imports and exports has more than 10,000 parts") as error:
        await cache.compiled([("bomb", tmp_path / "13")], counts_fuel=False, is_text=True)
    assert error.value.kind is FailureKind.COMPONENT


def test_the_memories_of_a_component_are_counted() -> None:
    assert declared_memories(bytes(wat2wasm((WAT / "kit.wat").read_text()))) == [65_536]
    nested = """(component (component (core module (memory 3)) (core module (memory 2 9) (memory 1))) (core module))"""
    assert declared_memories(bytes(wat2wasm(nested))) == [196_608, 131_072, 65_536]
    with pytest.raises(ValueError, match="no component"):
        declared_memories(b"\0asm\1\0\0\0")


async def test_interfaces_are_printed_as_wit(tmp_path: Path) -> None:
    (kit,) = await CodeCache(tmp_path).compiled([("kit", WAT / "kit.wat")], counts_fuel=False, is_text=True)
    wanted = kit.shape.imports["fluvial:probe/env"]
    assert isinstance(wanted, WitInterface)
    assert (
        interface_text("env", wanted) == "interface env {\n  note: func(msg: string);\n  twice: func(n: u32) -> u32;\n}"
    )
