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
from fluvial.air.data.batch import Batch, Known, MissingError
from fluvial.air.data.content import content_id
from fluvial.air.data.facts import CanonFact, Closed, Instance, Item, Result, Step, Taken
from fluvial.air.data.log import Record, encode_record
from fluvial.air.data.partial import Level, Mask, cut
from fluvial.air.machine import reads, runtime
from fluvial.air.machine.errors import Uncatchable
from fluvial.air.machine.machine import Effects, Machine
from fluvial.air.machine.outcomes import Answered, CallOutcome
from fluvial.air.machine.slices import NO_CLOCK, SLICE_S, SLICE_STEPS, Clock, Run
from fluvial.air.syntax import parse, tree
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
    ("other", "follows", "more"),
    [(list(range(40_000)), "same", 5), ([*range(39_999), 1], "other", 5), (40_000 * [1], "other", 0)],
)
def test_large_values_are_compared_in_slices(other: list[int], follows: str, more: int) -> None:
    keys = KeyPair.generate()
    me = keys.peer_id
    call = f'(call "{me}" ("s" "%s") [])'
    machine, instance = waiting(
        keys,
        f'(seq (call "{me}" ("s" "l") [] x) (xor (match x.$.[0] x.$.[1] {call % "same"}) {call % "other"}))',
    )
    values = [list(range(40_000)), other]
    few, _ = slices_of(machine.resolving({instance: Answered([values[0][:10], other[:10]])}))
    machine, instance = waiting(
        keys,
        f'(seq (call "{me}" ("s" "l") [] x) (xor (match x.$.[0] x.$.[1] {call % "same"}) {call % "other"}))',
    )
    slices, effects = slices_of(machine.resolving({instance: Answered(values)}))
    assert [request.function for request in effects.requests] == [follows]
    assert slices >= few + more


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


def test_values_that_come_in_great_number_are_looked_through_in_slices() -> None:
    keys, other = KeyPair.generate(), KeyPair.generate()
    machine, _ = waiting(keys, f'(call "{keys.peer_id}" ("s" "l") [])')
    values = {content_id(number): number for number in range(5_000)}
    batch = Batch.seal(bytes(32), other.peer_id, [Step()], other.sign)
    slices, effects = slices_of(machine.merging(Known((batch,), values)))
    assert effects.error is None
    assert slices >= 5
    assert not machine.contents(), "nothing speaks of them"


def branches(parts: Sequence[str]) -> str:
    """All beside each other, as flat as ``par`` allows."""
    while len(parts) > 1:
        parts = [f"(par {' '.join(two)})" if len(two) > 1 else two[0] for two in zip_in_twos(parts)]
    return parts[0]


def zip_in_twos(parts: Sequence[str]) -> Iterator[Sequence[str]]:
    return (parts[at : at + 2] for at in range(0, len(parts), 2))


def looked_at(units: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    """How often reads are looked up when a value is missing of a flow with so many waiting branches, and in how many slices."""
    keys, other = KeyPair.generate(), KeyPair.generate()
    unit = f'(seq (call "{other.peer_id}" ("s" "f") [] x%d) (ap x%d y%d))'
    big = f'(call "{other.peer_id}" ("s" "big") [] b)'
    script = parse(branches([big, *(unit % (number, number, number) for number in range(units))]))
    machine = Machine(script, bytes(32), keys.peer_id, initiator=str(keys.peer_id), timestamp_ms=0, ttl_ms=1)
    machine.merge(Known((), {}))
    (node,) = [one.number for one in tree.walk(script.root) if getattr(one, "function", None) == tree.Literal("big")]
    result = Result(b"", node, "s", "big", (), content_id("x" * 1_000))
    batch = Batch.seal(bytes(32), other.peer_id, [Step(), result], other.sign)
    calls = 0

    def between(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        return found(*arguments)

    found = reads._between
    with monkeypatch.context() as patched:
        patched.setattr(reads, "_between", between)
        slices, effects = slices_of(machine.merging(Known((batch,), {})))
    assert effects.error is None
    return calls, slices


def test_what_can_still_be_read_is_found_in_time_that_grows_with_the_script_and_in_slices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_at(1, monkeypatch)
    few, _ = looked_at(200, monkeypatch)
    many, slices = looked_at(800, monkeypatch)
    assert many <= 4.1 * few
    assert slices >= 4


def test_a_path_that_is_longer_than_values_are_deep_is_looked_at_as_far_as_these_go() -> None:
    keys, other = KeyPair.generate(), KeyPair.generate()
    me, peer = str(keys.peer_id), str(other.peer_id)
    script = parse(f'(seq (call "{peer}" ("s" "f") [] x) (call "{me}" ("s" "g") [x.${".[0]" * 5_000}]))')
    machine = Machine(script, bytes(32), keys.peer_id, initiator=me, timestamp_ms=0, ttl_ms=1)
    value = [["x" * 1_000], "y" * 1_000]
    mask = Mask()
    mask.add((0,), Level.EXISTENCE)
    result = Result(b"", 1, "s", "f", (), content_id(value))
    batch = Batch.seal(bytes(32), other.peer_id, [Step(), result], other.sign)
    with pytest.raises(MissingError):
        machine.merge(Known((batch,), {content_id(value): cut(value, mask)}))
    effects = machine.merge(Known((batch,), {content_id(value): value}))
    assert effects.error is not None
    assert effects.error.code == 10007


def test_what_is_to_be_done_behind_a_run_is_done_in_slices_as_well() -> None:
    keys = KeyPair.generate()
    machine = Machine(parse("(null)"), bytes(32), keys.peer_id, initiator=str(keys.peer_id), timestamp_ms=0, ttl_ms=1)
    done: list[int] = []

    def more() -> Iterator[None]:
        for number in range(3):
            yield
            done.append(number)

    run = machine.merging(Known((), {}))
    run.then(more)
    slices, effects = slices_of(run)
    assert (slices, done, effects.finished) == (4, [0, 1, 2], True)
    assert machine.merge(Known((), {})).error is None, "the run has ended"
