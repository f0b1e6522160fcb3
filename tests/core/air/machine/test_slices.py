"""A run in slices comes to the same as one without: records, requests, next peers and what is sent, whatever the size of slices."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import msgspec
import pytest
from fluvial.air.data import content_slices
from fluvial.air.data.batch import Batch, Known
from fluvial.air.data.content import content_id
from fluvial.air.data.facts import CanonFact, Closed, Instance, Item, Step, Taken
from fluvial.air.data.log import Record, encode_record
from fluvial.air.machine import runtime
from fluvial.air.machine.errors import Uncatchable
from fluvial.air.machine.machine import Effects, Machine
from fluvial.air.machine.outcomes import Answered, CallOutcome
from fluvial.air.machine.slices import NO_CLOCK, SLICE_S, SLICE_STEPS, Clock, Run
from fluvial.air.syntax import parse
from fluvial.identity import KeyPair
from fluvial.particles import session
from fluvial.simulation import network
from fluvial.simulation.scenario import Scenario, Seeded

from tests.conformance.comparison import scenario_files
from tests.fuzz.generator import scenario as random_scenario

CONFORMANCE: Final = Path(__file__).parents[3] / "conformance"
GOLDEN: Final = Path(__file__).with_name("journals.json")
"""Digests of what was recorded and sent, by scenario and order; behaviour that is changed on purpose changes them."""

RANDOM_SEED: Final = 7
RANDOM: Final = 60


def scenarios() -> Iterator[Scenario]:
    for path in scenario_files(CONFORMANCE / "air"):
        yield Scenario.load(path)
    for line in (CONFORMANCE / "generated" / "cleared.jsonl").read_text("utf-8").splitlines():
        yield msgspec.convert(json.loads(line)["scenario"], Scenario)
    for line in (CONFORMANCE / "generated" / "half-failed.jsonl").read_text("utf-8").splitlines()[:20]:
        yield msgspec.convert(json.loads(line)["scenario"], Scenario)
    for number in range(RANDOM):
        yield random_scenario(RANDOM_SEED, number, runs=number % 2 == 1)


def in_slices(run: Run[Effects], steps: int, clock: Clock = NO_CLOCK) -> Effects:
    while (effects := run.advance(steps, clock)) is None:
        pass
    return effects


def journal(scenario: Scenario, steps: int | None, clock: Clock = NO_CLOCK) -> str:
    """Plays a scenario; a digest of all that peers recorded, asked for and sent, in order."""
    digest = hashlib.sha256()

    class Journalled(Machine):
        def merge(self, known: Known) -> Effects:
            return note(super().merge(known) if steps is None else in_slices(self.merging(known), steps, clock))

        def resolve(self, outcomes: Mapping[Instance, CallOutcome]) -> Effects:
            return note(
                super().resolve(outcomes) if steps is None else in_slices(self.resolving(outcomes), steps, clock)
            )

        def seal(self, sign: Callable[[bytes], bytes], *, closing: bool = True) -> Record | None:
            record = super().seal(sign, closing=closing)
            if record is not None:
                digest.update(encode_record(record))
            return record

    def note(effects: Effects) -> Effects:
        for record in effects.records:
            digest.update(encode_record(record))
        error = None if effects.error is None else (effects.error.code, effects.error.message)
        asked = [(request.instance, request.service, request.function) for request in effects.requests]
        digest.update(repr((asked, effects.next_peers, error, effects.finished)).encode())
        return effects

    def encode_data(*parts: Any) -> bytes:
        data = encode(*parts)
        digest.update(data)
        return data

    encode = session.encode_data
    with patch.object(session, "encode_data", encode_data):
        network.simulate(scenario, machine=Journalled)
    return digest.hexdigest()


def journals(some: Sequence[Scenario], steps: int | None, clock: Clock = NO_CLOCK) -> dict[str, str]:
    both = [msgspec.structs.replace(one, order=order) for one in some for order in ("fifo", Seeded(5))]
    return {
        f"{one.name}, {'shuffled' if isinstance(one.order, Seeded) else 'fifo'}": journal(one, steps, clock)
        for one in both
    }


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_slices_change_no_journal(steps: int) -> None:
    some = list(scenarios())
    assert journals(some, steps) == journals(some, None)


@pytest.mark.parametrize("seconds", [SLICE_S, SLICE_S / 7])
def test_slices_that_end_by_a_clock_change_no_journal(seconds: float) -> None:
    """A clock that goes on whenever it is asked: with the faster one each slice is over as soon as it has begun."""
    some = list(scenarios())[::3]
    ticks = itertools.count()
    assert journals(some, SLICE_STEPS, lambda: next(ticks) * seconds) == journals(some, None)


def test_pauses_in_the_middle_of_a_canon_change_no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [one for one in scenarios() if "canon" in str(one.script)][:40]
    whole = journals(some, None)
    monkeypatch.setattr(content_slices, "HASHES", 1)
    assert journals(some, 1) == whole


def test_journals_are_what_they_were() -> None:
    assert journals(list(scenarios())[:40:2], None) == json.loads(GOLDEN.read_text("utf-8"))


# --- long work


def nested(peer: str, depth: int) -> str:
    body = "(null)"
    for level in range(depth):
        body = f"(fold xs i{level} (par {body} (next i{level})))"
    return f'(seq (call "{peer}" ("s" "l") [] xs) {body})'


def waiting(keys: KeyPair, script: str) -> tuple[Machine, Instance]:
    """A machine that waits for the outcome of its first call."""
    machine = Machine(parse(script), bytes(32), keys.peer_id, initiator=str(keys.peer_id), timestamp_ms=0, ttl_ms=1)
    (request,) = machine.merge(Known((), {})).requests
    return machine, request.instance


def test_exponential_scripts_are_worked_off_in_slices_of_about_the_steps_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runtime, "WORK_MAX", 30_000)
    keys = KeyPair.generate()
    machine, instance = waiting(keys, nested(str(keys.peer_id), 3))
    evaluator = machine._state.evaluator
    run = machine.resolving({instance: Answered([1] * 100)})
    done, effects = [evaluator.runtime._work], None
    while effects is None:
        effects = run.advance(500)
        done.append(evaluator.runtime._work)
    assert isinstance(effects.error, Uncatchable)
    assert effects.error.code == 20_100
    assert max(later - earlier for earlier, later in itertools.pairwise(done)) <= 500 + 100
    assert len(done) > 40


def test_nothing_else_can_be_done_during_a_run_or_after_one_that_was_given_up() -> None:
    keys = KeyPair.generate()
    machine, instance = waiting(keys, nested(str(keys.peer_id), 2))
    run = machine.resolving({instance: Answered([1] * 100)})
    assert run.advance(10) is None
    with pytest.raises(RuntimeError):
        machine.merge(Known((), {}))
    del run
    with pytest.raises(RuntimeError):
        machine.resolving({})


def test_a_machine_is_restored_in_slices() -> None:
    keys = KeyPair.generate()
    script = nested(str(keys.peer_id), 2)
    machine = Machine(parse(script), bytes(32), keys.peer_id, initiator=str(keys.peer_id), timestamp_ms=0, ttl_ms=1)
    begun = machine.merge(Known((), {}))
    records = [*begun.records, *machine.resolve({begun.requests[0].instance: Answered([1] * 50)}).records]
    again = Machine(parse(script), bytes(32), keys.peer_id, initiator=str(keys.peer_id), timestamp_ms=0, ttl_ms=1)
    run, slices = again.restoring(records), 1
    while (restored := run.advance(100)) is None:
        slices += 1
    assert restored is again
    assert slices > 10
    assert again.merge(Known((), {})) == machine.merge(Known((), {}))


def slices_of(run: Run[Effects]) -> tuple[int, Effects]:
    slices = 1
    while (effects := run.advance(1_000)) is None:
        slices += 1
    return slices, effects


def test_what_a_canon_fixes_is_named_in_slices() -> None:
    keys = KeyPair.generate()
    me = str(keys.peer_id)
    machine, instance = waiting(keys, f'(seq (call "{me}" ("s" "l") [] x) (seq (ap x.$.[0] $s) (canon "{me}" $s #c)))')
    value = [[number % 200 for number in range(20_000)]]
    slices, effects = slices_of(machine.resolving({instance: Answered(value)}))
    assert effects.error is None
    assert slices >= 10
    (step,) = effects.records
    assert any(isinstance(fact, CanonFact) and fact.elements[0].value == content_id(value[0]) for fact in step.facts)


def test_the_value_of_a_pair_is_named_in_slices() -> None:
    keys = KeyPair.generate()
    me = str(keys.peer_id)
    call = f'(call "{me}" ("s" "f") [p])'
    machine, instance = waiting(
        keys, f'(seq (call "{me}" ("s" "l") [] x) (seq (ap ("k" x.$.[0]) %m) (fold %m p (par {call} (next p)))))'
    )
    value = [[number % 200 for number in range(20_000)]]
    slices, effects = slices_of(machine.resolving({instance: Answered(value)}))
    assert [request.arguments for request in effects.requests] == [({"key": "k", "value": value[0]},)]
    assert slices >= 10


@pytest.mark.parametrize(
    "items",
    [
        [Step()] * 5_000,
        [Step(), *(Taken(b"", number) for number in range(5_000))],
        [Step(), Closed(b"", tuple(range(5_000)), bytes(32))],
    ],
)
def test_whatever_comes_in_great_number_is_taken_in_in_slices(items: list[Item]) -> None:
    keys, other = KeyPair.generate(), KeyPair.generate()
    machine, _ = waiting(keys, f'(call "{keys.peer_id}" ("s" "l") [])')
    batch = Batch.seal(bytes(32), other.peer_id, items, other.sign)
    slices, effects = slices_of(machine.merging(Known((batch,), {})))
    assert effects.error is None
    assert slices >= 5
