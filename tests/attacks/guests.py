"""Hostile services: what each is made of, what is called of it, and which ends are right."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wasmtime import wat2wasm

from tests.fuzz.components import mutated

WAT: Final = Path(__file__).parents[1] / "conformance" / "fce"
TIMEOUT, ARGUMENT, TRAP, MEMORY, STACK, RESULT, QUOTA, LINK, COMPONENT = 3, 4, 101, 102, 103, 104, 105, 107, 108
UNRELIABLE: Final = '''
"""Extra ``unreliable``: an effector whose functions raise what no host function should."""

from fluvial import hookimpl
from fluvial.effectors import NoConfig
from fluvial.host_interfaces import HostInterface, HostSession
from fluvial.seats import Contributions, Part


class Unreliable(HostInterface):
    effector = "unreliable"
    options = NoConfig
    wit = """package fluvial:kv@0.1.0;
        interface store {
          get: func(key: string) -> option<string>;
          set: func(key: string, value: string) -> result<_, string>;
          keys: func(prefix: string, after: string, limit: u32) -> list<string>;
        }"""

    def session(self, guest, options):
        async def broken(*arguments):
            raise RuntimeError("a bug of the host")

        async def lying(*arguments):
            return 7

        return HostSession({"get": broken, "set": broken, "keys": lying})


class UnreliablePart(Part):
    def __init__(self, context, options):
        pass

    def contributions(self):
        return Contributions(extensions=(Unreliable(),))


@hookimpl
def fluvial_register(registry):
    registry.extra("unreliable", UnreliablePart, options=NoConfig)
'''
"""A plugin of the attacked peer."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One service.

    Attributes:
        modules: its components by name; the last is the facade.
        calls: a function, its arguments, and the statuses with which the call may fail; without any it must answer.
        refused: statuses with which it must not be deployed; without any it must be.
        may_fail: whether any other end, too, is right, as long as the peer lives.
        more: of the blueprint.
    """

    modules: Mapping[str, bytes]
    calls: Sequence[tuple[str, Sequence[Any], frozenset[int]]] = ()
    refused: frozenset[int] = frozenset()
    may_fail: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)


def _wats(*names: str, change: Callable[[str], str] = str) -> Mapping[str, bytes]:
    return {name: bytes(wat2wasm(change((WAT / f"{name}.wat").read_text()))) for name in names}


def _call(function: str, *arguments: Any, fails: Sequence[int] = ()) -> tuple[str, Sequence[Any], frozenset[int]]:
    return function, arguments, frozenset(fails)


def _one(*modules: str, calls: Sequence[Any] = (), refused: Sequence[int] = (), **more: Any) -> list[Trial]:
    return [Trial(_wats(*modules), calls, frozenset(refused), more=more)]


def _kit(*calls: Any) -> list[Trial]:
    return _one("kit_env", "kit", calls=calls)


def _paths() -> list[Trial]:
    """Files outside of the state directory: opening them fails, and the guest then traps."""

    def at(path: str) -> Callable[[str], str]:
        def change(text: str) -> str:
            changed = (
                text.replace('(data (i32.const 64) "a")', f'(data (i32.const 64) "{path}")')
                .replace("(i32.store8 (i32.const 64) (local.get $name))", "")
                .replace(
                    "(i32.const 64) (i32.const 1) (i32.const 1)",
                    f"(i32.const 64) (i32.const {len(path)}) (i32.const 1)",
                )
            )
            assert changed.count(path) == 1
            assert f"(i32.const {len(path)}) (i32.const 1) (i32.const 3)" in changed
            return changed

        return change

    return [
        Trial(_wats("fill", change=at(path)), [_call("fill", 0, 1, fails=[TRAP])], more={"wasi": True, "state": True})
        for path in ("../escaped", "../../../escaped", "/tmp/fluvial-escaped", "x/../../escaped")
    ]


def _mutants(seed: int) -> list[Trial]:
    rng = random.Random(seed)
    honest = _wats("store", "arguments", "kit_env", "bomb")
    return [
        Trial({"mutant": mutated(honest[rng.choice(list(honest))], rng)}, [_call("count")], may_fail=True)
        for _ in range(6)
    ]


def _slow_to_compile() -> list[Trial]:
    """Half a minute of a compiler, or more; whether it ends in its time depends on the machine."""
    body = "".join(f"(local.set 0 (i32.add (local.get 0) (i32.const {n})))" for n in range(20_000))
    functions = "".join(f"(func (param i32) (result i32) {body} (local.get 0))" for _ in range(20))
    return [Trial({"slow": bytes(wat2wasm(f"(component (core module {functions}))"))}, may_fail=True)]


def attacks(seed: int) -> Mapping[str, Callable[[], list[Trial]]]:
    """All attacks by name, in their order; one that needs randomness takes it from the seed."""
    return {
        "loops": lambda: _kit(_call("spin", fails=[TIMEOUT]), _call("add", 1, 2)),
        "start-loops": lambda: _one("spin_start", refused=[TIMEOUT]),
        "realloc-loops": lambda: _one("spin_realloc", calls=[_call("e", "x", fails=[TIMEOUT])]),
        "post-return-loops": lambda: _one("spin_post", calls=[_call("e", fails=[TIMEOUT])]),
        "sleeps": lambda: _one("sleep", calls=[_call("nap", 30 * 10**9, fails=[TIMEOUT]), _call("nap", 1)], wasi=True),
        "memory-bomb": lambda: _kit(_call("bomb"), _call("add", 1, 2)),
        "many-memories": lambda: _one("manymem", calls=[_call("g0"), _call("g19")]),
        "table-bomb": lambda: _one("tablebomb", calls=[_call("e")]),
        "large-from-the-start": lambda: [*_one("bigmin", refused=[MEMORY]), *_one("bigtable", refused=[MEMORY])],
        "recursion": lambda: [
            *_kit(_call("recurse", 10**8, fails=[STACK])),
            *_one("mutual_recursion", calls=[_call("dive", fails=[STACK]), _call("ok")]),
        ],
        "traps": lambda: _kit(
            _call("trap", fails=[TRAP]),
            _call("div", 1, 0, fails=[TRAP]),
            _call("div", -(2**31), -1, fails=[TRAP]),
            _call("oob", fails=[TRAP]),
            _call("add", 1, 2),
        ),
        "huge-results": lambda: _kit(_call("huge", 400, fails=[RESULT]), _call("huge", 16_384, fails=[TRAP])),
        "illegal-results": lambda: [
            *_kit(_call("badstr", fails=[RESULT]), _call("badptr", fails=[RESULT]), _call("add", 1, 2)),
            *(
                one
                for name in ("badchar", "badenum", "badalign", "badptr", "nan")
                for one in _one(name, calls=[_call("e", fails=[RESULT])])
            ),
        ],
        "endless-lists": lambda: [
            one for name in ("biglist", "zerolist") for one in _one(name, calls=[_call("e", fails=[RESULT])])
        ],
        "wrong-arguments": lambda: _one(
            "arguments",
            calls=[_call("paint", "mauve", fails=[ARGUMENT]), _call("u8", 256, fails=[ARGUMENT]), _call("count")],
        ),
        "host-raises": lambda: _one(
            "kv_user", calls=[_call("get", "a", fails=[TRAP]), _call("keys", "", fails=[TRAP]), _call("who")]
        ),
        "not-granted": lambda: [
            *_one("sleep", refused=[LINK]),
            *_one("cycle_a", "cycle_b", refused=[LINK]),
            *_one("miss", refused=[LINK]),
        ],
        "sockets": lambda: _one("net", calls=[_call("try-connect", 80)], wasi=True),
        "paths": _paths,
        "disk": lambda: _one("fill", calls=[_call("fill", 98, 10**6, fails=[QUOTA, TIMEOUT])], wasi=True, state=True),
        "mutants": lambda: _mutants(seed),
        "slow-to-compile": _slow_to_compile,
    }
