"""Random scenarios of valid AIR: the same seed and number always give the same one.

Every instruction and every kind of value occurs, on several peers, some of them absent. Scripts pass the static checks by construction.
They end: what a fold over a stream writes goes to streams that were opened later, or comes from a service that runs dry.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Final, TypeVar

from fluvial.simulation.scenario import MockedError, Scenario, Seeded, ServiceRow

Chosen = TypeVar("Chosen")

INSTRUCTIONS: Final = (6, 10, 14, 20)
"""How many instructions a script has, roughly."""

FOLDS_DEEP: Final = 2
PEERS: Final = ("ada", "bob", "cyd", "dan", "eve")

LITERALS: Final = ('"text"', "0", "1", "-7", "2.5", "true", "false", "[]", '"stop"', '"n"')
ENVIRONMENT: Final = ("%init_peer_id%", "%timestamp%", "%ttl%")
ERRORS: Final = (
    *(":error:", ":error:.$.message", ":error:.$.error_code", ":error:.$.instruction"),
    *("%last_error%", "%last_error%.$.message", "%last_error%.$.error_code"),
)

RETURNS: Final = {
    "same": "any",
    "count": "number",
    "word": "text",
    "list": "list",
    "none": "list",
    "peers": "peers",
    "who": "peer",
    "thing": "thing",
    "fault": "fault",
    "null": "any",
}
"""Mocked functions and what they return; besides them ``bad`` fails and ``dry`` says ``stop`` after a while."""

PATHS: Final = {
    "list": (".$.[0]", ".$.[1]", ".length", ".$[0]", ".$.[9]"),
    "peers": (".$.[0]", ".length"),
    "thing": (".$.n", ".$.list", ".$.list.[1]", ".$.deep.items.[0].id", ".$.absent", ".$.list.length"),
    "fault": (".$.message", ".$.error_code"),
    "pair": (".$.key", ".$.value"),
}
"""Paths into values of a kind; some of them lead nowhere."""


@dataclass(frozen=True, slots=True)
class _Name:
    """A name that can be read: with its sigil, and what it holds."""

    text: str
    kind: str


@dataclass(slots=True)
class _Known:
    """What can be read and written at a place of the script.

    Attributes:
        scalars, canons, maps: names of values.
        streams, stream_maps: names by rank; folds write only to what has a higher rank than what they run over.
        rank_min: rank from which on streams may be written to here.
        folds: how many folds are around.
    """

    scalars: list[_Name] = field(default_factory=list)
    canons: list[_Name] = field(default_factory=list)
    maps: list[_Name] = field(default_factory=list)
    streams: dict[str, int] = field(default_factory=dict)
    stream_maps: dict[str, int] = field(default_factory=dict)
    rank_min: int = 0
    folds: int = 0

    def copy(self) -> _Known:
        return _Known(
            [*self.scalars],
            [*self.canons],
            [*self.maps],
            {**self.streams},
            {**self.stream_maps},
            self.rank_min,
            self.folds,
        )


def scenario(seed: int, number: int, *, runs: bool = False) -> Scenario:
    """One scenario.

    Args:
        seed: of a row of scenarios.
        number: which one of that row.
        runs: write rows of calls of one peer in place of many calls; makes another scenario.
    """
    random = Random(f"{seed}/{number}")
    peers = list(PEERS[: random.choice((1, 2, 3, 3, 4, 5))])
    script = _Writer(random, peers, runs=runs).script(random.choice(INSTRUCTIONS))
    absent = [peers[-1]] if len(peers) > 2 and random.random() < 0.1 else []
    return Scenario(
        name=f"fuzz-{seed}-{number}{'-runs' if runs else ''}",
        script=script,
        init_peer=peers[0],
        peers=peers,
        services=_services(random, peers),
        absent_peers=absent,
        order="fifo" if random.random() < 0.4 else Seeded(random.randrange(2**20)),
    )


def _services(random: Random, peers: list[str]) -> list[ServiceRow]:
    called = ["@" + peer for peer in peers]
    values = {
        "word": f"word {random.randrange(3)}",
        "list": random.choice(([3, "b"], [1, 2, 3], ["a"], [[1, 2], {"id": 4}])),
        "none": [],
        "peers": random.sample(called, random.randint(1, min(3, len(called)))),
        "who": random.choice(called),
        "thing": {"n": 5, "list": ["x", 8], "deep": {"items": [{"id": "first"}]}, "null": None, "part": 1.5},
        "fault": {"error_code": 77, "message": "a fault"},
    }
    return [
        ServiceRow(function="same", echo=0),
        ServiceRow(function="count", returns_each=[1, 2, 3]),
        ServiceRow(function="dry", returns_each=["go", "on", "stop"][random.randrange(2) :]),
        ServiceRow(function="bad", error=MockedError(random.choice((1, 13)), '"bad luck"')),
        *(ServiceRow(function=name, returns=value) for name, value in values.items()),
        ServiceRow(service="srv", returns=None),
    ]


class _Writer:
    """Writes one script."""

    def __init__(self, random: Random, peers: list[str], *, runs: bool) -> None:
        self._random = random
        self._peers = peers
        self._runs = runs
        self._known = _Known()
        self._made = 0

    def script(self, size: int) -> str:
        """A script that ends with a call that shows what is known."""
        body = self._instruction(size)
        last = f'(call %init_peer_id% ("srv" "end") [{self._values(3)}])'
        return f"(seq {body} {last})" if self._random.random() < 0.6 else f"(seq (xor {body} {self._handler()}) {last})"

    # --- instructions

    def _instruction(self, size: int) -> str:
        if size <= 1:
            return self._one_of(
                {self._call: 60, self._ap: 14, self._pair: 7, self._canon: 14, self._idle: 3, self._fail: 2}
            )()
        return self._one_of(
            {
                self._seq: 40,
                self._par: 16,
                self._xor: 10,
                self._fold: 18 if self._known.folds < FOLDS_DEEP else 0,
                self._test: 7,
                self._new: 5,
                self._recursion: 2 if self._known.folds == 0 else 0,
            }
        )(size)

    def _seq(self, size: int) -> str:
        left = self._random.randint(1, size - 1)
        return f"(seq {self._instruction(left)} {self._instruction(size - left)})"

    def _par(self, size: int) -> str:
        left = self._random.randint(1, size - 1)
        one, other = self._instruction(left), self._instruction(size - left)
        return f"(par {one} {other})"

    def _xor(self, size: int) -> str:
        return f"(xor {self._instruction(size - 1)} {self._handler()})"

    def _handler(self) -> str:
        error, peer = self._random.choice(ERRORS), self._peer()
        handlers = {
            f'(call {peer} ("srv" "caught") [{error}])': 30,
            f'(call %init_peer_id% ("srv" "caught") [:error: {error}])': 20,
            "(null)": 30,
            f'(xor (fail :error:) (call {peer} ("srv" "again") [{error}]))': 12,
            "(fail :error:)": 5,
            "(fail %last_error%)": 3,
        }
        return self._one_of(handlers)

    def _test(self, size: int) -> str:
        one = self._value()
        other = one if self._random.random() < 0.5 else self._value()
        with self._inside():
            body = self._instruction(size - 1)
        test = f"({self._random.choice(('match', 'mismatch'))} {one} {other} {body})"
        return test if self._random.random() < 0.2 else f"(xor {test} {self._handler()})"

    def _call(self) -> str:
        return self._run() if self._runs and self._random.random() < 0.6 else self._one_call(self._peer())

    def _run(self) -> str:
        """Calls of one peer in a row, most of which hand on nothing but to those behind them."""
        peer, made = self._peer(), [self._fresh("r")]
        calls = [f'(call {peer} ("srv" "thing") [{self._values(1)}] {made[0]})']
        for _ in range(self._random.randint(1, 3)):
            read = self._random.choice((*made, f"{made[-1]}.$.n", self._value(), ""))
            dice = self._random.random()
            if dice < 0.2:
                calls.append(self._one_call(peer))
            elif dice < 0.4:
                calls.append(f'(call {peer} ("srv" "word") [{read}])')
            else:
                made.append(self._fresh("r"))
                calls.append(f'(call {peer} ("srv" "thing") [{read}] {made[-1]})')
        if self._random.random() < 0.15:
            self._known.scalars.append(_Name(self._random.choice(made), "thing"))
        script = calls.pop()
        while calls:
            script = f"(seq {calls.pop()} {script})"
        return script

    def _one_call(self, peer: str) -> str:
        arguments = self._values(2)
        if self._random.random() < 0.07:
            return f'(call {peer} ("srv" "bad") [{arguments}])'
        function = self._random.choice(tuple(RETURNS))
        kind = RETURNS[function]
        named = self._reading("text") if self._random.random() < 0.03 else None
        service = self._random.choice(('"srv"', '"srv"', '"other"'))
        output = self._output(kind)
        return f"(call {peer} ({service} {named or f'{chr(34)}{function}{chr(34)}'}) [{arguments}]{output})"

    def _output(self, kind: str) -> str:
        dice = self._random.random()
        if dice < 0.2:
            return ""
        if dice < 0.45:
            return " " + self._stream()
        return " " + self._scalar(kind)

    def _ap(self) -> str:
        known = (
            self._random.choice(self._known.scalars) if self._known.scalars and self._random.random() < 0.5 else None
        )
        value = known.text if known else self._value(maps=False)
        if self._random.random() < 0.6:
            return f"(ap {value} {self._stream()})"
        return f"(ap {value} {self._scalar(known.kind if known else 'any')})"

    def _pair(self) -> str:
        key = self._random.choice(('"k"', '"n"', "7", self._reading("text", "number") or '"k"'))
        return f"(ap ({key} {self._value(maps=False)}) {self._stream_map()})"

    def _canon(self) -> str:
        streams, maps = self._known.streams, self._known.stream_maps
        if maps and (not streams or self._random.random() < 0.35):
            source = self._random.choice(tuple(maps))
            if self._random.random() < 0.3:
                return f"(canon {self._peer()} {source} {self._scalar('any')})"
            name = self._define(self._known.maps, "#%m", "map")
        else:
            source = self._random.choice(tuple(streams)) if streams else "$empty"
            name = self._define(self._known.canons, "#c", "list")
        return f"(canon {self._peer(plain=True)} {source} {name})"

    def _idle(self) -> str:
        return "(never)" if self._random.random() < 0.15 else "(null)"

    def _fail(self) -> str:
        return self._random.choice(
            (
                '(xor (fail 42 "on purpose") (null))',
                f"(xor (fail {self._reading('fault') or ':error:'}) {self._handler()})",
                '(fail 43 "on purpose")',
            )
        )

    def _new(self, size: int) -> str:
        outer = self._known.copy()
        choices = [*self._known.streams, *self._known.stream_maps]
        scalars = [name for name in self._known.scalars if not name.text.startswith("i")]
        if scalars and self._random.random() < 0.3:
            name = self._random.choice(scalars).text
            body = f"(seq (ap {self._random.choice(LITERALS)} {name}) {self._instruction(size - 1)})"
        else:
            name = self._random.choice(choices) if choices and self._random.random() < 0.6 else self._fresh("$s")
            (self._known.stream_maps if name.startswith("%") else self._known.streams).setdefault(name, self._made)
            body = self._instruction(size - 1)
        self._known = outer
        return f"(new {name} {body})"

    # --- folds

    def _fold(self, size: int) -> str:
        iterable, kind = self._iterable()
        rank = {**self._known.streams, **self._known.stream_maps}.get(iterable)
        with self._inside():
            self._known.folds += 1
            if rank is not None:
                self._known.rank_min = max(self._known.rank_min, rank + 1)
            iterator = self._define(self._known.scalars, "i", kind)
            body = self._body(size - 1, iterator, over_stream=rank is not None)
            last = self._last(over_stream=rank is not None)
        return f"(fold {iterable} {iterator} {body}{last})"

    def _iterable(self) -> tuple[str, str]:
        """What to fold over, and of which kind its elements are."""
        found: list[tuple[str, str]] = [("[]", "any")] if self._random.random() < 0.04 else []
        found += [(name, "any") for name in self._known.streams]
        found += [(name, "pair") for name in self._known.stream_maps]
        found += [(name.text, "any") for name in self._known.canons]
        found += [(name.text, "pair") for name in self._known.maps]
        for name in self._known.scalars:
            if name.kind in ("list", "peers"):
                found += [(name.text, "peer" if name.kind == "peers" else "any")] * 2
            elif name.kind == "thing":
                found.append((name.text + ".$.list", "any"))
        if not found or self._random.random() < 0.03:
            found = [(name.text, "any") for name in self._known.scalars] or [("[]", "any")]
        return self._random.choice(found)

    def _body(self, size: int, iterator: str, *, over_stream: bool) -> str:
        following = f"(next {iterator})"
        inner = self._instruction(max(1, size - 1))
        if self._random.random() < 0.4:
            inner = f"(xor {inner} {self._handler()})"
        shapes = {"(par {0} {1})": 40, "(seq {0} {1})": 40, "{0}": 4, "(xor {0} {1})": 3}
        if not over_stream:
            shapes |= {"(seq {1} {0})": 10, "(par {1} {0})": 8}
        return self._one_of(shapes).format(inner, following)

    def _last(self, *, over_stream: bool) -> str:
        if self._random.random() >= (0.6 if over_stream else 0.3):
            return ""
        return f" {self._call()}" if self._random.random() < 0.3 else self._random.choice((" (null)", " (never)"))

    def _recursion(self, size: int) -> str:
        """A fold that feeds its own stream until a service runs dry."""
        stream, iterator = self._fresh("$s"), self._fresh("i")
        begin = f'(call {self._peer()} ("srv" "dry") [] {stream})'
        more = f'(xor (match {iterator} "stop" (null)) (call {self._peer()} ("srv" "dry") [{iterator}] {stream}))'
        self._known.streams[stream] = self._made
        shape, last = self._random.choice(("seq", "par")), self._random.choice(("", " (null)"))
        return f"(seq {begin} (fold {stream} {iterator} ({shape} {more} (next {iterator})){last}))"

    # --- operands

    def _peer(self, *, plain: bool = False) -> str:
        dice = self._random.random()
        if dice < 0.2:
            return "%init_peer_id%"
        if dice < 0.45 and not plain and (reading := self._reading("peer")):
            return reading
        if dice < 0.47 and not plain and (reading := self._reading("any", "text")):
            return reading
        return f'"@{self._random.choice(self._peers)}"'

    def _reading(self, *kinds: str) -> str | None:
        """A scalar of one of these kinds."""
        found = [name.text for name in self._known.scalars if name.kind in kinds]
        return self._random.choice(found) if found else None

    def _value(self, *, maps: bool = True) -> str:
        dice = self._random.random()
        if dice < 0.15:
            return self._random.choice(LITERALS)
        if dice < 0.2:
            return self._random.choice(ENVIRONMENT)
        if dice < 0.25:
            return self._random.choice(ERRORS)
        if dice < 0.4 and self._known.canons:
            canon = self._random.choice(self._known.canons).text
            return canon + self._random.choice(("", "", ".length", ".$.[0]", ".$.[1]"))
        if dice < 0.45 and self._known.maps:
            canon = self._random.choice(self._known.maps).text
            return canon + self._random.choice(("" if maps else ".length", ".length", ".$.k", ".$.[7]", ".$.k.[0]"))
        if not self._known.scalars:
            return self._random.choice(LITERALS)
        return self._part_of(self._random.choice(self._known.scalars))

    def _part_of(self, name: _Name) -> str:
        paths = PATHS.get(name.kind, ())
        if not paths or self._random.random() < 0.5:
            return name.text if self._random.random() < 0.98 else name.text + ".$.oops"
        index = self._reading("number", "text")
        if index and self._random.random() < 0.15:
            return f"{name.text}.$.[{index}]"
        return name.text + self._random.choice(paths)

    def _values(self, most: int) -> str:
        return " ".join(self._value() for _ in range(self._random.randint(0, most)))

    # --- names

    def _fresh(self, prefix: str) -> str:
        self._made += 1
        return f"{prefix}{self._made}"

    def _define(self, names: list[_Name], prefix: str, kind: str) -> str:
        name = self._fresh(prefix)
        names.append(_Name(name, kind))
        return name

    def _scalar(self, kind: str) -> str:
        """A new scalar; rarely one that is set already."""
        old = [name.text for name in self._known.scalars if not name.text.startswith("i")]
        if old and self._random.random() < 0.015:
            return self._random.choice(old)
        return self._define(self._known.scalars, "v", kind)

    def _stream(self) -> str:
        return self._written(self._known.streams, "$s")

    def _stream_map(self) -> str:
        return self._written(self._known.stream_maps, "%m")

    def _written(self, ranks: dict[str, int], prefix: str) -> str:
        old = [name for name, rank in ranks.items() if rank >= self._known.rank_min]
        if old and self._random.random() < 0.75:
            return self._random.choice(old)
        name = self._fresh(prefix)
        ranks[name] = self._made
        return name

    # --- helpers

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """What is defined inside is mostly not read outside; the streams that it writes to are."""
        outer = self._known.copy()
        yield
        if self._random.random() < 0.9:
            outer.streams |= self._known.streams
            outer.stream_maps |= self._known.stream_maps
            self._known = outer
        else:
            self._known.folds, self._known.rank_min = outer.folds, outer.rank_min
            self._known.scalars = [name for name in self._known.scalars if not name.text.startswith("i")]
            self._known.scalars += [name for name in outer.scalars if name.text.startswith("i")]

    def _one_of(self, weights: dict[Chosen, int]) -> Chosen:
        return self._random.choices(tuple(weights), tuple(weights.values()))[0]
