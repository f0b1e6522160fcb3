"""Effectors for guests: granted in the settings, imported by modules, called within a call, kept with it or not at all."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import ClassVar

import msgspec
import pytest
from fluvial import hookimpl
from fluvial.clock import ManualClock
from fluvial.effectors import EffectorError, Tetraplet
from fluvial.errors import ConfigError
from fluvial.host_interfaces import Guest, HostInterface, HostSession
from fluvial.identity import PeerId
from fluvial.offers import Registry
from fluvial.ports import Context
from fluvial.seats import Contributions, Part
from fluvial.testing.execution import call_of
from fluvial.testing.nodes import keys_of, nodes
from fluvial_fce_wasm.seat.hosting import CallContext
from fluvial_fce_wasm.wit.parsing import WitSyntaxError, parse_interface

from tests.plugins.fce_wasm.deploying import ask, deployed, refusal

BOB = str(keys_of("bob").peer_id)
GRANT = {"effector": "kv", "owners": [BOB], "settings": {"bytes_max": 100}}
KV = {"extras": {"kv": {}}, "execution": {"kind": "wasm", "grants": [GRANT]}}


@pytest.mark.parametrize("isolation", ["auto", "process"])
async def test_a_guest_keeps_what_its_call_wrote_if_it_ends_well(tmp_path: Path, isolation: str) -> None:
    async with nodes("ada", "bob", base_dir=tmp_path, **KV) as network:
        ada, bob = network["ada"], network["bob"]
        await deployed(bob, bob, "user", "kv_user", isolation=isolation)
        assert await ask(ada, bob, "user put", "a", "1") == {"ok": None}
        assert await ask(ada, bob, "user get", "a") == "1"
        assert (await refusal(ada, bob, "user put-and-trap", "b", "2"))[0] == 101
        assert await ask(ada, bob, "user get", "b") is None
        assert await ask(ada, bob, "user keys", "") == ["a"]
        full = await ask(ada, bob, "user put", "c", "x" * 200)
        assert "quota is 100" in full["err"]


async def test_a_guest_knows_the_call_that_it_answers(tmp_path: Path) -> None:
    async with nodes("ada", "bob", base_dir=tmp_path, **KV) as network:
        ada, bob = network["ada"], network["bob"]
        await deployed(bob, bob, "user", "kv_user")
        assert await ask(ada, bob, "user who") == ada.peer_id
        assert 0 < await ask(ada, bob, "user left") <= 60_000
        script = f"""(seq (call "{bob.peer_id}" ("op" "identity") ["x"] x)
            (seq (call "{bob.peer_id}" ("user" "origins") [x] o) (call %init_peer_id% ("return" "") [o])))"""
        async with ada.run(script, at=bob.peer_id) as flow:
            (origins,) = (await flow.result())[0]
        assert origins == [{"peer": bob.peer_id, "service": "op", "function": "identity", "lens": ""}]


class Origins(tuple[Tetraplet, ...]):
    """Where the elements of a canon come from; notes in which thread that is looked at."""

    __slots__ = ()
    looked_at_in: ClassVar[list[str]] = []

    def __iter__(self) -> Iterator[Tetraplet]:
        self.looked_at_in.append(threading.current_thread().name)
        return super().__iter__()


@pytest.mark.parametrize(("count", "is_main"), [(2, True), (2_000, False)])
async def test_where_arguments_come_from_is_told_when_it_is_asked_for_and_in_a_thread_if_they_are_many(
    count: int, is_main: bool
) -> None:
    Origins.looked_at_in.clear()
    me, one = PeerId(BOB), Tetraplet(BOB, "op", "identity")
    call = msgspec.structs.replace(call_of("s", "f", [[1]]), tetraplets=[Origins([one] * count)])
    session = CallContext(me, ManualClock(0)).session(Guest(service="s", owner=me, call=call), None)
    assert await session.functions["initiator"]() == str(call.initiator)
    assert not Origins.looked_at_in
    told = {"peer": BOB, "service": "op", "function": "identity", "lens": ""}
    assert await session.functions["tetraplets"]() == [[told] * count]
    assert {where == "MainThread" for where in Origins.looked_at_in} == {is_main}


async def test_without_a_grant_it_is_not_deployed_and_after_a_revocation_not_called(tmp_path: Path) -> None:
    granted = {**KV, "storage": {"url": f"sqlite:///{tmp_path}/bob.db"}, "blobs": {"folder": "blobs"}}
    revoked = {**granted, "execution": {"kind": "wasm"}}
    async with nodes(base_dir=tmp_path) as network:
        bob = await network.start("bob", **granted)
        await deployed(bob, bob, "user", "kv_user")
        assert await ask(bob, bob, "user put", "a", "1") == {"ok": None}
        await network.stop("bob")
        bob = await network.start("bob", **revoked)
        for what in ("user get", "user get"):
            code, text = await refusal(bob, bob, what, "a")
            assert code == 107
            assert "fluvial:kv/store@0.1.0" in text
            assert "may not be granted" in text
        (one,) = await ask(bob, bob, "srv list")
        assert (await refusal(bob, bob, "srv create", one["blueprint"]))[0] == 107
        await network.stop("bob")
        bob = await network.start("bob", **granted)
        assert await ask(bob, bob, "user get", "a") == "1"


async def test_grants_that_cannot_be_kept_are_refused_at_the_start(tmp_path: Path) -> None:
    for grant in (
        {"effector": "nobody", "owners": [BOB]},
        {**GRANT, "settings": {"bytes": 1}},
        {**GRANT, "settings": {"bytes_max": -1}},
    ):
        with pytest.raises(ConfigError, match="grants"):
            async with nodes("bob", base_dir=tmp_path, **{**KV, "execution": {"kind": "wasm", "grants": [grant]}}):
                pass


class DiceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    seed: int = 0


class Unreliable(HostInterface):
    """Takes the place of the store, and fails in all ways that a host function can."""

    effector = "unreliable"
    wit = """package fluvial:kv@0.1.0;
        interface store {
          get: func(key: string) -> option<string>;
          set: func(key: string, value: string) -> result<_, string>;
          keys: func(prefix: string, after: string, limit: u32) -> list<string>;
        }"""
    options = DiceSettings

    def session(self, guest: Guest, options: DiceSettings) -> HostSession:
        async def get(key: str) -> object:
            if key == "raise":
                raise RuntimeError("a bug")
            if key == "refuse":
                raise EffectorError(400, "no such key")
            return 7 if key == "lie" else str(Random(options.seed).random())

        async def set_(key: str, value: str) -> None:
            raise EffectorError(400, f"{key} is read only")

        async def keep() -> None:
            raise EffectorError(507, "the disk is full")

        return HostSession(
            {"get": get, "set": set_}, keep=keep if guest.call.function == "put" else HostSession({}).keep
        )


class UnreliablePart(Part):
    def __init__(self, context: Context, options: DiceSettings) -> None:
        pass

    def contributions(self) -> Contributions:
        return Contributions(extensions=(Unreliable(),))


class UnreliablePlugin:
    @hookimpl
    def fluvial_register(self, registry: Registry) -> None:
        registry.extra("unreliable", UnreliablePart, options=DiceSettings)


@pytest.mark.parametrize("isolation", ["auto", "process"])
async def test_a_host_function_that_fails_costs_the_call_alone(tmp_path: Path, isolation: str) -> None:
    sections = {
        "extras": {"unreliable": {}},
        "execution": {"kind": "wasm", "grants": [{"effector": "unreliable", "owners": [BOB], "settings": {"seed": 1}}]},
    }
    plugins = {"unreliable": UnreliablePlugin()}
    async with nodes("bob", base_dir=tmp_path, plugins=plugins, **sections) as network:
        bob = network["bob"]
        await deployed(bob, bob, "user", "kv_user", isolation=isolation)
        assert await ask(bob, bob, "user get", "a") == str(Random(1).random())
        for key, text in (("raise", "broke"), ("refuse", "no such key"), ("lie", "no string")):
            code, message = await refusal(bob, bob, "user get", key)
            assert (code, text in message) == (101, True), message
            assert "a bug" not in message
        assert (await refusal(bob, bob, "user keys", ""))[0] == 101
        code, text = await refusal(bob, bob, "user put", "a", "b")
        assert code == 507
        assert await ask(bob, bob, "user get", "a") == str(Random(1).random())


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "line 1"),
        ("package a:b; interface c { x: func(", "the end"),
        ("package a:b;\ninterface c { r: resource; }", "line 2"),
        ("package a:b; interface c { x: func() -> y; }", "declared before"),
        ("package a:b; interface c { record y { a: u8, } record y { a: u8 } }", "one type"),
        ("package a:b; interface c { x: func() -> list<u8, u8>; }", "parameters of list"),
        ("package a:b; interface c {} interface d {}", "one interface"),
        ("package a:b; interface c { !", "'!'"),
        ("package a:b; interface c { x: func() -> " + "list<" * 60 + "u8", "shallower"),
    ],
)
def test_wit_that_is_not_understood_is_refused_with_its_place(text: str, where: str) -> None:
    with pytest.raises(WitSyntaxError, match=where):
        parse_interface(text)
