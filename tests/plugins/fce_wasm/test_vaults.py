"""The vault of a particle: shared by the services that it calls, closed to others, bounded, and gone when it ends."""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from fluvial.clock import ManualClock
from fluvial.effectors import Call, EffectorError
from fluvial.fairness import Payer, Upstream
from fluvial.identity import PeerId
from fluvial.testing.nodes import RunningNode, keys_of, nodes
from fluvial_fce_wasm.seat.vaults import FILES_MAX, NAME, Vaults
from hypothesis import given
from hypothesis import strategies as st

from tests.plugins.fce_wasm.deploying import deployed, refusal

MIB = 1_048_576
ADA, BOB = (keys_of(name).peer_id for name in ("ada", "bob"))


def call(particle: str = "p", initiator: PeerId = ADA, *, ttl_ms: int = 60_000, by: PeerId | None = None) -> Call:
    return Call(
        particle_id=particle,
        initiator=initiator,
        service="s",
        function="f",
        arguments=[],
        timestamp_ms=1_000,
        ttl_ms=ttl_ms,
        paid_by=Payer(Upstream(by or initiator), initiator),
    )


async def made(folder: Path, clock: ManualClock, **limits: int) -> Vaults:
    vaults = Vaults(folder, clock, **{"bytes_max": MIB, "total_bytes_max": 4 * MIB, **limits})
    await vaults.open()
    return vaults


def folders(folder: Path) -> int:
    return len(list(folder.iterdir()))


def blocks_of(folder: Path) -> int:
    """What files and folders below a folder take, in blocks of 4 KiB."""
    return sum(max(1, -(-one.stat().st_size // 4_096)) for one in folder.rglob("*"))


def on_disk(folder: Path) -> dict[str, int]:
    """The files of one vault, and how long they are."""
    return {one.name: one.stat().st_size for one in folder.rglob("*") if NAME.fullmatch(one.name) and one.is_file()}


async def test_files_are_there_until_the_particle_ends_also_after_a_restart(tmp_path: Path) -> None:
    clock = ManualClock(1_000)
    vaults = await made(tmp_path, clock)
    await vaults.write(call(), "a", b"one")
    await vaults.append(call(), "a", b" two")
    await vaults.append(call(), "b", b"\xff")
    await vaults.write(call("long", ttl_ms=90_000), "a", b"x")
    (tmp_path / "rubbish").mkdir()
    vaults = await made(tmp_path, clock)
    assert vaults.files(call()) == ["a", "b"]
    assert await vaults.read(call(), "a") == b"one two"
    assert await vaults.read(call(), "a", 4, 2) == b"tw"
    assert vaults.size(call(), "a") == 7
    clock.time_ms += 60_000
    await vaults.sweep()
    assert vaults.files(call()) == []
    assert folders(tmp_path) == 1
    with pytest.raises(EffectorError, match="ended"):
        await vaults.write(call(), "a", b"")
    assert await vaults.read(call("long", ttl_ms=90_000), "a") == b"x"


async def test_others_do_not_see_them(tmp_path: Path) -> None:
    vaults = await made(tmp_path, ManualClock(1_000))
    await vaults.write(call(), "a", b"secret")
    for other in (call("q"), call("p", BOB)):
        assert vaults.files(other) == []
        with pytest.raises(EffectorError, match="no file"):
            await vaults.read(other, "a")
        await vaults.remove(other, "a")
    assert await vaults.read(call(), "a") == b"secret"


@pytest.mark.parametrize("name", ["", ".", "..", ".about", "../x", "a/b", "a\0", "é", "x" * 129, "\n"])
async def test_names_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    vaults = await made(tmp_path, ManualClock(1_000))
    for use in (vaults.read(call(), name), vaults.write(call(), name, b""), vaults.remove(call(), name)):
        with pytest.raises(EffectorError, match="letters"):
            await use
    assert folders(tmp_path) == 0


async def test_names_that_one_peer_brings_leave_others_room_also_after_a_restart(tmp_path: Path) -> None:
    clock = ManualClock(1_000)
    vaults = await made(tmp_path, clock)
    gate, written = keys_of("gate").peer_id, 0

    async def fill() -> None:
        nonlocal written
        for number in range(40):
            await vaults.write(call(f"p{number}", keys_of(f"name {number}").peer_id, by=gate), "a", bytes(MIB // 4))
            written += 1

    with pytest.raises(EffectorError, match=f"what {gate} brought"):
        await fill()
    assert 7 <= written <= 8, "half of it"
    vaults = await made(tmp_path, clock)
    with pytest.raises(EffectorError, match=f"what {gate} brought"):
        await vaults.write(call("again", keys_of("one more name").peer_id, by=gate), "a", bytes(MIB // 2))
    await vaults.write(call("mine"), "a", bytes(MIB // 2))


async def test_room_is_bounded_for_a_particle_an_initiator_and_all(tmp_path: Path) -> None:
    vaults = await made(tmp_path, ManualClock(1_000))
    await vaults.write(call(), "a", bytes(900_000))
    for use in (vaults.write(call(), "b", bytes(200_000)), vaults.append(call(), "a", bytes(200_000))):
        with pytest.raises(EffectorError, match="this vault would take"):
            await use
    await vaults.write(call(), "a", bytes(500_000))
    with pytest.raises(EffectorError, match="initiator"):
        await vaults.write(call("q"), "a", bytes(600_000))
    assert vaults.files(call("q")) == []
    others = [keys_of(f"n{number}").peer_id for number in range(6)]
    for other in others[:3]:
        await vaults.write(call("p", other), "a", bytes(1_000_000))
    for other in others[3:]:
        with pytest.raises(EffectorError, match="this peer"):
            await vaults.write(call("p", other), "a", bytes(1_000_000))
    await vaults.remove(call("p", others[0]), "a")
    await vaults.write(call("p", others[-1]), "a", bytes(900_000))


async def test_a_vault_has_so_many_files(tmp_path: Path) -> None:
    vaults = await made(tmp_path, ManualClock(1_000), bytes_max=100 * MIB, total_bytes_max=1_000 * MIB)
    for number in range(FILES_MAX):
        await vaults.write(call(), str(number), b"")
    with pytest.raises(EffectorError, match="files"):
        await vaults.write(call(), "more", b"")
    await vaults.write(call(), "1", b"x")


async def together(*uses: Awaitable[None]) -> list[str]:
    """What was refused of uses that begin at once."""
    refused: list[str] = []

    async def one(use: Awaitable[None]) -> None:
        try:
            await use
        except EffectorError as error:
            refused.append(error.message)

    async with anyio.create_task_group() as group:
        for use in uses:
            group.start_soon(one, use)
    return refused


async def test_who_waits_for_a_new_vault_while_another_is_refused_gets_one_in_the_books(tmp_path: Path) -> None:
    clock = ManualClock(1_000)
    vaults = await made(tmp_path, clock)
    too_much, enough = vaults.write(call(), "big", bytes(MIB + 1)), vaults.write(call(), "a", bytes(900_000))
    assert len(await together(too_much, enough, vaults.append(call(), "b", b"x"))) == 1
    assert vaults.files(call()) == ["a", "b"]
    await vaults.write(call("q"), "a", bytes(1_000))
    with pytest.raises(EffectorError, match="initiator"):
        await vaults.write(call("r"), "a", bytes(200_000))
    clock.time_ms += 60_000
    await vaults.sweep()
    assert folders(tmp_path) == 0
    for name in "pqr":
        await vaults.write(call(f"{name} again", ttl_ms=90_000), "a", bytes(300_000))


async def test_who_waits_for_a_vault_while_it_ends_is_told(tmp_path: Path) -> None:
    clock = ManualClock(1_000)
    vaults = await made(tmp_path, clock)
    await vaults.write(call(), "a", b"x")
    clock.time_ms += 60_000
    late: list[bytes] = []

    async def read() -> None:
        late.append(await vaults.read(call(), "a"))

    (told,) = await together(vaults.sweep(), read(), vaults.remove(call(), "a"))
    assert "no file" in told
    assert late == []
    assert folders(tmp_path) == 0


@pytest.mark.parametrize("turns", range(6))
async def test_after_a_write_was_cancelled_the_books_agree_with_the_disk(tmp_path: Path, turns: int) -> None:
    vaults = await made(tmp_path, ManualClock(1_000))
    async with anyio.create_task_group() as group:
        group.start_soon(vaults.write, call(), "a", b"x")
        for _ in range(turns):
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert {name: vaults.size(call(), name) for name in vaults.files(call())} == on_disk(tmp_path)


async def test_refused_names_take_no_room(tmp_path: Path) -> None:
    vaults = await made(tmp_path, ManualClock(1_000))
    for number in range(300):
        with pytest.raises(EffectorError, match="letters"):
            await vaults.write(call(f"p{number}"), "", b"")
    await vaults.write(call("p"), "a", bytes(MIB // 2))


@given(
    st.lists(
        st.tuples(st.sampled_from("pq"), st.sampled_from("wair"), st.sampled_from("xy"), st.integers(0, 30_000)),
        max_size=25,
    )
)
async def test_the_books_agree_with_the_disk(tmp_path_factory: pytest.TempPathFactory, steps: list[Any]) -> None:
    folder, clock = tmp_path_factory.mktemp("vaults"), ManualClock(1_000)
    vaults = await made(folder, clock, bytes_max=60_000, total_bytes_max=320_000)
    for particle, what, name, size in steps:
        one = call(particle)
        with suppress(EffectorError):
            if what == "w":
                await vaults.write(one, name, bytes(size))
            elif what == "a":
                await vaults.append(one, name, bytes(size))
            elif what == "r":
                await vaults.remove(one, name)
    there = await made(folder, clock, bytes_max=60_000, total_bytes_max=320_000)
    for particle in "pq":
        assert vaults.files(call(particle)) == there.files(call(particle))
        for name in vaults.files(call(particle)):
            assert vaults.size(call(particle), name) == there.size(call(particle), name)
    on_disk = sum(one.stat().st_size for one in folder.rglob("*") if NAME.fullmatch(one.name) and one.is_file())
    assert on_disk <= 80_000


async def flow(by: RunningNode, script: str, at: RunningNode) -> tuple[Any, ...]:
    async with by.run(script, at=at.peer_id) as running:
        values: tuple[Any, ...] = await running.result()
    return values


@pytest.mark.parametrize("isolation", ["auto", "process"])
async def test_services_of_one_particle_share_files_with_its_script(tmp_path: Path, isolation: str) -> None:
    async with nodes("ada", "bob", base_dir=tmp_path, execution={"kind": "wasm"}) as network:
        ada, bob = network["ada"], network["bob"]
        for alias in ("one", "two"):
            await deployed(bob, bob, alias, "vault_user", isolation=isolation)
        me = f'"{bob.peer_id}"'
        script = f"""(seq (call {me} ("one" "write") ["data" "from one"] w)
            (seq (call {me} ("two" "append") ["data" ", from two"] a)
            (seq (call {me} ("vault" "put") ["x"] name)
            (seq (call {me} ("vault" "cat") ["data"] all)
            (seq (call {me} ("two" "bytes") ["data" 5 3] b)
            (seq (call {me} ("one" "files") [] f)
            (seq (call {me} ("two" "read") [name] r)
            (seq (call {me} ("two" "read") ["nothing"] n)
                 (call %init_peer_id% ("return" "") [w a name all b f r n])))))))))"""
        w, a, name, text, read, files, short, missing = await flow(ada, script, bob)
        assert (w, a, text, read, short) == (
            {"ok": None},
            {"ok": None},
            "from one, from two",
            {"ok": list(b"one")},
            {"ok": "x"},
        )
        assert files == sorted(["data", name])
        assert "no file" in missing["err"]
        assert (await refusal(ada, bob, "vault cat", "data"))[0] == 404


async def test_deployers_fetch_blobs_into_the_vault(tmp_path: Path) -> None:
    async with nodes("ada", "bob", base_dir=tmp_path, execution={"kind": "wasm"}) as network:
        ada, bob = network["ada"], network["bob"]
        blob = await bob.node.blobs.put("é".encode() * 500_000)
        script = f"""(seq (call "{bob.peer_id}" ("vault" "fetch") ["{blob}" "big"] n)
            (seq (call "{bob.peer_id}" ("vault" "cat") [n] x) (call %init_peer_id% ("return" "") [x])))"""
        assert await flow(bob, script, bob) == ("é" * 500_000,)
        assert (await refusal(ada, bob, "vault fetch", str(blob)))[0] == 8


async def test_what_small_vaults_take_on_the_disk_is_counted(tmp_path: Path) -> None:
    vaults = await made(tmp_path, ManualClock(1_000), total_bytes_max=MIB)
    full = 0
    for count in range(MIB // 4_096):
        try:
            await vaults.write(call(initiator=keys_of(f"stranger {count}").peer_id), "a", b"x")
        except EffectorError:
            full += 1
    assert full
    assert MIB // 2 < blocks_of(tmp_path) * 4_096 <= MIB


async def test_a_restart_does_not_wait_until_what_has_ended_is_deleted(tmp_path: Path) -> None:
    clock = ManualClock(1_000)
    vaults = await made(tmp_path, clock)
    await vaults.write(call(), "a", b"one")
    clock.time_ms += 60_000
    vaults = await made(tmp_path, clock)
    assert folders(tmp_path) == 1
    await vaults.sweep()
    assert folders(tmp_path) == 0
    with pytest.raises(EffectorError, match="has ended"):
        await vaults.write(call(), "a", b"two")
