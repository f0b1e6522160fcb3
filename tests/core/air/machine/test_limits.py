"""What a script can be made to cost is bounded: an error that ends the run, never a crash, never a standstill."""

from __future__ import annotations

import sys
import time

import pytest
from fluvial.air.machine import runtime
from fluvial.air.machine.lambdas import LENS_CHARACTERS_MAX
from fluvial.air.machine.shown import TEXT_BYTES_MAX, TOO_LONG
from fluvial.air.machine.streams import ELEMENTS_MAX

from tests.core.air.machine.flows import Flow

LIST = '(call "@a" ("s" "l") [] xs)'


def fold(body: str) -> str:
    return f"(seq {LIST} (fold xs x {body}))"


def test_fold_of_5000_elements() -> None:
    script = f'(seq {LIST} (seq (fold xs x (seq (null) (next x))) (call "@a" ("s" "end") [])))'
    assert Flow(script, {"s.l": list(range(5_000))}).run().made == ["a s.l", "a s.end"]


def test_error_comes_out_of_5000_nested_iterations() -> None:
    script = f'(seq {LIST} (fold xs x (xor (next x) (fail 1 "on the way out")) (fail 2 "innermost")))'
    flow = Flow(script, {"s.l": list(range(5_000))}).run()
    assert flow.codes == [("a", 10006)]


def test_calls_in_1000_parallel_iterations() -> None:
    flow = Flow(fold('(par (call "@a" ("s" "f") [x]) (next x))'), {"s.l": list(range(1_000))}).run()
    assert flow.arguments_of("s.f") == [[number] for number in range(1_000)]


def test_100000_levels_at_run_time_need_no_more_python_calls_within_each_other_than_usual() -> None:
    limit = sys.getrecursionlimit()
    script = f'(seq {LIST} (seq (fold xs x (seq (null) (xor (next x) (null)))) (call "@a" ("s" "end") [])))'
    flow = Flow(script, {"s.l": list(range(33_000))}).run()
    assert flow.made == ["a s.l", "a s.end"]
    assert sys.getrecursionlimit() == limit


def test_pairs_within_each_other_are_bounded() -> None:
    script = '(seq (ap ("k" "innermost") %m) (fold %m pair (seq (ap ("k" pair) %m) (next pair))))'
    started = time.monotonic()
    flow = Flow(script).run()
    assert flow.codes == [("a", 20100)]
    assert "pairs within each other" in flow.errors[0][1].message
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("part", ["(ap v.$.[name] y)", "(seq (ap v.$.[name] y) (ap y.$.[name] z))"])
def test_a_lens_is_bounded(part: str) -> None:
    """Each of thousands of values would have a text of its own that is as long as a name in the script."""
    short, long = "n" * (LENS_CHARACTERS_MAX // 2 - 10), "n" * LENS_CHARACTERS_MAX

    def flow_of(name: str) -> Flow:
        script = f'(seq (call "@a" ("s" "v") [] v) (seq (ap 0 name) (seq {part} (call "@a" ("s" "end") [])))))'
        return Flow(script.replace("name", name).removesuffix(")"), {"s.v": [[1]]}).run()

    assert flow_of(short).made == ["a s.v", "a s.end"]
    ended = flow_of(long)
    assert ended.codes == [("a", 20100)]
    assert "lens" in ended.errors[0][1].message


def test_a_path_of_thousands_of_steps_leads_nowhere() -> None:
    script = f'(seq (call "@a" ("s" "v") [] v) (xor (ap v.${".[0]" * 20_000} y) (call "@a" ("s" "caught") [])))'
    assert Flow(script, {"s.v": [[1]]}).run().made == ["a s.v", "a s.caught"]


@pytest.mark.parametrize("most", [runtime.WORK_MAX // 10, pytest.param(runtime.WORK_MAX, marks=pytest.mark.long)])
def test_exponential_script_ends(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "WORK_MAX", most)
    body = "(null)"
    for name in "abcdef":
        body = f"(fold xs {name} (seq {body} (next {name})))"
    started = time.process_time()
    flow = Flow(f"(seq {LIST} {body})", {"s.l": list(range(100))}).run()
    assert flow.codes == [("a", 20100)]
    assert "executed instructions" in flow.errors[0][1].message
    assert time.process_time() - started < 30


def test_elements_that_a_fold_does_not_reach_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "WORK_MAX", 10_000)
    flow = Flow(fold("(seq (fold xs y (null)) (next x))"), {"s.l": list(range(1_000))}).run()
    assert flow.codes == [("a", 20100)]


def test_elements_of_canons_as_arguments_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "WORK_MAX", 10_000)
    collect = f"{fold('(par (ap x $s) (next x))')}"
    arguments = " ".join(["#c"] * 100)
    script = f'(seq {collect} (seq (canon "@a" $s #c) (call "@a" ("s" "f") [{arguments}])))'
    flow = Flow(script, {"s.l": list(range(500))}).run()
    assert flow.codes == [("a", 20100)]
    assert flow.made == ["a s.l"]


@pytest.mark.parametrize(("count", "codes"), [(ELEMENTS_MAX, []), (ELEMENTS_MAX + 1, [("a", 20013)])])
def test_streams_hold_1023_elements(count: int, codes: list[tuple[str, int]]) -> None:
    script = f'(seq {fold("(seq (ap x $s) (next x))")} (seq (canon "@a" $s #c) (call "@a" ("s" "n") [#c.length])))'
    flow = Flow(script, {"s.l": list(range(count))}).run()
    assert flow.codes == codes
    assert flow.arguments_of("s.n") == ([] if codes else [[ELEMENTS_MAX]])


def test_endless_stream_fold_ends() -> None:
    flow = Flow("(seq (ap 1 $s) (fold $s x (seq (ap x $s) (next x)) (null)))").run()
    assert flow.codes == [("a", 20013)]


def test_canons_of_canons_do_not_double_without_end() -> None:
    body = '(seq (seq (canon "@a" $s #c) (ap #c $s)) (next x))'
    started = time.monotonic()
    flow = Flow(fold(body), {"s.l": list(range(100))}).run()
    assert flow.codes == [("a", 20100)]
    assert "canon cannot fix $s: its values are larger" in flow.errors[0][1].message
    assert time.monotonic() - started < 30


def test_canons_of_canons_do_not_nest_deeper_than_peers_take() -> None:
    chain = "(ap 1 $s0)"
    for level in range(140):
        chain = f'(seq {chain} (seq (canon "@a" $s{level} #c{level}) (ap #c{level} $s{level + 1})))'
    flow = Flow(chain).run()
    assert flow.codes == [("a", 20100)]
    assert "nested deeper than 128" in flow.errors[0][1].message


def test_errors_about_errors_do_not_double_without_end() -> None:
    script = '(fail 1 "x")'
    for level in range(60):
        script = f"(xor {script} (seq (ap :error: e{level}) (fail e{level})))"
    flow = Flow(script).run()
    assert flow.codes == [("a", 10006)]
    assert len(flow.errors[0][1].message) < 2 * TEXT_BYTES_MAX


@pytest.mark.parametrize(
    ("failing", "code"),
    [
        ('(call "@a" ("s" "use") [big.$.none])', 10007),
        ("(fold big x (null))", 10005),
        ('(call big ("s" "use") [])', 10011),
        ("(fail big)", 10008),
        ('(call "@a" ("s" "use") [big.length])', 10010),
    ],
)
def test_an_error_about_a_large_value_is_caught_and_shows_its_beginning(failing: str, code: int) -> None:
    handler = '(call "@a" ("s" "h") [:error:.$.error_code :error:.$.message])'
    flow = Flow(
        f'(seq (call "@a" ("s" "l") [] big) (xor {failing} {handler}))', {"s.l": {"k": "x" * TEXT_BYTES_MAX}}
    ).run()
    ((shown, message),) = flow.arguments_of("s.h")
    assert shown == code
    assert '{"k":"xxx' in message
    assert TOO_LONG in message
    assert len(message) < 2_000
    assert flow.codes == []


def test_1500_nested_instructions_run() -> None:
    script = '(call "@a" ("s" "f") [])'
    for _ in range(300):
        script = f"(par (xor (seq (null) {script}) (null)) (null))"
    assert Flow(script).run().made == ["a s.f"]
