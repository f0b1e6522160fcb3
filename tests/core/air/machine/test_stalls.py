"""What a script and its data can make of one slice is bounded: the longest scripts that we know for it are counted, not timed."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
from fluvial.air.data.batch import Known
from fluvial.air.data.facts import Instance
from fluvial.air.machine import runtime, shown
from fluvial.air.machine.machine import Machine
from fluvial.air.machine.operands import LINKS_PER_STEP, Operands
from fluvial.air.machine.outcomes import Answered
from fluvial.air.machine.scopes import Scope, Viewpoint
from fluvial.air.machine.shown import json_text
from fluvial.air.machine.slices import SLICE_S, SLICE_STEPS
from fluvial.air.syntax import parse, tree
from fluvial.air.syntax.printer import head
from fluvial.identity import KeyPair
from hypothesis import given
from hypothesis import strategies as st

KEYS: Final = KeyPair.from_secret(b"s" * 32)
ME: Final = str(KEYS.peer_id)
PATH: Final = ".$" + ".[k]" * 100


def deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = {"a": value}
    return value


def within(names: str, body: str, levels: int = 300) -> str:
    return "".join(f"(new {names}{level} " for level in range(levels)) + body + ")" * levels


def call(arguments: str) -> str:
    return f'(call "{ME}" ("s" "g") [{arguments}])'


def each(body: str) -> str:
    return f"(fold xs.$.list i (par (xor {body} (null)) (next i)))"


def failing(reads: str) -> str:
    wrong = f'(call "{ME}" ("s" i) [{"1 " * 3_000}])'
    return f"(fold xs.$.list i (par (xor {wrong} (ap {reads} $read)) (next i)))"


HOSTILE: Final[Mapping[str, str]] = {
    "many arguments before one that is not set": f"(par (seq (never) (ap 1 unset)) {each(call('i ' * 2_000 + 'unset'))})",
    "many arguments in many scopes": within("n", call("xs " * 2_000)),
    "paths of names in many scopes": f'(seq (ap "a" k) {within("n", each(f"(ap xs.$.deep{PATH[2:]} $o)"))})',
    "arguments that are such paths": f'(seq (ap "a" k) {within("n", call(f"xs.$.deep{PATH[2:]} " * 50))})',
    "long instructions in %last_error%": failing("%last_error%.$.error_code"),
    "long instructions in :error:": failing(":error:.$.instruction"),
    "long texts in errors": each("(ap xs.$.text.none $o)"),
    "long values in errors": each("(ap xs.$.numbers.none $o)"),
}
DATA: Final = {"list": list(range(200)), "deep": deep(100), "text": "\x01" * 200_000, "numbers": [1] * 200_000}


def begun(script: str) -> Machine:
    text = f'(seq (call "{ME}" ("s" "l") [] xs) {script})'
    return Machine(parse(text), bytes(32), KEYS.peer_id, initiator=ME, timestamp_ms=0, ttl_ms=1)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_slice_does_much_more_than_its_steps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = begun(HOSTILE[name])
    read = encoded = 0
    value, encode = Operands.value, shown._text.encode

    def reading(operands: Operands, operand: tree.Value, reader: Viewpoint) -> Any:
        nonlocal read
        read += 1
        return value(operands, operand, reader)

    class Encoder:
        @staticmethod
        def encode(one: Any) -> bytes:
            nonlocal encoded
            encoded += len(text := encode(one))
            return text

    monkeypatch.setattr(Operands, "value", reading)
    monkeypatch.setattr(shown, "_text", Encoder)
    (request,) = machine.merge(Known((), {})).requests
    run, effects = machine.resolving({request.instance: Answered(DATA)}), None
    work, most = machine.steps, 8 * shown.TEXT_BYTES_MAX
    while effects is None:
        read = encoded = 0
        effects = run.advance()
        done, work = machine.steps - work, machine.steps
        # What the last step of a slice takes comes on top; and what was looked up is counted when the next step begins.
        assert done <= SLICE_STEPS + shown.TEXT_BYTES_MAX // 100
        assert read <= done + 10
        assert encoded <= most
    assert effects.error is None or effects.error.code == 20_100


def looked_up(scope: Scope) -> int:
    """Links that are gone through for a name that is set outermost."""
    links, now = 0, scope._outer
    while now is not None:
        links, now = links + 1, now._outer
    return links


def test_links_that_can_hold_no_value_are_passed_by() -> None:
    outermost = Scope()
    inside = outermost
    for level in range(50):
        inside = inside.renew(f"$s{level}", Instance(b"", level))
    assert inside.depth == 50
    assert looked_up(inside) == inside.links == 1
    assert inside.renew("x", Instance(b"", 1)).renew("y", Instance(b"", 2)).links == 2


def test_names_in_paths_count_as_work_as_far_as_they_are_looked_up() -> None:
    def work(script: str) -> int:
        machine = begun(f'(seq (ap "a" k) {script})')
        (request,) = machine.merge(Known((), {})).requests
        machine.resolve({request.instance: Answered(DATA)})
        return machine.steps

    body = f"(ap xs.$.deep{PATH[2:]} $o)"
    shallow, nested = work(each(body)), work(within("n", each(body)))
    assert nested - shallow - 300 >= 200 * 100 * 300 // LINKS_PER_STEP
    assert work(within("$n", each(body))) - shallow - 300 < 200 * 10


def test_an_instruction_is_printed_once_for_all_its_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[tree.Instruction] = []
    monkeypatch.setattr(runtime, "head", lambda node: printed.append(node) or head(node))
    machine = begun(failing("%last_error%.$.instruction"))
    (request,) = machine.merge(Known((), {})).requests
    assert machine.resolve({request.instance: Answered(DATA)}).error is None
    assert len(printed) == len(set(map(id, printed)))
    assert len(printed) <= 3


def test_a_flow_comes_to_its_limit_of_work_and_does_not_stand_still_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for most in range(20, 60):
        monkeypatch.setattr(runtime, "WORK_MAX", most)
        machine = begun(f"(fold xs i (par (seq {call('i i')} (null)) (next i)))")
        (request,) = machine.merge(Known((), {})).requests
        run, effects, slices = machine.resolving({request.instance: Answered([1] * 8)}), None, 0
        while effects is None:
            effects, slices = run.advance(3), slices + 1
            assert slices < 500


class Ticking:
    """A clock on which a slice takes so many questions; counts them."""

    def __init__(self, questions: int) -> None:
        self.asked = 0
        self._tick_s = SLICE_S / questions

    def __call__(self) -> float:
        self.asked += 1
        return self.asked * self._tick_s


@pytest.mark.parametrize("questions", [1, 5, 40])
def test_the_clock_is_asked_again_and_again_and_ends_the_slice(questions: int) -> None:
    machine = begun(each("(ap i $o)"))
    (request,) = machine.merge(Known((), {})).requests
    clock, effects = Ticking(questions), None
    run, asked = machine.resolving({request.instance: Answered(DATA)}), [0]
    while effects is None:
        effects = run.advance(SLICE_STEPS, clock)
        asked.append(clock.asked)
    assert len(asked) > 400 // questions
    assert max(later - before for before, later in itertools.pairwise(asked)) <= questions + 20


# --- texts of errors


JSON: Final = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.integers(1, 40))
def test_a_text_that_is_too_long_is_the_beginning_of_the_whole_one(value: Any, most: int) -> None:
    whole = json_text(value)
    assert json.loads(whole) == value
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shown, "TEXT_BYTES_MAX", most)
        patch.setattr(shown, "SHOWN_CHARACTERS", max(1, most // 2))
        cut = json_text(value)
    if len(whole.encode()) <= most:
        assert cut == whole
    else:
        assert cut == whole[: max(1, most // 2)] + shown.TOO_LONG
