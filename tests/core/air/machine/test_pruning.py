"""What nobody can read any more is left out of deliveries, and that changes nothing of what a flow does."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from fluvial.air.data.batch import Known, MissingError
from fluvial.air.data.content import Json, content_id
from fluvial.air.data.pace import Found
from fluvial.air.data.partial import ABSENT, Level, Mask, Partial, cut
from fluvial.air.data.wire import decode_data
from fluvial.air.machine import liveness
from fluvial.air.machine.exchange import Needs
from fluvial.air.machine.machine import Machine
from fluvial.air.machine.outcomes import Answered
from fluvial.encoding import encode
from fluvial.simulation.network import simulate
from fluvial.simulation.scenario import Scenario

from tests.conformance.comparison import scenario_files
from tests.core.air.machine.flows import Flow
from tests.fuzz.generator import scenario as random_scenario
from tests.fuzz.pruned import pruned, said, watched

CONFORMANCE: Final = Path(__file__).parents[3] / "conformance"
WRITTEN: Final = [json.loads(path.read_bytes()) for path in scenario_files(CONFORMANCE / "air")]
GENERATED: Final = [
    json.loads(line)["scenario"]
    for line in (CONFORMANCE / "generated" / "size-16.jsonl").read_text(encoding="utf-8").splitlines()
]
RANDOM_SEED: Final = 4
RANDOM: Final = 100
ORDERS: Final = ("fifo", {"seed": 3}, {"seed": 11})


def scenarios() -> Iterator[dict[str, Any]]:
    yield from WRITTEN
    yield from GENERATED[:100]
    for number in range(RANDOM):
        yield msgspec.to_builtins(random_scenario(RANDOM_SEED, number))


def portions(of: list[dict[str, Any]], parts: int) -> list[list[dict[str, Any]]]:
    return [of[part::parts] for part in range(parts)]


@pytest.mark.parametrize("some", portions(list(scenarios()), 9))
def test_flows_are_the_same_without_pruning(some: list[dict[str, Any]]) -> None:
    for spelled in some:
        for order in ORDERS:
            one = msgspec.convert({**spelled, "order": order}, Scenario)
            assert pruned(one).difference == "", one.name


# --- large values


def passed(value: Json, reads: dict[int, str], *, peers: int = 10) -> Scenario:
    """A flow through so many peers, of which the first makes a value and those of the given numbers read something of it."""
    calls = [f'(call "@p{number}" ("s" "work") [{reads.get(number, number)}] r{number})' for number in range(1, peers)]
    script = '(call "@p0" ("s" "make") [] big)'
    for call in calls:
        script = f"(seq {script} {call})"
    names = [f"@p{number}" for number in range(peers)]
    rows = [{"function": "make", "returns": value}, {"function": "work", "echo": 0}]
    return msgspec.convert(
        {"name": "passed", "script": script, "init_peer": "@p0", "peers": names, "services": rows}, Scenario
    )


MEGABYTE: Final = 1_000_000
LARGE: Final[dict[str, tuple[Json, str]]] = {
    "a field beside a long text": ({"name": "n", "blob": "x" * MEGABYTE}, "big.$.name"),
    "a field beside many numbers": ({"name": "n", "items": list(range(100_000, 120_000))}, "big.$.name"),
    "a field of one of many records": ([{"name": f"n{i}", "text": "x" * 80} for i in range(10_000)], "big.$.[77].name"),
    "an element of a long array": ([f"{i:04}" * 20 for i in range(12_000)], "big.$.[11999]"),
    "how long an array is": (["x" * 990] * 1_000, "big.length"),
}


@pytest.mark.parametrize("case", LARGE)
def test_a_large_value_of_which_two_peers_read_a_part_does_not_travel(case: str) -> None:
    value, read = LARGE[case]
    one = passed(value, {3: read, 8: read})
    some, whole = simulate(one, repeat=1), simulate(one, repeat=1, pruning=False)
    assert some.timing is not None
    assert whole.timing is not None
    assert said(some) == said(whole)
    assert whole.timing.bytes_sent > 8 * len(encode(value))
    assert some.timing.bytes_sent < 25_000


def test_what_is_read_travels_as_far_as_it_is_read() -> None:
    value = {"name": "x" * 10_000, "other": "y" * 10_000}
    one = passed(value, {3: "big.$.name"})
    machine = watched()
    observation = simulate(one, machine=machine, repeat=1)
    assert observation.timing is not None
    assert 30_000 < observation.timing.bytes_sent < 65_000, (
        "the field goes to p1, p2 and p3; what p3 made of it goes nowhere"
    )
    held = [one.contents().get(content_id(value), ABSENT) for one in machine.made]
    assert held[0] == value
    assert [isinstance(known, Partial) for known in held[1:]] == [True] * 9


def test_an_answer_that_is_bound_to_no_name_goes_nowhere() -> None:
    script = '(seq (call "@a" ("s" "make") []) (seq (call "@b" ("s" "work") [1]) (call "@c" ("s" "work") [2])))'
    rows = [{"function": "make", "returns": "x" * 10_000}, {"function": "work", "echo": 0}]
    one = msgspec.convert(
        {"name": "unbound", "script": script, "init_peer": "@a", "peers": ["@a", "@b", "@c"], "services": rows},
        Scenario,
    )
    observation = simulate(one, repeat=1)
    assert observation.timing is not None
    assert observation.timing.bytes_sent < 1_000


def test_a_value_that_decided_something_is_there_for_all_who_come_later() -> None:
    """Everybody repeats the test; so what was tested goes with the particle, and what was not does not."""
    script = """
        (seq (call "@a" ("s" "make") [] x)
          (seq (xor (match x.$.kind "good" (call "@b" ("s" "work") [1] y)) (null)) (call "@c" ("s" "work") [2] z)))
    """
    value = {"kind": "good", "blob": "x" * 10_000}
    rows = [{"function": "make", "returns": value}, {"function": "work", "echo": 0}]
    one = msgspec.convert(
        {"name": "tested", "script": script, "init_peer": "@a", "peers": ["@a", "@b", "@c"], "services": rows}, Scenario
    )
    machine = watched()
    observation = simulate(one, machine=machine, repeat=1)
    assert [call.peer for call in observation.calls] == ["@a", "@b", "@c"]
    (_, *others) = machine.made
    for other in others:
        known = other.contents()[content_id(value)]
        assert isinstance(known, Partial)
        assert known.part("kind") == "good"
    assert observation.timing is not None
    assert observation.timing.bytes_sent < 3_000


def test_what_thousands_of_calls_need_is_found_in_slices() -> None:
    """Composed of parts of a large value, and read a thousand times: what is needed of it is found once, and a slice has little to do."""
    script = """
        (seq (call "@a" ("s" "list") [] xs)
             (seq (call "@a" ("s" "make") [] big)
                  (seq (fold xs i (seq (ap big.$.blob $s) (next i)))
                       (seq (canon "@a" $s #c)
                            (seq (ap #c all)
                                 (fold xs i (par (call "@b" ("s" "work") [all all.$.[0] all.$.[1] all.$.[2] all.$.[3] all.$.[4] all.$.[5] all.$.[6]] x) (next i))))))))
    """
    flow = Flow(script, {"s.list": list(range(300)), "s.make": {"blob": "x" * 1_000, "rest": "y" * 1_000}})
    flow.arrive("a", b"")
    needs, slices = found(flow.machines["a"].finding_needs("somebody"))
    assert needs.masks
    assert slices > 1


def found(work: Found[Needs]) -> tuple[Needs, int]:
    """What is needed, and in how many slices that was found."""
    slices = 1
    while True:
        try:
            next(work)
            slices += 1
        except StopIteration as end:
            return end.value, slices


def test_where_there_is_too_much_to_look_at_everything_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of many folds over a stream reads many names, and other ones than the others."""
    monkeypatch.setattr(liveness, "LOOKED_AT_MAX", 10 * liveness.NEEDS)
    body = "(null)"
    for place in range(200):
        body = f'(seq (call "@b" ("s" "work") [big.$.[{place}]]) {body})'
    script = f"""
        (seq (call "@a" ("s" "list") [] xs)
             (seq (call "@a" ("s" "make") [] big)
                  (new $s (fold xs i (par (fold $s j {body}) (next i))))))
    """
    for count, everything in ((2, False), (2_000, True)):
        flow = Flow(script, {"s.list": list(range(count)), "s.make": ["x" * 300] * 200})
        flow.arrive("a", b"")
        needs, slices = found(flow.machines["a"].finding_needs("somebody"))
        assert ({mask.level for mask in needs.masks.values()} == {Level.WHOLE}) is everything
        assert slices <= 12


def test_the_elements_of_a_long_array_are_looked_at_one_by_one() -> None:
    script = """
        (seq (call "@a" ("s" "list") [] xs)
             (fold xs i (seq (call "@b" ("s" "work") [i]) (next i))))
    """
    flow = Flow(script, {"s.list": [0] * 20_000})
    flow.arrive("a", b"")
    work = flow.machines["a"].finding_needs("somebody")
    tracemalloc.start()
    try:
        next(work)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


# --- who leaves out too much


class Careless(Machine):
    """Does not look whether it has what it needs, nor whether others have."""

    def finding_needs(self, peer: str) -> Found[Needs]:
        needs = yield from super().finding_needs(peer)
        return Needs(needs.large, {})


def test_outcomes_wait_for_a_value_that_is_missing_after_all() -> None:
    """It takes a machine that is not careful to come so far: what its service answered is kept, and used when the value comes."""
    script = """
        (seq (call "@a" ("s" "make") [] big) (seq (call "@b" ("s" "work") [1] x) (call "@b" ("s" "work") [big.$.blob] y)))
    """
    value = {"name": "n", "blob": "x" * 10_000}
    flow = Flow(script, {"s.make": value, "s.work": 2})
    flow.arrive("a", b"")
    known = decode_data(flow.particle.key, flow.wire[-1])
    late = Careless(flow.script, flow.particle.key, flow.names.keys["b"].peer_id, **flow.environment)
    (request,) = late.merge(Known(known.batches, {})).requests
    effects = late.resolve({request.instance: Answered(2)})
    assert effects.error is not None
    assert effects.error.code == 20101
    assert [type(record).__name__ for record in effects.records] == ["Stepped"]
    healed = late.merge(Known((), known.contents))
    assert [request.arguments for request in healed.requests] == [("x" * 10_000,)]


class Greedy(Machine):
    """Leaves out what others still need."""

    def finding_needs(self, peer: str) -> Found[Needs]:
        needs = yield from super().finding_needs(peer)
        return needs if peer == self._me else Needs(needs.large, {})


@pytest.mark.parametrize("case", LARGE)
def test_what_is_missing_is_asked_for_by_id(case: str) -> None:
    value, read = LARGE[case]
    one = passed(value, {3: read}, peers=5)
    keeps = watched()
    machine = type("GreedyAndWatched", (keeps, Greedy), {})
    assert said(simulate(one, machine=machine)) == said(simulate(one))
    assert set(keeps.lacked) == {content_id(value)}


def test_who_leaves_out_what_can_still_be_read_is_refused_until_it_comes() -> None:
    value = {"name": "n" * 300, "blob": "x" * 10_000}
    key = content_id(value)
    machine = watched()
    simulate(passed(value, {2: "big.$.name"}, peers=3), machine=machine, pruning=False)
    first, _, third = machine.made
    arguments, environment = third.made_of
    late = Machine(*arguments, **environment)
    batches = tuple(third.batches())[:2]
    with pytest.raises(MissingError) as refused:
        late.merge(Known(batches, {}))
    assert key in refused.value.contents
    assert late.batches() == ()
    small = {other: known for other, known in first.contents().items() if other != key}
    small |= {other: known for other, known in third.contents().items() if other != key}
    name, blob = Mask(), Mask()
    name.add(("name",), Level.WHOLE)
    blob.add(("blob",), Level.WHOLE)
    with pytest.raises(MissingError):
        late.merge(Known(batches, {**small, key: cut(value, blob)}))
    effects = late.merge(Known(batches, {**small, key: cut(value, name)}))
    assert [(request.function, request.arguments) for request in effects.requests] == [("work", ("n" * 300,))]
    healed = late.merge(Known((), {key: cut(value, blob)}))
    assert len(healed.records) == 1
    assert late.contents()[key] == value
    assert late.merge(Known((), {key: value})).records == ()
    again = Machine.restore(*arguments, [*effects.records, *healed.records], **environment)
    assert again.contents()[key] == value
    assert again.merge(Known((), {})).requests == effects.requests
