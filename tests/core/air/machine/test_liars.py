"""Peers that lie: what they sign is kept, but it moves nothing that is not theirs, and it never raises."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from fluvial.air.data.batch import Batch
from fluvial.air.data.content import content_id
from fluvial.air.data.facts import (
    Argument,
    CallFailure,
    CanonFact,
    Closed,
    Element,
    Fact,
    Instance,
    Item,
    Result,
    Sent,
    Step,
    Taken,
    index_element,
    iteration_frame,
)
from fluvial.air.data.wire import decode_data, encode_data
from fluvial.air.machine import runtime
from fluvial.air.machine.machine import Effects
from fluvial.air.machine.outcomes import Answered
from fluvial.air.syntax.tree import walk
from fluvial.errors import RemoteProtocolError

from tests.core.air.machine.flows import Flow

VALUES: tuple[Any, ...] = (
    None,
    0,
    1.5,
    "text",
    [],
    [1, [2]],
    {},
    {"key": 1},
    {"key": "k", "value": 1},
    {"key": [], "value": 1},
    {"key": True, "value": 1},
)


def lie(flow: Flow, liar: str, *facts: Fact, to: str = "a", seen: Sequence[bytes] = ()) -> Effects:
    """A particle with facts that a peer has made up arrives."""
    keys = flow.names.keys[liar]
    items: list[Item] = [Step(tuple(seen)), *facts]
    batch = Batch.seal(flow.particle.key, keys.peer_id, items, keys.sign)
    data = encode_data([batch], {content_id(value): value for value in VALUES})
    known = decode_data(flow.particle.key, data)
    return flow.machine(to).merge(known)


def result(
    node: int, service: str = "s", function: str = "f", *arguments: Any, value: Any = "text", frame: bytes = b""
) -> Result:
    names = tuple(Argument(content_id(argument)) for argument in arguments)
    return Result(frame, node, service, function, names, content_id(value))


def canon(node: int, *values: Any) -> CanonFact:
    return CanonFact(
        b"", node, tuple(Element(content_id(value), b"", number) for number, value in enumerate(values, node + 1))
    )


CALL = '(seq (call "@b" ("s" "f") ["arg"] x) (call "@a" ("t" "show") [x]))'


def test_true_result_moves_the_flow() -> None:
    flow = Flow(CALL)
    flow.merge("a", b"")
    (request,) = lie(flow, "b", result(1, "s", "f", "arg", value="text")).requests
    assert request.arguments == ("text",)


@pytest.mark.parametrize(
    ("liar", "fact"),
    [
        ("c", result(1, "s", "f", "arg")),
        ("b", result(1, "other", "f", "arg")),
        ("b", result(1, "s", "other", "arg")),
        ("b", result(1, "s", "f", "other")),
        ("b", result(1, "s", "f")),
        ("b", result(1, "s", "f", "arg", "more")),
        ("b", Result(b"", 1, "s", "f", (Argument(content_id("arg"), ("part",)),), content_id("text"))),
        ("b", CallFailure(b"", 1, "s", "f", (), 1, '"no"')),
        ("b", result(0, "s", "f", "arg")),
        ("b", result(2, "s", "f", "arg")),
        ("b", result(4_000_000_000, "s", "f", "arg")),
        ("b", result(1, "s", "f", "arg", frame=b"x" * 16)),
        ("b", canon(1, "text")),
        ("b", canon(0)),
        ("b", Sent(b"", 2, True)),
        ("b", Taken(b"", 2)),
        ("b", result(2, "t", "show", "text")),
    ],
    ids=str,
)
def test_fact_that_fits_nothing_is_inert(liar: str, fact: Fact) -> None:
    flow = Flow(CALL)
    flow.merge("a", b"")
    before = flow.machine("a").waits()
    effects = lie(flow, liar, fact)
    assert (effects.requests, effects.next_peers, effects.error) == ((), (), None)
    assert flow.machine("a").waits() == before


def test_of_two_results_of_one_peer_the_first_one_counts() -> None:
    flow = Flow(CALL)
    flow.merge("a", b"")
    (request,) = lie(flow, "b", result(1, "s", "f", "arg", value="text"), result(1, "s", "f", "arg", value=0)).requests
    assert request.arguments == ("text",)
    assert lie(flow, "b", result(1, "s", "f", "arg", value=1.5)).requests == ()


def test_results_that_claim_to_be_ours_are_not() -> None:
    flow = Flow('(seq (call "@a" ("s" "f") [] x) (call "@a" ("t" "show") [x]))')
    (request,) = flow.merge("a", b"").requests
    assert lie(flow, "b", result(1, "s", "f")).requests == ()
    flow.resolve("a", {request.instance: Answered("ours")})
    assert [one.arguments for one in flow.effects["a"].requests] == [("ours",)]


def test_lying_sent_holds_back_a_delivery_and_nothing_else() -> None:
    """What a peer promises to have sent is believed; it costs a delivery that a time-out makes up for."""
    flow = Flow('(par (call "@b" ("s" "f") []) (call "@a" ("s" "g") []))')
    effects = lie(flow, "c", Sent(b"", 1, True), Sent(b"", 2, True), Taken(b"", 2))
    assert effects.next_peers == ()
    assert [request.function for request in effects.requests] == ["g"]


BUSY = """
    (seq (call "@b" ("s" "list") [] xs)
      (seq
        (par (fold xs x (par (call x.$.peer ("s" x.$.f) [x xs.length] $s) (next x)))
             (xor (call "@c" ("s" "bad") [xs.$.[0]] y) (ap :error:.$.message $s)))
        (seq
          (seq (canon "@b" $s #s) (ap ("key" #s.$.[0]) %m))
          (seq (canon "@c" %m #%m)
            (seq (canon "@b" %m o)
              (fold $s i (seq (match i #%m.$.key.[0] (call "@a" ("t" "end") [i o.$.key #%m])) (next i))))))))
"""
"""A script in which a fact of nearly any kind can matter."""


def test_random_lies_are_inert_or_refused() -> None:
    rng = random.Random(7)
    services = {"s.list": [{"peer": "@c", "f": "f"}, {"peer": "@b", "f": "g"}], "s.bad": {"k": 1}}
    nodes = [node.number for node in walk(Flow(BUSY).script.root)]
    fold = next(node.number for node in walk(Flow(BUSY).script.root) if type(node).__name__ == "Fold")
    frames = [b"", b"x" * 16, *(iteration_frame(b"", fold, index_element(index)) for index in range(3))]
    for _ in range(80):
        flow = Flow(BUSY, services)
        flow.arrive("a", b"")
        for _ in range(rng.randint(1, 4)):
            facts = [
                random_fact(rng, Instance(rng.choice(frames), rng.choice(nodes))) for _ in range(rng.randint(1, 30))
            ]
            with suppress(RemoteProtocolError):
                effects = lie(flow, rng.choice("bc"), *facts, to="a")
                assert all(isinstance(request.arguments, tuple) for request in effects.requests)
        flow.settle()
        for name in flow.machines:
            flow.machine(name).waits()


def random_fact(rng: random.Random, instance: Instance) -> Fact:
    frame, node = instance
    value = rng.choice([*VALUES, [{"peer": "x", "f": "f"}]][:-1])
    arguments = tuple(
        Argument(content_id(rng.choice(VALUES)), rng.choice(((), ("a", 0)))) for _ in range(rng.randint(0, 2))
    )
    function = rng.choice(["f", "g", "list", "bad"])
    match rng.randrange(7):
        case 0 | 1:
            return Result(frame, node, "s", function, arguments, content_id(value))
        case 2:
            return CallFailure(
                frame, node, "s", function, arguments, rng.choice([-1, 1, 2**63]), rng.choice(["", '"text"', "no json"])
            )
        case 3:
            elements = [
                Element(content_id(rng.choice(VALUES)), rng.choice((b"", b"y" * 16, frame)), number)
                for number in rng.sample(range(30), rng.randrange(3))
            ]
            return CanonFact(frame, node, tuple(elements))
        case 4:
            return Sent(frame, node, rng.random() < 0.5)
        case 5:
            return Closed(frame, (node, node + 1), bytes(32))
        case _:
            return Taken(frame, node)


def test_facts_of_a_liar_survive_a_restart() -> None:
    flow = Flow(CALL)
    flow.merge("a", b"")
    flow.records["a"] += lie(
        flow, "b", canon(1, "text"), result(1, "s", "f", "other"), CallFailure(b"", 7, "s", "f", (), 5, "")
    ).records
    batches = flow.machine("a").batches()
    assert flow.restart("a").batches() == batches


def test_steps_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "WORK_MAX", 1_000)
    flow = Flow(CALL)
    flow.merge("a", b"")
    before = flow.machine("a").waits()
    items = [Step() for _ in range(1_000)]
    keys = flow.names.keys["c"]
    data = encode_data([Batch.seal(flow.particle.key, keys.peer_id, items, keys.sign)], {})
    effects = flow.merge("a", data)
    assert effects.error is not None
    assert (effects.error.code, effects.records) == (20100, ())
    assert flow.machine("a").batches() == ()
    assert flow.machine("a").waits() == before
