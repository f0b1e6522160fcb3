"""What goes beyond a limit is refused once with work, and from then on without."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import pytest
from fluvial.air.data.batch import Known, MissingError
from fluvial.air.data.facts import Fact
from fluvial.air.data.wire import decode_data
from fluvial.air.machine import refusals, streams
from fluvial.air.machine.machine import Effects
from fluvial.air.machine.outcomes import Answered
from fluvial.air.machine.runtime import Runtime
from fluvial.simulation.network import simulate
from fluvial.simulation.scenario import Scenario, ServiceRow

from tests.core.air.machine.flows import Flow

TOO_LONG: Final = 20_013

ENDLESS: Final = """
    (seq (call "@a" ("s" "next") [] $s)
      (fold $s x
        (seq
          (seq (call x ("s" "next") [x] $s) (call "@b" ("s" "next") [x] $s))
          (next x))))
"""


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the number of facts of each step that is evaluated."""
    counted: list[int] = []
    taken = 0
    take, evaluate = Runtime.take, Runtime.begin_step

    def taking(self: Runtime, facts: Sequence[Fact], signer: str) -> None:
        nonlocal taken
        taken += len(facts)
        take(self, facts, signer)

    def begin_step(self: Runtime, *, act: bool) -> None:
        nonlocal taken
        counted.append(taken)
        taken = 0
        evaluate(self, act=act)

    monkeypatch.setattr(Runtime, "take", taking)
    monkeypatch.setattr(Runtime, "begin_step", begin_step)
    return counted


@pytest.mark.parametrize("peers", [("a", "b", "c"), ("a", "b")])
def test_an_endless_stream_costs_in_proportion_to_its_limit(
    peers: tuple[str, ...], steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ServiceRow(peer=peer, returns="@" + peers[(i + 1) % len(peers)]) for i, peer in enumerate(peers)]
    scenario = Scenario("endless", ENDLESS, "a", list(peers), services=rows)
    costs = []
    for limit in (100, 200, 400):
        monkeypatch.setattr(streams, "ELEMENTS_MAX", limit)
        steps.clear()
        seen = simulate(scenario)
        assert {failure.code for failure in seen.failures} == {TOO_LONG}
        assert len(seen.calls) > limit
        costs.append(len(steps))
    assert costs[1] < 2.5 * costs[0]
    assert costs[2] < 2.5 * costs[1]


# --- one delivery that is too much

SCRIPT: Final = """
    (par
      (seq (call "@b" ("s" "x") [] $s) (seq (call "@b" ("s" "y") [] $s) (call "@b" ("s" "z") [] $s)))
      (par
        (call "@c" ("s" "f") [] c)
        (seq (seq (call "@b" ("s" "more") [] b) (call "@c" ("s" "g") [b])) (fold $s x (call "@a" ("s" "show") [x c])))))
"""


class Refused(NamedTuple):
    """A flow in which peer ``a`` has refused what came from ``b``.

    Attributes:
        flow: it.
        first: what was refused.
        later: what builds on that, with all that it builds on.
        other: what does not.
    """

    flow: Flow
    first: Known
    later: Known
    other: Known


def refused(monkeypatch: pytest.MonkeyPatch) -> Refused:
    flow = Flow(SCRIPT)
    flow.arrive("a", b"")
    data = dict(flow.queue)
    key = flow.particle.key
    flow.arrive("c", data["c"])
    other = decode_data(key, flow.depart("c"))
    flow.arrive("b", data["b"])
    first = decode_data(key, flow.depart("b"))
    flow.arrive("c", flow.wire[-1])
    later = decode_data(key, flow.depart("c"))
    monkeypatch.setattr(streams, "ELEMENTS_MAX", 2)
    assert code(flow.machine("a").merge(first)) == TOO_LONG
    return Refused(flow, first, later, other)


def code(effects: Effects) -> int:
    return 0 if effects.error is None else effects.error.code


def without(known: Known, others: Known) -> Known:
    """What a sender gives to a peer that it thinks to have the others."""
    had = {batch.id for batch in others.batches}
    batches = tuple(batch for batch in known.batches if batch.id not in had)
    needed: set[Any] = set().union(*(batch.contents() for batch in batches))
    return Known(batches, {key: known.contents[key] for key in needed})


def test_what_was_refused_is_refused_again_without_work(steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    flow, first, *_ = refused(monkeypatch)
    steps.clear()
    effects = flow.machine("a").merge(first)
    assert code(effects) == TOO_LONG
    assert (steps, effects.records, effects.requests, effects.next_peers) == ([], (), (), ())


def test_what_builds_on_it_need_not_bring_it_along(steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    flow, first, later, _ = refused(monkeypatch)
    steps.clear()
    effects = flow.machine("a").merge(without(later, first))
    assert code(effects) == TOO_LONG
    assert steps == []


def test_what_is_too_much_to_keep_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "BYTES_MAX", 100)
    flow, first, later, _ = refused(monkeypatch)
    with pytest.raises(MissingError):
        flow.machine("a").merge(without(later, first))
    effects = flow.machine("a").merge(later)
    assert code(effects) == TOO_LONG


def test_what_does_not_build_on_it_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    flow, _, later, other = refused(monkeypatch)
    effects = flow.machine("a").merge(other)
    assert (code(effects), len(effects.records)) == (0, 1)
    assert code(flow.machine("a").merge(later)) == TOO_LONG


def test_after_a_restart_it_is_tried_once_more(steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    flow, first, *_ = refused(monkeypatch)
    restored = flow.restart("a")
    steps.clear()
    assert code(restored.merge(first)) == TOO_LONG
    assert steps
    monkeypatch.setattr(streams, "ELEMENTS_MAX", 3)
    assert code(flow.restart("a").merge(first)) == 0


def test_outcomes_that_are_too_much_stay_and_stop_all_else(steps: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = "(null)"
    for name in "xyz":
        calls = f'(par (call "@a" ("s" "{name}") [] $s) {calls})'
    flow = Flow(f'(par {calls} (call "@b" ("s" "f") [] b))')
    monkeypatch.setattr(streams, "ELEMENTS_MAX", 1)
    effects = flow.merge("a", b"")
    data = flow.depart("a")
    one, two, three = (request.instance for request in effects.requests)
    assert flow.resolve("a", {one: Answered(1)}).error is None
    effects = flow.resolve("a", {two: Answered(2)})
    assert code(effects) == TOO_LONG
    steps.clear()
    effects = flow.resolve("a", {three: Answered(3)})
    assert code(effects) == TOO_LONG
    assert len(effects.records) == 1
    assert steps == []
    flow.arrive("b", data)
    data = flow.depart("b")
    steps.clear()
    assert code(flow.merge("a", data)) == TOO_LONG
    assert steps == []
    monkeypatch.setattr(streams, "ELEMENTS_MAX", 3)
    effects = flow.restart("a").merge(Known((), {}))
    assert (code(effects), effects.requests) == (0, ())
