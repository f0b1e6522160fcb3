"""Where values come from is proven: whatever way a value takes into a canon, a canon's peer that lies moves nothing and gets nobody's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pytest
from fluvial.air.data.batch import Batch, Known
from fluvial.air.data.content import ContentId, content_id
from fluvial.air.data.facts import Argument, CanonFact, Element, Fact, Item, Result, Sent, Step
from fluvial.air.data.partial import Content
from fluvial.air.data.wire import decode_data, encode_data
from fluvial.air.machine import runtime
from fluvial.air.machine.exchange import Exchange
from fluvial.air.machine.findings import Request
from fluvial.air.machine.machine import Effects
from fluvial.air.machine.outcomes import Answered, CallOutcome, Failed
from fluvial.air.syntax.tree import walk
from fluvial.errors import RemoteProtocolError
from msgspec.structs import astuple
from msgspec.structs import replace as change

from tests.core.air.machine.flows import NOTHING, TIMESTAMP_MS, TTL_MS, Flow

LIE: Final = {"key": "k", "value": "I owe you a million"}
"""Looks like the pair of a map as well."""

FAKE: Final = b"x" * 16
LONG: Final = [{"name": "n" * 300, "size": 1}, "y" * 300]

Origin = tuple[str, str, str, str]


@dataclass(frozen=True)
class Way:
    """A way that a value takes from where it is made to an argument at ``a``.

    Attributes:
        script: what writes it to the stream or map that ``c`` fixes.
        value, origins: what ``a`` is given in the honest flow.
        fixes: the canon.
        argument: the argument.
        around: the call that has it stands in place of ``SHOW``.
        vouched: whether ``c`` may say something else, under its own name.
    """

    script: str
    value: Any
    origins: Sequence[Origin]
    fixes: str = '(canon "@c" $s #s)'
    argument: str = "#s.$.[0]"
    around: str = "SHOW"
    vouched: bool = False

    def flow(self) -> Watched:
        shows = self.around.replace("SHOW", f'(call "@a" ("t" "show") [{self.argument}])')
        return Watched(f"(seq {self.script} (seq {self.fixes} {shows}))", SERVICES)


SERVICES: Final[dict[str, Any]] = {
    "s.f": {"k": ["v", "w"], "n": 1},
    "s.list": ["v", "w"],
    "s.long": LONG,
    "s.one": 1,
    "s.bad": Failed(7, '"no"'),
}
F: Final = '(call "@b" ("s" "f") [] x)'
LIST: Final = '(call "@b" ("s" "list") [] xs)'
TO_T: Final = '(call "@b" ("s" "list") [] $t)'
T: Final = f'(seq {TO_T} (canon "@b" $t #t))'
MAP: Final = f'(seq {F} (seq (ap ("k" x.$.n) %s) (ap ("l" x) %s)))'
X: Final = SERVICES["s.f"]


def by_b(lens: str = "", function: str = "f") -> list[Origin]:
    return [("b", "s", function, lens)]


def plain(peer: str, lens: str = "") -> list[Origin]:
    return [(peer, "", "", lens)]


BAD: Final = "Local service error, ret_code is 7, error message is '\"no\"'"

WAYS: Final[dict[str, Way]] = {
    "call": Way('(call "@b" ("s" "f") [] $s)', X, by_b()),
    "whole canon": Way('(call "@b" ("s" "f") [] $s)', [X], by_b(), argument="#s"),
    "part of a canon": Way('(call "@b" ("s" "f") [] $s)', "v", by_b(), argument="#s.$.[0].k.[0]"),
    "ap": Way(f"(seq {F} (ap x $s))", X, by_b()),
    "ap of a part": Way(f"(seq {F} (ap x.$.k.[1] $s))", "w", by_b(".$.k.[1]")),
    "ap of a part by name": Way(f"(seq {F} (seq (ap x.$.n i) (ap x.$.k.[i] $s)))", "w", by_b(".$.k.[i]")),
    "ap of an ap": Way(f"(seq {F} (seq (ap x.$.k l) (ap l.$.[0] $s)))", "v", by_b(".$.k.$.[0]")),
    "literal": Way('(ap "text" $s)', "text", plain("a")),
    "empty array": Way("(ap [] $s)", [], plain("a")),
    "initiator": Way("(ap %init_peer_id% $s)", "@a", plain("a")),
    "timestamp": Way("(ap %timestamp% $s)", TIMESTAMP_MS, plain("a")),
    "ttl": Way("(ap %ttl% $s)", TTL_MS, plain("a")),
    "length": Way(f"(seq {LIST} (ap xs.length $s))", 2, plain("", ".length")),
    "length of a canon": Way(f"(seq {T} (ap #t.length $s))", 1, plain("c")),
    "iterator": Way(
        f"(seq {LIST} (fold xs i (seq (ap i $s) (next i))))", "w", by_b(".$.[1]", "list"), argument="#s.$.[1]"
    ),
    "iterator over a stream": Way(
        f"(seq {TO_T} (fold $t i (par (ap i $s) (next i))))", ["v", "w"], by_b(function="list")
    ),
    "iterator over a canon": Way(f"(seq {T} (fold #t i (seq (ap i.$.[0] $s) (next i))))", "v", by_b(".$.[0]", "list")),
    "call in a fold": Way(
        f'(seq {LIST} (fold xs i (seq (call "@b" ("s" "one") [i] $s) (next i))))', 1, by_b(function="one")
    ),
    "fold over the canon": Way(
        f"(seq {F} (ap x.$.n $s))",
        1,
        by_b(".$.n"),
        argument="i",
        around="(fold #s i SHOW)",
    ),
    "canon of a canon": Way(f"(seq {T} (ap #t.$.[0] $s))", ["v", "w"], by_b(function="list")),
    "canon bound": Way(f"(seq {T} (ap #t $s))", [["v", "w"]], plain("b")),
    "map": Way(MAP, [1], plain("c", ".$.k"), fixes='(canon "@c" %s #%s)', argument="#%s.$.k"),
    "value of a key": Way(MAP, 1, by_b(".$.n"), fixes='(canon "@c" %s #%s)', argument="#%s.$.k.[0]"),
    "whole map": Way(MAP, {"k": [1], "l": [X]}, by_b(".$.n") + by_b(), fixes='(canon "@c" %s #%s)', argument="#%s"),
    "map as an object": Way(MAP, {"k": 1, "l": X}, plain("c"), fixes='(canon "@c" %s o)', argument="o"),
    "field of the object": Way(MAP, X, plain("c", ".$.l"), fixes='(canon "@c" %s o)', argument="o.$.l"),
    "length of the canon": Way(f"(seq {F} (ap x $s))", 1, [("a", ".length", "", "")], argument="#s.length"),
    "error": Way('(xor (call "@b" ("s" "bad") [] y) (ap :error:.$.message $s))', BAD, plain("b"), vouched=True),
    "last error": Way(
        '(xor (call "@b" ("s" "bad") [] y) (ap %last_error%.$.error_code $s))', 10000, plain("b"), vouched=True
    ),
    "error in a map": Way(
        '(xor (call "@b" ("s" "bad") [] y) (ap ("k" :error:.$.error_code) %s))',
        10000,
        plain("b"),
        fixes='(canon "@c" %s #%s)',
        argument="#%s.$.k.[0]",
        vouched=True,
    ),
    "part of a long value": Way(
        '(seq (call "@b" ("s" "long") [] x) (ap x.$.[0].size $s))', 1, by_b(".$.[0].size", "long")
    ),
    "long part of a long value": Way(
        '(seq (call "@b" ("s" "long") [] x) (ap x.$.[1] $s))', LONG[1], by_b(".$.[1]", "long")
    ),
    "iterator over a long value": Way(
        '(seq (call "@b" ("s" "long") [] x) (fold x i (seq (ap i $s) (next i))))',
        "n" * 300,
        by_b(".$.[0]", "long"),
        argument="#s.$.[0].name",
    ),
    "long value in a map": Way(
        '(seq (call "@b" ("s" "long") [] x) (ap ("k" x) %s))',
        LONG,
        by_b("", "long"),
        fixes='(canon "@c" %s #%s)',
        argument="#%s.$.k.[0]",
    ),
    "after closed calls": Way(
        f'(seq (seq (call "@b" ("s" "one") []) (call "@b" ("s" "one") [])) (seq {F} (ap x.$.n $s)))', 1, by_b(".$.n")
    ),
    "in new": Way(
        "(null)",
        1,
        by_b(".$.n"),
        fixes=f'(new $s (seq (seq {F} (ap x.$.n $s)) (seq (canon "@c" $s #s) (ap #s.$.[0] y))))',
        argument="y",
    ),
}


class Watched(Flow):
    """A flow in which values are left out as in reality, whose last hop is not made, and that keeps where arguments came from."""

    def __init__(self, script: str, services: dict[str, Any]) -> None:
        super().__init__(script, services)
        self.shown: list[tuple[Any, list[Origin]]] = []
        self._to = ""

    def arrive(self, name: str, data: bytes) -> Effects:
        effects = self.merge(name, data)
        while effects.requests:
            effects = self.resolve(name, {request.instance: self.answer(name, request) for request in effects.requests})
        for peer in effects.next_peers:
            self._to = peer
            self.queue.append((self.names.name(peer) or peer, self.depart(name)))
        return effects

    def depart(self, name: str) -> bytes:
        machine = self.machine(name)
        if record := machine.seal(self.names.keys[name].sign):
            self.records[name].append(record)
        owed = Exchange().owed(self._to, machine.batches(), machine.contents(), machine.needs(self._to))
        return encode_data(owed.batches, owed.contents)

    def answer(self, name: str, request: Request) -> CallOutcome:
        if request.function == "show":
            self.shown.append(self.seen(request))
            return Answered(None)
        return super().answer(name, request)

    def seen(self, request: Request) -> tuple[Any, list[Origin]]:
        (value,), (origins,) = self.names.to_names(list(request.arguments)), request.tetraplets
        return value, [(self.names.name(one.peer) or one.peer, *astuple(one)[1:]) for one in origins]

    def until_fixed(self) -> tuple[Known, Batch]:
        """Up to the delivery that brings the canon of ``c`` to ``a``: what it has, and the batch with the canon."""
        self.arrive("a", b"")
        while self.queue:
            name, data = self.queue.pop(0)
            known = decode_data(self.particle.key, data)
            c = self.names.keys["c"].peer_id
            for batch in known.batches:
                if batch.signer == c and any(type(item) is CanonFact for item in batch.signed.items):
                    assert name == "a"
                    return known, batch
            self.arrive(name, data)
        raise AssertionError("c has fixed nothing")


@pytest.mark.parametrize("name", WAYS)
def test_origins_are_those_of_the_honest_flow(name: str) -> None:
    way = WAYS[name]
    flow = way.flow().run()
    assert flow.shown == [(way.value, list(way.origins))]


def forged(batch: Batch, instructions: int) -> Iterator[tuple[tuple[Fact, ...], CanonFact]]:
    """What a lying peer may say in place of its canon: other facts before it, and the canon."""
    (canon,) = (item for item in batch.signed.items if type(item) is CanonFact)
    lie = content_id(LIE)
    for place, element in enumerate(canon.elements):
        before, after = canon.elements[:place], canon.elements[place + 1 :]

        def told(*others: Element, around: Any = (before, after)) -> CanonFact:
            return change(canon, elements=(*around[0], *others, *around[1]))

        own = Result(element.frame, element.node, "s", "f", (), lie)
        yield (), told(change(element, value=lie))
        yield (own,), told(change(element, value=lie))
        yield (change(own, arguments=(Argument(lie),)),), told(change(element, value=lie))
        for frame in {b"", FAKE} - {element.frame}:
            made_up = Result(frame, element.node, "s", "f", (), lie)
            yield (made_up,), told(Element(lie, frame, element.node))
            yield (made_up,), told(element, Element(lie, frame, element.node))
        for node in set(range(instructions + 1)) - {element.node}:
            yield (), told(Element(lie, element.frame, node))
            yield (), told(Element(element.value, element.frame, node))
            yield (), told(element, Element(element.value, FAKE, node))


REFUSED: Final = "does not follow from signed facts|written two elements"


@pytest.mark.parametrize("name", WAYS)
def test_liar_gets_nobody_elses_name(name: str) -> None:
    way, refused = WAYS[name], 0
    flow = way.flow()
    known, batch = flow.until_fixed()
    before, records = flow.machine("a").waits(), list(flow.records["a"])
    for facts, canon in forged(batch, sum(1 for _ in walk(flow.script.root))):
        flow.records["a"] = list(records)
        flow.shown.clear()
        flow.restart("a").merge(NOTHING)
        effects, problem = lie(flow, known, batch, facts, canon)
        if effects is None:
            refused += 1
            assert re.search(REFUSED, problem), problem
            assert flow.machine("a").waits() == before
            flow.arrive("a", encode_data(known.batches, known.contents))
            assert flow.shown == [(way.value, list(way.origins))], "the truth counts afterwards"
            continue
        assert effects.error is None
        seen = [flow.seen(request) for request in effects.requests]
        if way.vouched and seen:
            assert LIE["value"] in str(seen), "it is believed, in the name of the peer that says so"
            assert seen[0][1] == plain("c")
        else:
            assert seen == []
            assert [wait.reason for wait in flow.machine("a").waits() if "does not follow" in wait.reason]
            waits = flow.machine("a").waits()
            assert flow.restart("a").waits() == waits
    assert refused >= 12


def lie(
    flow: Watched, known: Known, true: Batch, facts: Sequence[Fact], canon: CanonFact
) -> tuple[Effects | None, str]:
    """What ``c`` sends instead arrives at ``a``: the effects, or why it is refused."""
    keys = flow.names.keys["c"]
    items: list[Item] = [item for item in true.signed.items if type(item) is not CanonFact]
    batch = Batch.seal(flow.particle.key, keys.peer_id, [*items, *facts, canon], keys.sign)
    contents: dict[ContentId, Content] = {content_id(LIE): LIE}
    for machine in flow.machines.values():  # whole, so that nothing is missing
        contents |= machine.contents()
    data = encode_data([*(one for one in known.batches if one.id != true.id), batch], contents)
    try:
        return flow.merge("a", data), ""
    except RemoteProtocolError as error:
        return None, str(error)


JOIN: Final = """
    (seq (par (call "@b" ("s" "z") [] z) (call "@d" ("s" "y") [] y))
      (par (par (ap z.$.[y] $s) (ap z $s))
        (fold $s i (seq WRITES (seq (canon "@c" $t #t) (par (call "@a" ("t" "show") [#t]) (next i)))))))
"""
"""On ``c`` the second ``ap`` comes first, on ``a`` both are of one generation, so that the second one's turn depends on the first one's canon."""


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        ("(ap i $t)", [["v", "w"], "w"]),
        ('(seq (ap i $t) (ap "k" $t))', [["v", "w"], "k", "w", "k"]),
        ('(call "@c" ("s" "id") [i] $t)', [["v", "w"], "w"]),
        ('(seq (call "@c" ("s" "id") [i] r) (ap r $t))', [["v", "w"], "w"]),
        ('(seq (call "@c" ("s" "id") [i] r) (seq (ap r q) (call "@c" ("s" "id") [q] $t)))', [["v", "w"], "w"]),
        ('(call i ("s" "id") [] $t)', None),
    ],
)
def test_canon_of_elements_that_have_no_turn_here(writes: str, expected: Any) -> None:
    services = {"s.z": ["v", "w"], "s.y": 1, "s.id": lambda value: value}
    flow = Flow(JOIN.replace("WRITES", writes), services, peers=("a", "b", "c", "d"))
    flow.arrive("a", b"")
    begun = flow.queue[0][1]
    flow.arrive("b", begun)
    flow.arrive("d", begun)
    from_b, from_d = flow.depart("b"), flow.depart("d")
    flow.arrive("c", from_b)
    flow.arrive("c", from_d)
    from_c = flow.depart("c")
    for data in (from_d, from_b, from_c):
        flow.arrive("a", data)
    shown = [arguments for (arguments,) in flow.arguments_of("t.show")]
    if expected is None:
        assert shown == []
    else:
        assert expected in shown


def test_canon_waits_for_what_its_elements_follow_from() -> None:
    """Facts that overtake others: what is missing was written by an instruction that this peer comes to later."""
    flow = WAYS["call in a fold"].flow()
    known, batch = flow.until_fixed()
    (first, *rest) = known.batches
    assert flow.merge("a", encode_data([first], known.contents)).requests == ()
    with pytest.raises(RemoteProtocolError, match="is not here"):
        flow.merge("a", encode_data([batch], known.contents))
    (request,) = flow.merge("a", encode_data(known.batches, known.contents)).requests
    assert flow.seen(request) == (1, by_b(function="one"))
    assert rest


def test_looking_for_what_had_no_turn_counts_as_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Facts about a canon that cannot follow make a peer look again each time: what that costs ends as every limit does."""
    monkeypatch.setattr(runtime, "WORK_MAX", 2_000)
    fold = "(fold $s i (seq (ap i $t) (par (null) (next i))))"
    script = f'(seq (fold xs x (par (ap x $s) (next x))) (par {fold} (canon "@c" $t #t)))'
    flow = Flow(f'(seq (call "@a" ("s" "list") [] xs) {script})', {"s.list": list(range(100))})
    flow.arrive("a", b"")
    nodes = [(node.number, type(node).__name__) for node in walk(flow.script.root)]
    canon = next(number for number, kind in nodes if kind == "Canon")
    ap = [number for number, kind in nodes if kind == "Ap"][-1]
    keys, before = flow.names.keys["c"], flow.machine("a").batches()

    def told(*items: Item) -> Effects:
        batch = Batch.seal(flow.particle.key, keys.peer_id, items, keys.sign)
        return flow.merge("a", encode_data([batch], {content_id(LIE): LIE}))

    lie = CanonFact(b"", canon, (Element(content_id(LIE), FAKE, ap),))
    effects = told(Step(), lie, *(item for _ in range(50) for item in (Step(), Sent(b"", canon, True))))
    assert effects.error is not None
    assert effects.error.code == 20100
    assert flow.machine("a").batches() == before
    assert told(Step(), lie).error is None
    assert [wait.reason for wait in flow.machine("a").waits() if "does not follow" in wait.reason]
