"""What tests of Aqua share: programs around a few lines, and what happens when they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fluvial_aqua.compiler import Compilation, CompilerOptions, compile_text
from fluvial_aqua.diagnostics import Diagnostic
from fluvial_aqua.simulation import Case, play

HEAD: Final = """aqua Test declares *

export main

data Inner:
  word: string

data Pair:
  left: string
  right: u32
  inner: Inner

service Op("op"):
  echo(s: string) -> string
  pair(a: string, b: string) -> string
  count(n: u32) -> u32
  note(s: string)
  yes() -> bool
  list() -> []string
  make() -> Pair
  boom() -> string

service Free:
  go(s: string) -> string

"""
HEAD_LINES: Final = HEAD.count("\n")
ROWS: Final[list[dict[str, Any]]] = [
    {"service": "op", "function": "echo", "echo": 0},
    {"service": "op", "function": "pair", "returns": "paired"},
    {"service": "op", "function": "count", "echo": 0},
    {"service": "op", "function": "yes", "returns": True},
    {"service": "op", "function": "list", "returns": ["x", "y"]},
    {"service": "op", "function": "make", "returns": {"left": "l", "right": 3, "inner": {"word": "w"}}},
    {"service": "op", "function": "boom", "error": {"code": 1, "message": '"boom"'}},
    {"service": "op", "returns": None},
    {"function": "go", "echo": 0},
]
PEERS: Final = ["client", "relay", "relay2", "alice", "bob", "carol"]


def program(lines: str, *, signature: str = "()", more: str = "") -> str:
    """A program whose ``main`` has these lines; ``more`` goes above it."""
    body = "\n".join(f"  {line}" if line else "" for line in lines.strip("\n").splitlines())
    return f"{HEAD}{more}\nfunc main{signature}:\n{body}\n"


def check(
    text: str, *, modules: Mapping[str, str] | None = None, options: CompilerOptions | None = None
) -> Compilation:
    """A program checked."""
    return compile_text("main.aqua", text, (modules or {}).get, options)


def errors(text: str, *, modules: Mapping[str, str] | None = None) -> list[Diagnostic]:
    """The errors of a program."""
    return [one for one in check(text, modules=modules).diagnostics if one.severity == "error"]


def warnings(text: str) -> list[Diagnostic]:
    """The warnings of a program that has no errors."""
    found = check(text).diagnostics
    assert [one for one in found if one.severity == "error"] == []
    return found


def run(
    lines: str,
    *,
    signature: str = "()",
    more: str = "",
    args: Mapping[str, Any] | None = None,
    relay: str | None = None,
    rows: list[dict[str, Any]] | None = None,
    **more_of_case: Any,
) -> dict[str, Any]:
    """What is seen when ``main`` with these lines runs."""
    case = Case(
        name="test",
        aqua=program(lines, signature=signature, more=more),
        func="main",
        init_peer="client",
        peers=PEERS,
        args=dict(args or {}),
        relay=relay,
        services=[*(rows or []), *ROWS],
        **more_of_case,
    )
    return play(case)


def told(seen: dict[str, Any]) -> list[str]:
    """The calls as ``@peer function(arguments)``, in order."""
    return [f"{call['peer']} {call['function']}({', '.join(map(str, call['args']))})" for call in seen["calls"]]
