"""Random programs in Aqua that make sense: each name has its type, every value that is waited for comes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

HEAD: Final = """aqua Generated declares *

export main

data Inner:
  word: string

data Both:
  word: string
  inner: Inner

ability Teller:
  word: string
  tell(s: string) -> string

service Op("op"):
  echo(s: string) -> string
  pair(a: string, b: string) -> string
  count(n: u32) -> u32
  note(s: string) -> string
  yes(s: string) -> bool
  no(s: string) -> bool
  list(s: string) -> []string
  both(s: string) -> Both
  boom(s: string) -> string
  all(s: []string) -> []string

func tell_it{Teller}(s: string) -> string:
  z <- Teller.tell(Op.pair(Teller.word, s))
  <- z
"""
ARGUMENTS: Final[dict[str, Any]] = {
    "a": "@alice",
    "b": "@bob",
    "way": "@relay2",
    "xs": ["k", "l"],
    "peers": ["@alice", "@bob"],
}
ROWS: Final[list[dict[str, Any]]] = [
    {"service": "op", "function": "echo", "echo": 0},
    {"service": "op", "function": "pair", "returns": "paired"},
    {"service": "op", "function": "count", "returns": 7},
    {"service": "op", "function": "note", "returns": "noted"},
    {"service": "op", "function": "yes", "returns": True},
    {"service": "op", "function": "no", "returns": False},
    {"service": "op", "function": "list", "returns": ["m", "n"]},
    {"service": "op", "function": "both", "returns": {"word": "w", "inner": {"word": "iw"}}},
    {"service": "op", "function": "boom", "error": {"code": 1, "message": '"boom"'}},
    {"service": "op", "function": "all", "echo": 0},
    {"service": "math", "returns": 3},
    {"service": "cmp", "returns": True},
]
INDENT: Final = "  "


@dataclass
class Known:
    """The names at a place, by what they hold."""

    strings: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    arrays: list[str] = field(default_factory=list)
    records: list[str] = field(default_factory=list)
    streams: list[str] = field(default_factory=list)
    closures: list[str] = field(default_factory=list)

    def inside(self, *, parallel: bool = False, strings: tuple[str, ...] = ()) -> Known:
        """What a block inside knows; it may not fill streams in parallel, since their order would be open."""
        return Known(
            [*self.strings, *strings],
            [*self.numbers],
            [*self.flags],
            [*self.arrays],
            [*self.records],
            [] if parallel else [*self.streams],
            [*self.closures],
        )


class AquaGenerator:
    """Writes one program.

    Args:
        choices: where the choices come from; Hypothesis may be behind it.
    """

    def __init__(self, choices: random.Random) -> None:
        self._choices = choices
        self._count = 0
        self._functions: list[str] = []
        self._peers = ["a", "b"]

    def case(self, name: str) -> dict[str, Any]:
        """A program with all that is needed to play it."""
        text = self.program()
        relay = {"relay": "relay"} if self._choices.random() < 0.6 else {}
        return {
            "name": name,
            "about": "generated",
            "aqua": text,
            "func": "main",
            "args": ARGUMENTS,
            "init_peer": "client",
            "peers": ["client", "relay", "relay2", "bob", "alice"],
            "services": ROWS,
            **relay,
        }

    def program(self) -> str:
        """The text of a program that exports ``main``."""
        parts = [HEAD]
        for number in range(self._choices.randint(0, 2)):
            self._peers = ["p", "INIT_PEER_ID"]
            lines = self._block(Known(["t"]), 1, 1)
            parts.append(
                f"func f{number}(p: string, t: string, way: string, peers: []string) -> string:\n"
                + "\n".join([*lines, f"  w{number} <- Op.echo(t)", f"  <- w{number}"])
                + "\n"
            )
            self._functions.append(f"f{number}")
        self._peers = ["a", "b", "INIT_PEER_ID"]
        known = Known(["a"], arrays=["xs"], streams=["out"])
        lines = [line for _ in range(self._choices.randint(2, 5)) for line in self._step(known, 1, 3)]
        signature = "(a: string, b: string, way: string, xs: []string, peers: []string) -> string, []string"
        result = self._choices.choice(known.strings)
        parts.append("\n".join([f"func main{signature}:", "  out: *string", *lines, f"  <- {result}, out", ""]))
        return "\n".join(parts)

    def _fresh(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    # --- values -----------------------------------------------------------------------------------------------------

    def _literal(self) -> str:
        return f'"{self._choices.choice(["aa", "bb", "cc"])}"'

    def _string(self, known: Known, depth: int = 2) -> str:
        pick = self._choices.random()
        if depth == 0 or pick < 0.2:
            return self._choices.choice(known.strings) if known.strings and pick < 0.15 else self._literal()
        if pick < 0.5 and known.strings:
            return self._choices.choice(known.strings)
        if pick < 0.6 and known.records:
            return self._choices.choice(known.records) + self._choices.choice([".word", ".inner.word"])
        if pick < 0.7 and known.arrays:
            return f"{self._choices.choice(known.arrays)}[{self._choices.randint(0, 1)}]"
        if pick < 0.85:
            return f"Op.echo({self._string(known, depth - 1)})"
        return f"Op.pair({self._string(known, depth - 1)}, {self._string(known, depth - 1)})"

    def _number(self, known: Known, depth: int = 2) -> str:
        pick = self._choices.random()
        if depth > 0 and pick < 0.3:
            operator = self._choices.choice("+*-")
            return f"({self._number(known, depth - 1)} {operator} {self._number(known, depth - 1)})"
        if depth > 0 and pick < 0.5:
            return f"Op.count({self._number(known, 0)})"
        if pick < 0.6 and known.arrays:
            return f"{self._choices.choice(known.arrays)}.length"
        if pick < 0.8 and known.numbers:
            return self._choices.choice(known.numbers)
        return str(self._choices.randint(0, 9))

    def _flag(self, known: Known, depth: int = 2) -> str:
        pick = self._choices.random()
        if pick < 0.4:
            return f"{self._string(known, 1)} {self._choices.choice(['==', '!='])} {self._string(known, 1)}"
        if depth > 0 and pick < 0.6:
            operator = self._choices.choice(["&&", "||"])
            return f"({self._flag(known, depth - 1)}) {operator} ({self._flag(known, depth - 1)})"
        if depth > 0 and pick < 0.7:
            return f"!({self._flag(known, depth - 1)})"
        if pick < 0.8 and known.flags:
            return self._choices.choice(known.flags)
        return f"Op.{self._choices.choice(['yes', 'no'])}({self._literal()})"

    def _array(self, known: Known) -> str:
        pick = self._choices.random()
        if pick < 0.5 and known.arrays:
            return self._choices.choice(known.arrays)
        if pick < 0.7:
            return f"[{self._string(known, 1)}, {self._string(known, 1)}]"
        return f"Op.list({self._string(known, 1)})"

    def _via(self) -> str:
        return self._choices.choice(["", "", " via way"])

    # --- lines ------------------------------------------------------------------------------------------------------

    def _block(self, known: Known, indent: int, depth: int) -> list[str]:
        return [line for _ in range(self._choices.randint(1, 3)) for line in self._step(known, indent, depth)]

    def _step(self, known: Known, indent: int, depth: int) -> list[str]:
        simple: list[Callable[[Known, str], list[str]]] = [self._call, self._call, self._note, self._bind, self._push]
        simple += [self._record, self._flag_line, self._number_line, self._stream, self._option]
        blocks: list[Callable[[Known, int, int], list[str]]] = [self._on, self._on, self._if, self._for, self._try]
        blocks += [self._par, self._gather, self._co, self._closure, self._ability, self._function, self._otherwise]
        if depth > 0 and self._choices.random() < 0.6:
            return self._choices.choice(blocks)(known, indent, depth)
        return self._choices.choice(simple)(known, INDENT * indent)

    def _call(self, known: Known, start: str) -> list[str]:
        line = f"{start}{(name := self._fresh('v'))} <- Op.echo({self._string(known)})"
        known.strings.append(name)
        return [line]

    def _note(self, known: Known, start: str) -> list[str]:
        return [f"{start}Op.note({self._string(known)})"]

    def _bind(self, known: Known, start: str) -> list[str]:
        line = f"{start}{(name := self._fresh('v'))} = {self._string(known)}"
        known.strings.append(name)
        return [line]

    def _push(self, known: Known, start: str) -> list[str]:
        if not known.streams:
            return self._note(known, start)
        stream = self._choices.choice(known.streams)
        arrow, value = self._choices.choice([("<<-", self._string(known)), ("<-", f"Op.echo({self._literal()})")])
        return [f"{start}{stream} {arrow} {value}"]

    def _record(self, known: Known, start: str) -> list[str]:
        name = self._fresh("r")
        made = f"Both(word = {self._string(known, 1)}, inner = Inner(word = {self._string(known, 1)}))"
        lines = [f"{start}{name} {self._choices.choice([f'= {made}', f'<- Op.both({self._literal()})'])}"]
        known.records.append(name)
        if self._choices.random() < 0.4:
            copy = self._fresh("r")
            lines.append(f"{start}{copy} = {name}.copy(word = {self._string(known, 1)})")
            known.records.append(copy)
        return lines

    def _flag_line(self, known: Known, start: str) -> list[str]:
        line = f"{start}{(name := self._fresh('b'))} = {self._flag(known)}"
        known.flags.append(name)
        return [line]

    def _number_line(self, known: Known, start: str) -> list[str]:
        line = f"{start}{(name := self._fresh('n'))} = Op.count(1) + {self._number(known)}"
        known.numbers.append(name)
        return [line]

    def _stream(self, known: Known, start: str) -> list[str]:
        stream, first = self._fresh("s"), self._fresh("v")
        pushes = [f"{start}{stream} <<- {self._string(known)}" for _ in range(self._choices.randint(1, 3))]
        known.strings.append(first)
        return [f"{start}{stream}: *string", *pushes, f"{start}Op.all({stream})", f"{start}{first} = {stream}[0]"]

    def _option(self, known: Known, start: str) -> list[str]:
        option, value = self._fresh("o"), self._fresh("v")
        line = f"{start}{option} = ?[{self._string(known, 1)}]"
        known.strings.append(value)
        return [line, f"{start}{value} = {option}!"]

    # --- blocks -----------------------------------------------------------------------------------------------------

    def _on(self, known: Known, indent: int, depth: int) -> list[str]:
        peer = self._choices.choice(self._peers)
        via = "" if peer == "INIT_PEER_ID" else self._via()
        return [f"{INDENT * indent}on {peer}{via}:", *self._block(known, indent + 1, depth - 1)]

    def _if(self, known: Known, indent: int, depth: int) -> list[str]:
        start, inner = INDENT * indent, INDENT * (indent + 1)
        # The reference forgets an `if` whose first block makes no instruction, so there is one in each.
        lines = [f"{start}if {self._flag(known)}:", f"{inner}Op.note({self._literal()})"]
        lines += self._block(known.inside(), indent + 1, depth - 1)
        if self._choices.random() < 0.5:
            lines += [f"{start}else:", *self._block(known.inside(), indent + 1, depth - 1)]
        return lines

    def _for(self, known: Known, indent: int, depth: int) -> list[str]:
        name, mode = self._fresh("x"), self._choices.choice(["", "", " par"])
        head = f"{INDENT * indent}for {name} <- {self._array(known)}{mode}:"
        inside = known.inside(parallel=mode == " par", strings=(name,))
        return [head, *self._block(inside, indent + 1, depth - 1)]

    def _try(self, known: Known, indent: int, depth: int) -> list[str]:
        start, inner = INDENT * indent, INDENT * (indent + 1)
        lines = [f"{start}try:", *self._block(known.inside(), indent + 1, depth - 1)]
        if self._choices.random() < 0.6:
            lines.append(f"{inner}Op.boom({self._literal()})")
        error = self._fresh("e")
        lines += [f"{start}catch {error}:", f"{inner}Op.note({error}.message)"]
        return [*lines, *self._block(known.inside(), indent + 1, depth - 1)]

    def _otherwise(self, known: Known, indent: int, depth: int) -> list[str]:
        start, inner = INDENT * indent, INDENT * (indent + 1)
        lines = [f"{start}on {self._choices.choice(self._peers)}:", f"{inner}Op.boom({self._literal()})"]
        return [*lines, f"{start}otherwise:", *self._block(known.inside(), indent + 1, depth - 1)]

    def _par(self, known: Known, indent: int, _: int) -> list[str]:
        start, inner = INDENT * indent, INDENT * (indent + 1)
        names = [self._fresh("v"), self._fresh("v")]
        lines = []
        for word, name in zip(("on", "par on"), names, strict=True):
            peer = self._choices.choice(self._peers)
            via = "" if peer == "INIT_PEER_ID" else self._via()
            lines += [f"{start}{word} {peer}{via}:", f"{inner}{name} <- Op.echo({self._string(known, 1)})"]
        known.strings += names
        return [*lines, f"{start}Op.note(Op.pair({names[0]}, {names[1]}))"]

    def _gather(self, _: Known, indent: int, __: int) -> list[str]:
        """Parallel calls whose answers are waited for."""
        start = INDENT * indent
        stream, name, via = self._fresh("s"), self._fresh("x"), self._via()
        if self._choices.random() < 0.5:
            lines = [f"{start}for {name} <- peers par:", f"{start}{INDENT}on {name}{via}:"]
            inner = start + INDENT * 2
        else:
            lines = [f"{start}parseq {name} <- peers on {name}{via}:"]
            inner = start + INDENT
        lines = [f"{start}{stream}: *string", *lines, f"{inner}{stream} <- Op.echo({name})"]
        return [*lines, f"{start}join {stream}[1]", f'{start}Op.note("joined")']

    def _co(self, known: Known, indent: int, _: int) -> list[str]:
        start = INDENT * indent
        peer = self._choices.choice(self._peers)
        return [f"{start}co on {peer}:", f"{start}{INDENT}Op.note({self._string(known, 1)})"]

    def _closure(self, known: Known, indent: int, depth: int) -> list[str]:
        start, inner = INDENT * indent, INDENT * (indent + 1)
        closure, parameter, result, value = (self._fresh(prefix) for prefix in ("c", "q", "v", "v"))
        head = f"{start}{closure} = {self._choices.choice(['', '', 'func '])}({parameter}: string) -> string:"
        inside = known.inside(parallel=True, strings=(parameter,))
        lines = [head, *self._step(inside, indent + 1, min(depth - 1, 1))]
        lines += [f"{inner}{result} <- Op.echo({parameter})", f"{inner}<- {result}"]
        known.closures.append(closure)
        call = f"{value} <- {closure}({self._string(known, 1)})"
        known.strings.append(value)
        if self._choices.random() < 0.5:
            return [*lines, f"{start}on {self._choices.choice(self._peers)}:", f"{inner}{call}"]
        return [*lines, f"{start}{call}"]

    def _ability(self, known: Known, indent: int, _: int) -> list[str]:
        start = INDENT * indent
        if not known.closures:
            return self._note(known, start)
        ability, value = self._fresh("g"), self._fresh("v")
        # The reference forgets the index of an element that is given to an ability.
        word = self._literal() if self._choices.random() < 0.5 else f"Op.echo({self._string(known, 1)})"
        made = f"Teller(word = {word}, tell = {self._choices.choice(known.closures)})"
        call = f"{start}{value} <- tell_it{{{ability}}}({self._string(known, 1)})"
        known.strings.append(value)
        return [f"{start}{ability} = {made}", call]

    def _function(self, known: Known, indent: int, _: int) -> list[str]:
        start = INDENT * indent
        if not self._functions:
            return self._call(known, start)
        value = self._fresh("v")
        function = self._choices.choice(self._functions)
        line = (
            f"{start}{value} <- {function}({self._choices.choice(self._peers)}, {self._string(known, 1)}, way, peers)"
        )
        known.strings.append(value)
        return [line]
