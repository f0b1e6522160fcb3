"""Facts that strangers sign in great number: what is done with them grows with their number, and is done in slices."""

from __future__ import annotations

from typing import Any

import pytest
from fluvial.air.data.batch import Batch, Known, unrolled
from fluvial.air.data.content import content_id
from fluvial.air.data.facts import (
    CallFailure,
    CanonFact,
    Element,
    Item,
    Result,
    Step,
    Taken,
    iteration_frame,
    written_element,
)
from fluvial.air.data.pace import NODES, Found, SlicePace
from fluvial.air.data.partial import Level, Mask, cut
from fluvial.air.machine import memory, refusals
from fluvial.air.machine.machine import Effects, Machine
from fluvial.air.machine.slices import Run
from fluvial.air.machine.streams import ELEMENTS_MAX
from fluvial.air.syntax import parse, tree
from fluvial.identity import KeyPair

from tests.support.counting import longest, opcodes

ME = KeyPair.from_secret(bytes(32)).peer_id
KEYS = KeyPair.from_secret(bytes(31) + b"\1")
STRANGER = KEYS.peer_id
PARTICLE = bytes(32)


def machine(script: str) -> Machine:
    one = Machine(parse(script), PARTICLE, ME, initiator=ME, timestamp_ms=1, ttl_ms=1)
    one.merge(Known((), {}))
    return one


def signed(*items: Item) -> Batch:
    return Batch.seal(PARTICLE, STRANGER, items, KEYS.sign)


def slices_of(run: Run[Effects]) -> tuple[int, Effects]:
    slices = 1
    while (effects := run.advance()) is None:
        slices += 1
    return slices, effects


def pauses(work: Found[Any]) -> int:
    count = 0
    while True:
        try:
            next(work)
            count += 1
        except StopIteration:
            return count


def test_a_call_with_many_results_is_not_gone_through_for_each_canon() -> None:
    def taken_in(count: int) -> int:
        one = machine(f'(seq (call "{STRANGER}" ("a" "b") [] $s) (canon "{STRANGER}" $s #c))')
        values = {content_id(number): number for number in range(count)}
        first = signed(Step(), *[Result(b"", 1, "a", "b", (), value) for value in values])
        one.merge(Known((first,), values))
        last = list(values)[-1]
        canons = [CanonFact(place.to_bytes(16, "big"), 2, (Element(last, b"", 1),)) for place in range(count)]
        second = signed(Step((first.id,)), *canons)
        return opcodes(lambda: one.merge(Known((second,), {})))

    taken_in(1)
    assert taken_in(200) < 2.5 * taken_in(100)


def test_who_contradicts_itself_is_found_in_slices() -> None:
    value = content_id(1)
    answers = [Result(place.to_bytes(16, "big"), 0, "a", "b", (), value) for place in range(6 * NODES)]
    slices = []
    for other in (Taken(answers[7].frame, 0), CallFailure(answers[7].frame, 0, "a", "b", (), 1, "no")):
        one = machine(f'(call "{STRANGER}" ("a" "b") [])')
        came = signed(Step(), Result(b"", 0, "a", "b", (), value), *answers, other)
        count, effects = slices_of(one.merging(Known((came,), {value: 1})))
        slices.append((count, len(effects.equivocations)))
    (without, none), (with_one, found) = slices
    assert (none, found) == (0, 1)
    assert with_one >= without + 5


@pytest.mark.parametrize("canons", [1, 3])
def test_what_had_no_turn_here_is_looked_for_in_slices(canons: int) -> None:
    """Each of many folds over one stream may be the one in which an element was written."""
    script = f"""
        (seq (seq (call "{STRANGER}" ("a" "n") [] xs) (fold xs i (seq (ap i $s) (next i))))
             (new $t (fold xs q (par (fold $s j (seq (canon "{STRANGER}" $t #c) (seq (ap j $t) (next j)))) (next q)))))
    """
    one = machine(script)
    numbers = list(range(80))
    [call] = [node for node in tree.walk(one._script.root) if type(node) is tree.CallInstruction]
    first = signed(Step(), Result(b"", call.number, "a", "n", (), content_id(numbers)))
    one.merge(Known((first,), {content_id(numbers): numbers}))
    runtime = one._state.evaluator.runtime
    fold = next(fold for stream in runtime.streams.values() for fold in stream.folds())
    written = next(stream.elements() for stream in runtime.streams.values() if stream.elements())
    frames = [iteration_frame(fold.place.frame, fold.node.number, written_element(one.writer)) for one in written]
    numbered = {type(node): node.number for node in tree.walk(one._script.root)}
    value = content_id(5)
    fact = CanonFact(frames[0], numbered[tree.Canon], (Element(value, frames[5], numbered[tree.Ap]),))
    second = signed(Step((first.id,)), *[fact] * canons)
    slices, effects = slices_of(one.merging(Known((second,), {value: 5})))
    assert effects.error is None
    assert slices >= len(numbers) ** 2 // 1_000


def test_steps_that_name_many_batches_are_put_in_order_in_slices() -> None:
    first = signed(Step(), Taken(b"", 0))
    second = signed(Step((first.id,) * 5_000))
    assert pauses(unrolled({first.id: first, second.id: second}, ())) >= 5


def test_batches_are_read_from_the_journal_in_slices() -> None:
    batch = signed(Step(), *[Taken(b"", number) for number in range(5_001)])
    assert pauses(Batch.storing(PARTICLE, batch.signed, SlicePace())) >= 5
    assert Batch.stored(PARTICLE, batch.signed) == batch


def test_what_is_refused_again_is_looked_at_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream becomes too long, with many facts and half of a long value beside that: too much to be kept."""
    monkeypatch.setattr(refusals, "BYTES_MAX", 1_000)
    numbers, value = list(range(ELEMENTS_MAX + 1)), [f"{number:0300}" for number in range(600)]
    script = f"""
        (seq (call "{STRANGER}" ("a" "n") [] xs)
             (seq (call "{STRANGER}" ("a" "v") [] v) (fold xs i (seq (ap i $s) (next i)))))
    """
    half = Mask()
    for place in range(0, len(value), 2):
        half.add((place,), Level.WHOLE)
    contents = {content_id(numbers): numbers, content_id(value): cut(value, half)}
    results = [Result(b"", 1, "a", "n", (), content_id(numbers)), Result(b"", 2, "a", "v", (), content_id(value))]
    came = signed(Step(), *results, *[Taken(place.to_bytes(16, "big"), 1) for place in range(3_000)])
    came.prepare()
    one = machine(script)
    assert slices_of(one.merging(Known((came,), contents)))[1].error is not None
    slices, effects = slices_of(one.merging(Known((came,), contents)))
    assert effects.error is not None
    assert effects.error.code == 20013
    assert slices >= 4


def test_memory_is_given_back_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "VISITS_PER_SLICE", 50)
    script = f"""
        (seq (call "{STRANGER}" ("a" "n") [] xs)
             (fold xs i (par (seq (call "{STRANGER}" ("a" "b") [i] y) (call "{STRANGER}" ("a" "c") [y])) (next i))))
    """
    least = 0
    for count in (40, 1_000):
        one = machine(script)
        numbers = list(range(count))
        came = signed(Step(), Result(b"", 1, "a", "n", (), content_id(numbers)))
        one.merge(Known((came,), {content_id(numbers): numbers}))
        most = longest(one.dismantle())
        least = least or most
        assert most <= 2 * least


@pytest.mark.parametrize("count", [10, 400])
def test_whether_somebody_is_awaited_is_known_without_a_look_at_all_that_waits(count: int) -> None:
    """It is asked again and again, of hundreds of peers."""
    script = f"""
        (seq (call "{STRANGER}" ("a" "n") [] xs)
             (fold xs i (par (call i ("a" "b") []) (par (call "{STRANGER}" ("a" "c") []) (next i)))))
    """
    one = machine(script)
    assert one.awaits(STRANGER)
    names = [f"p{number % 7}" for number in range(count)]
    first = signed(Step(), Result(b"", 1, "a", "n", (), content_id(names)))
    one.merge(Known((first,), {content_id(names): names}))
    assert [one.awaits(name) for name in (*names[:7], STRANGER, "p7")] == [*[True] * 8, False]
    assert opcodes(lambda: one.awaits("p7")) < 1_000
    answered = [instance for instance, peer in one.awaited().items() if peer == STRANGER]
    value = content_id(1)
    results = [Result(*instance, "a", "c", (), value) for instance in answered]
    one.merge(Known((signed(Step((first.id,)), *results),), {value: 1}))
    assert [one.awaits(name) for name in ("p0", STRANGER)] == [True, False]
    assert set(one.awaited().values()) == set(names[:7])
