"""A peer says of calls of its own no more than that they are answered, where nobody else can need more; and nothing else changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
import pytest
from fluvial.air.data.batch import Batch, Known
from fluvial.air.data.content import content_id
from fluvial.air.data.evidence import reveals
from fluvial.air.data.facts import Closed, Result, Taken
from fluvial.air.data.log import Stepped
from fluvial.air.machine import runtime
from fluvial.simulation.network import Observation, simulate
from fluvial.simulation.scenario import Scenario, Seeded

from tests.core.air.machine.flows import Flow
from tests.core.air.machine.test_liars import lie, result
from tests.fuzz.generator import scenario as random_scenario
from tests.fuzz.pruned import closed_by, pruned, said, watched
from tests.fuzz.twins import WAYS, TooLongError, compare_in

ROWS: Final[list[dict[str, Any]]] = [
    {"function": "list", "returns": [1, 2, 3]},
    {"function": "bad", "error": {"code": 7, "message": '"no"'}},
    {"function": "big", "returns": {"text": "x" * 1_000, "n": 5}},
    {"function": "who", "returns": "@c"},
    {"function": "work", "returns": "done"},
    {"function": "say", "echo": 0},
    {"service": "s", "returns": None},
]
HERE, THERE = '"@a"', '"@c"'


def played(script: str, rows: Sequence[Mapping[str, Any]] = ROWS) -> Scenario:
    return msgspec.convert(
        {"name": "row", "script": script, "init_peer": "@a", "peers": ["@a", "@b", "@c"], "services": rows}, Scenario
    )


def in_row(*instructions: str) -> str:
    script = instructions[-1]
    for one in reversed(instructions[:-1]):
        script = f"(seq {one} {script})"
    return script


def call(arguments: str = "", output: str = "", *, peer: str = '"@b"', function: str = "work") -> str:
    return f'(call {peer} ("s" "{function}") [{arguments}] {output})'


def both(one: Scenario) -> tuple[Observation, Observation, list[Closed]]:
    """The flow, the flow in which all is told, and what was closed in the first; they do the same."""
    machine = watched()
    some, whole = simulate(one, machine=machine, repeat=1), simulate(one, pruning=False, repeat=1)
    assert said(some) == said(whole)
    assert machine.lacked == []
    return some, whole, closed_by(machine.made)


SHOW: Final = call("out", peer=HERE)
AWAY: Final = call("1", peer=THERE)


# --- what travels


@pytest.mark.parametrize("function", ["say", "big"])
def test_of_twenty_calls_in_a_row_only_what_they_hand_back_travels(function: str) -> None:
    names = [f"r{number - 1}" if number else "" for number in range(19)]
    row = [call(f'"step {number}" {names[number]}', f"r{number}", function=function) for number in range(19)]
    some, whole, (closed,) = both(played(in_row(*row, call("", "out"), SHOW)))
    assert closed.nodes == tuple(range(1, 20))
    assert [one.peer for one in some.calls] == ["@b"] * 20 + ["@a"]
    assert some.timing is not None
    assert whole.timing is not None
    assert some.timing.bytes_sent < 360
    assert whole.timing.bytes_sent > 800


def test_calls_of_each_iteration_are_closed_together() -> None:
    body = in_row(call("x", "y"), call("y"), "(next x)")
    _, _, closed = both(played(in_row(call("", "xs", function="list"), f"(fold xs x {body})", call("", "out"), SHOW)))
    assert [len(one.nodes) for one in closed] == [2, 2, 2]
    assert len({one.frame for one in closed}) == 3


def test_values_of_closed_calls_stay_where_they_are() -> None:
    row = [call("", "x", function="big"), call("x.$.text x"), call("", "out"), SHOW]
    machine = watched()
    simulate(played(in_row(*row)), machine=machine)
    key = content_id(ROWS[2]["returns"])
    assert [key in one.contents() for one in machine.made] == [False, True]
    needs = machine.made[1].needs("anybody")
    assert needs is not None
    assert key not in needs.masks


def test_a_value_that_another_call_tells_as_well_travels_for_that_one() -> None:
    row = [call("", "x", function="big"), call("x"), call("", "y", function="big"), call("y.$.n", peer=THERE)]
    _, _, closed = both(played(in_row(*row)))
    assert [one.nodes for one in closed] == [(1, 2)]


# --- which calls are closed

CLOSED: Final[dict[str, tuple[list[str], list[tuple[int, ...]]]]] = {
    "calls without output": ([call(), call(), call(), AWAY], [(1, 2, 3)]),
    "values that are never read": ([call("", "x"), call("", "y"), AWAY], [(1, 2)]),
    "values that are read behind them in the row": ([call("", "x"), call("x", "y"), call("x y"), AWAY], [(1, 2, 3)]),
    "a part of a value": ([call("", "x", function="big"), call("x.$.n x.$.text"), AWAY], [(1, 2)]),
    "up to what is read outside": ([call("", "x"), call("x"), call("", "out"), SHOW], [(1, 2)]),
    "behind what is read outside": ([call("", "out"), call("out"), call(), SHOW], [(2, 3)]),
    "on both sides of it": ([call(), call(), call("", "out"), call(), call(), SHOW], [(1, 2), (4, 5)]),
    "not what something builds on that is read outside": (
        [call("", "x"), call("x", "y"), call(), call("y", "out"), call(), call(), SHOW],
        [(5, 6)],
    ),
    "up to a failure": ([f"(xor {in_row(call(), call(), call(function='bad'))} (null))", AWAY], [(3, 4)]),
    "calls of each peer by themselves": ([call(), call(), AWAY, AWAY, call("1", peer=HERE)], [(1, 2), (3, 4)]),
}


@pytest.mark.parametrize("case", CLOSED)
def test_neighbours_are_closed(case: str) -> None:
    row, expected = CLOSED[case]
    _, _, closed = both(played(in_row(*row)))
    assert [one.nodes for one in closed] == expected


XY: Final = call("", "x"), call("", "y")
TOLD: Final = {
    "one call alone": in_row(call(), AWAY),
    "values that are read outside": in_row(*XY, call("x y", peer=THERE)),
    "a value on which one builds that is read outside": in_row(call("", "x"), call("x", "out"), SHOW),
    "a value that says whose a call is": in_row(call("", "x", function="who"), call("", peer="x"), AWAY),
    "a value that says what is called": in_row(call("", "x"), '(call "@b" ("s" x) [])', AWAY),
    "values that are copied": in_row(*XY, "(ap x out)", "(ap y z)", AWAY),
    "values that are tested": in_row(*XY, "(match x y (null))", AWAY),
    "values that are folded": in_row(
        *(call("", name, function="list") for name in "xy"),
        *(f"(fold {name} i{name} (seq (null) (next i{name})))" for name in "xy"),
        AWAY,
    ),
    "streams": in_row(call("", "$s"), call("", "$s"), f"(canon {THERE} $s #s)", call("#s", peer=HERE)),
    "names that are set twice": in_row(f"(xor (match 1 2 {in_row(*XY)}) {in_row(*XY)})", AWAY),
    "calls with errors as arguments": in_row(
        f"(xor {call(function='bad')} {in_row(call(':error:'), call('%last_error%'))})", AWAY
    ),
    "calls in branches": in_row(f"(par {call()} {call()})", AWAY),
    "a call and a failure": in_row(f"(xor {in_row(call(), call(function='bad'))} (null))", AWAY),
    "calls of several peers": in_row(call(), AWAY, call(), AWAY),
}


@pytest.mark.parametrize("case", TOLD)
def test_what_others_can_need_is_told(case: str) -> None:
    some, _, closed = both(played(TOLD[case]))
    assert some.calls[-1].peer != "@b", "all was played"
    assert closed == []


def test_what_calls_read_that_are_not_answered_yet_is_told() -> None:
    """The particle leaves for another branch while the row is under way."""
    row = in_row(call("", "x"), call("", "y"), call("y"), call("x"))
    flow = Flow(f"(par {row} {AWAY})", peers=("b", "a", "c"))
    (request,) = flow.merge("b", b"").requests
    closed = []
    for _ in range(4):
        effects = flow.resolve("b", {request.instance: flow.answer("b", request)})
        data = flow.depart("b")
        closed.append(closed_by([flow.machine("b")]))
        request = next(iter(effects.requests), request)
    assert closed == [[]] * 4, "one answer at a time"
    assert flow.merge("c", data).error is None
    assert [wait.peer for wait in flow.machine("c").waits()] == [None], "all that waits is its own call"


def test_elements_of_streams_stand_in_the_order_that_their_peer_had() -> None:
    """Closed calls are answered when the last of them is: what another branch writes in the meantime comes first."""
    row = in_row(call("", "x", function="one"), call("x", function="two"), '(ap "behind the row" $s)')
    branches = f"(par {row} {call('', '$s', function='branch')})"
    flow = Flow(
        in_row(branches, f"(canon {THERE} $s #s)", call("#s", peer=THERE, function="show")),
        {"s.branch": "meantime"},
        peers=("b", "a", "c"),
    )
    one, branch = sorted(flow.merge("b", b"").requests, key=lambda request: request.function, reverse=True)
    (two,) = flow.resolve("b", {one.instance: flow.answer("b", one)}).requests
    flow.resolve("b", {branch.instance: flow.answer("b", branch)})
    flow.resolve("b", {two.instance: flow.answer("b", two)})
    data = flow.depart("b")
    assert [len(one.nodes) for one in closed_by([flow.machine("b")])] == [2]
    flow.arrive("c", data)
    assert flow.arguments_of("s.show") == [[["meantime", "behind the row"]]]


# --- the peer itself, and who is shown what it had


def answered() -> tuple[Flow, Batch, list[Result]]:
    """A flow of two closed calls and one that is told; the batch, and the answers in the log of their peer."""
    flow = Flow(in_row(call("", "x"), call("x"), call("", "out"), SHOW), {"s.work": "done"}).run()
    (batch,) = [one for one in flow.machine("a").batches() if one.signer == flow.names.keys["b"].peer_id]
    facts = [fact for record in flow.records["b"] if isinstance(record, Stepped) for fact in record.facts]
    return flow, batch, [fact for fact in facts if isinstance(fact, Result)]


def test_the_log_keeps_the_answers_and_they_are_those_that_were_closed() -> None:
    flow, batch, results = answered()
    (closed,) = [item for item in batch.signed.items if isinstance(item, Closed)]
    assert [one.node for one in results] == [1, 2, 3]
    assert reveals(closed, results[:2])
    assert not reveals(closed, [results[0], msgspec.structs.replace(results[1], value=content_id("other"))])
    assert not any(isinstance(item, Taken) for item in batch.signed.items)
    assert flow.machine("a").waits() == []


def test_a_restored_peer_has_its_answers_and_signs_the_same() -> None:
    flow, batch, results = answered()
    restored = flow.restart("b")
    assert restored.batches() == flow.machine("b").batches()
    assert restored.merge(Known((), {})).requests == ()
    flow.records["b"].pop()
    again = flow.restart("b").seal(flow.names.keys["b"].sign)
    assert getattr(again, "batch", None) == batch.signed
    assert results


def test_who_has_lost_its_answers_goes_on_behind_them_as_everybody() -> None:
    flow, batch, _ = answered()
    del flow.machines["b"]
    data = flow.wire[-1]
    effects = flow.merge("b", data)
    assert (effects.requests, effects.error) == ((), None)
    assert [wait.peer for wait in flow.machine("b").waits()] == [flow.names.keys["a"].peer_id]
    assert batch in flow.machine("b").batches()


# --- peers that lie

READ: Final = in_row(call("", "x"), call("x", "y"), call("y", peer=HERE))


def test_who_closes_what_others_read_stops_its_own_branch() -> None:
    flow = Flow(f"(par {READ} {AWAY})")
    flow.merge("a", b"")
    effects = lie(flow, "b", Closed(b"", (2, 3), bytes(32)))
    assert (effects.requests, effects.next_peers, effects.error) == ((), (), None)
    assert [wait.reason for wait in flow.machine("a").waits()][:1] == ["`y` has no value yet"]


@pytest.mark.parametrize("frame", [b"", b"x" * 16])
def test_calls_of_others_and_of_nobody_are_not_closed(frame: bytes) -> None:
    flow = Flow(READ)
    flow.merge("a", b"")
    before = flow.machine("a").waits()
    for liar, nodes in [("c", tuple(range(50))), ("b", (0, 3, 4_000_000_000)), ("a", (1, 2))]:
        effects = lie(flow, liar, Closed(frame, nodes, bytes(32)))
        assert (effects.requests, effects.next_peers, effects.error) == ((), (), None)
    assert flow.machine("a").waits() == before


@pytest.mark.parametrize("first", [True, False])
def test_an_answer_counts_before_a_closed_call_unless_that_came_first(first: bool) -> None:
    flow = Flow(in_row(call("", "x"), call("x", peer=HERE)))
    flow.merge("a", b"")
    closed, told = Closed(b"", (1,), bytes(32)), result(1, "s", "work", value="text")
    if first:
        assert lie(flow, "b", closed).requests == ()
        assert lie(flow, "b", told).requests == ()
        assert [wait.reason for wait in flow.machine("a").waits()] == ["`x` has no value yet"]
    else:
        (request,) = lie(flow, "b", closed, told).requests
        assert request.arguments == ("text",)
        assert lie(flow, "b", closed).records
    assert flow.machine("a").error is None


def test_calls_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "WORK_MAX", 1_000)
    flow = Flow(READ)
    flow.merge("a", b"")
    effects = lie(flow, "c", Closed(b"", tuple(range(1_000)), bytes(32)))
    assert effects.error is not None
    assert (effects.error.code, effects.records, flow.machine("a").batches()) == (20100, (), ())


# --- random flows

SEED: Final = 11
RANDOM: Final = [range(start, start + 40) for start in range(0, 160, 40)]


@pytest.mark.parametrize("numbers", RANDOM, ids=str)
def test_random_flows_are_the_same_if_all_is_told(numbers: range) -> None:
    closed = 0
    for number in numbers:
        one = random_scenario(SEED, number, runs=True)
        for order in ("fifo", Seeded(number)):
            found = pruned(msgspec.structs.replace(one, order=order))
            assert found.difference == "", one.name
            closed += found.closed
    assert closed >= len(numbers)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("numbers", RANDOM, ids=str)
def test_incremental_machine_does_what_the_plain_one_does(numbers: range, way: str) -> None:
    closed = 0
    for number in numbers:
        try:
            closed += compare_in(random_scenario(SEED, number, runs=True), way, seed=number).closed
        except TooLongError:
            continue
    assert closed >= len(numbers) // 2
