"""What each instruction does, as small flows."""

from __future__ import annotations

from typing import Any

import pytest
from fluvial.air.machine.outcomes import Failed
from fluvial.air.machine.provenance import Provenance

from tests.core.air.machine.flows import TIMESTAMP_MS, TTL_MS, Flow

BAD = Failed(3, '"bad"')
HERE = "%init_peer_id%"


def show(*values: str) -> str:
    """A call that shows values to the test."""
    return f'(call {HERE} ("t" "show") [{" ".join(values)}])'


def shown(script: str, services: dict[str, Any] | None = None) -> list[list[Any]]:
    """The arguments of each call that shows something."""
    return Flow(script, services).run().arguments_of("t.show")


# --- call


def test_call_hands_over_every_kind_of_argument() -> None:
    values = ['"text"', "1", "-2.5", "true", "[]", HERE, "%timestamp%", "%ttl%", ":error:", "%last_error%"]
    none = {"error_code": 0, "message": ""}
    assert shown(show(*values)) == [["text", 1, -2.5, True, [], "@a", TIMESTAMP_MS, TTL_MS, none, none]]


def test_call_goes_to_its_peer_and_its_result_comes_back() -> None:
    flow = Flow(f'(seq (call "@b" ("s" "f") [1] x) {show("x")})', {"s.f": {"k": "v"}}).run()
    assert flow.made == ["b s.f", "a t.show"]
    assert flow.arguments_of("t.show") == [[{"k": "v"}]]


def test_peer_service_and_function_may_be_values() -> None:
    services = {"s.where": {"peer": "@b", "service": "s", "function": "f"}}
    script = f'(seq (call {HERE} ("s" "where") [] w) (call w.$.peer (w.$.service w.$.function) [] x))'
    assert Flow(script, services).run().made == ["a s.where", "b s.f"]


def test_arguments_carry_where_they_come_from() -> None:
    flow = Flow('(seq (call "@b" ("s" "f") [] x) (call "@a" ("t" "g") [x.$.k.[0] "lit" x]))', {"s.f": {"k": [7]}})
    seen = []
    answer = flow.answer
    flow.answer = lambda name, request: (seen.append(request.tetraplets), answer(name, request))[1]  # type: ignore[method-assign,func-returns-value]
    flow.run()
    b = flow.names.keys["b"].peer_id
    assert [list(origins) for origins in seen[-1]] == [
        [Provenance(b, "s", "f", ".$.k.[0]")],
        [Provenance(flow.particle.initiator)],
        [Provenance(b, "s", "f")],
    ]


def test_request_says_where_its_call_stands() -> None:
    flow = Flow('(seq\n  (null)\n  (call "@a" ("s" "f") []))')
    (request,) = flow.merge("a", b"").requests
    assert (request.at.line, request.at.column) == (3, 3)


# --- seq, par, xor, match, mismatch, null, never


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (f"(seq {show('1')} {show('2')})", [[1], [2]]),
        (f"(seq (seq {show('1')} {show('2')}) (seq {show('3')} {show('4')}))", [[1], [2], [3], [4]]),
        (f"(seq (never) {show('1')})", []),
        (f"(seq (null) {show('1')})", [[1]]),
        (f"(par {show('1')} {show('2')})", [[1], [2]]),
        (f"(par (never) {show('2')})", [[2]]),
        (f"(seq (par (never) (null)) {show('1')})", [[1]]),
        (f"(seq (par (never) (never)) {show('1')})", []),
        (f'(par (fail 1 "x") {show("1")})', [[1]]),
        (f'(seq (par (fail 1 "x") (null)) {show("1")})', [[1]]),
        (f'(xor (par (fail 1 "x") (fail 2 "y")) {show(":error:.$.instruction")})', [['fail 2 "y"']]),
        (f"(xor (null) {show('1')})", []),
        (f'(xor (fail 1 "x") {show("1")})', [[1]]),
        (f'(xor (seq {show("1")} (fail 1 "x")) {show("2")})', [[1], [2]]),
        (f"(xor (never) {show('1')})", []),
        (f'(seq (xor (fail 1 "x") (null)) {show("1")})', [[1]]),
        (f"(match 1 1 {show('1')})", [[1]]),
        (f"(xor (match 1 2 {show('1')}) {show('2')})", [[2]]),
        (f"(xor (match 1 1.0 {show('1')}) {show('2')})", [[2]]),
        (f"(xor (match 1 true {show('1')}) {show('2')})", [[2]]),
        (f'(xor (match 1 "1" {show("1")}) {show("2")})', [[2]]),
        (f"(match [] [] {show('1')})", [[1]]),
        (f"(mismatch 1 2 {show('1')})", [[1]]),
        (f"(xor (mismatch 1 1 {show('1')}) {show('2')})", [[2]]),
    ],
)
def test_control_flow(script: str, expected: list[list[Any]]) -> None:
    assert shown(script) == expected


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": None}]}, True),
        ({"a": [1, {"b": None}]}, {"a": [1, {"b": False}]}, False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, 2], [1, 2.0], False),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ([1], {"0": 1}, False),
        ([True], [1], False),
    ],
)
def test_match_compares_deeply(left: Any, right: Any, equal: bool) -> None:
    script = f"""
        (seq (seq (call {HERE} ("s" "left") [] l) (call {HERE} ("s" "right") [] r))
          (par (match l r {show("1")}) (mismatch l r {show("2")})))
    """
    assert shown(script, {"s.left": left, "s.right": right}) == [[1] if equal else [2]]


# --- ap, new


def test_ap_binds_and_collects() -> None:
    assert shown(f"(seq (ap 1 x) {show('x')})") == [[1]]
    script = f'(seq (seq (ap 1 $s) (ap "two" $s)) (seq (canon {HERE} $s #c) {show("#c", "#c.$.[1]", "#c.length")}))'
    assert shown(script) == [[[1, "two"], "two", 2]]


def test_ap_of_a_canon_is_an_array() -> None:
    script = f"(seq (seq (ap 1 $s) (canon {HERE} $s #c)) (seq (ap #c x) (fold x i (seq {show('i')} (next i)))))"
    assert shown(script) == [[1]]


def test_new_hides_a_scalar_and_gives_the_old_one_back() -> None:
    script = f"(seq (ap 1 x) (seq (new x (seq (ap 2 x) {show('x')})) {show('x')}))"
    assert shown(script) == [[2], [1]]
    script = f"(seq (ap 1 x) (xor (new x {show('x')}) {show(':error:.$.error_code')}))"
    assert shown(script) == [[10009]]


def test_new_stream_is_a_stream_of_its_own_each_time() -> None:
    inner = f"(new $s (seq (ap i $s) (seq (canon {HERE} $s #c) {show('#c')})))"
    script = f"""
        (seq (call {HERE} ("s" "l") [] xs)
          (seq (ap 0 $s)
            (seq (fold xs i (seq {inner} (next i)))
              (seq (canon {HERE} $s #outer) {show("#outer")}))))
    """
    assert shown(script, {"s.l": [1, 2]}) == [[[1]], [[2]], [[0]]]


# --- fold


def test_fold_over_an_array_visits_in_order() -> None:
    script = f'(seq (call {HERE} ("s" "l") [] xs) (fold xs x (seq {show("x")} (next x)) {show("0")}))'
    assert shown(script, {"s.l": [1, 2, 3]}) == [[1], [2], [3], [0]]
    assert shown(script, {"s.l": []}) == []


def test_what_follows_next_is_done_on_the_way_back() -> None:
    script = f'(seq (call {HERE} ("s" "l") [] xs) (fold xs x (seq (next x) {show("x")})))'
    assert shown(script, {"s.l": [1, 2, 3]}) == [[3], [2], [1]]


def test_fold_without_next_visits_the_first_element_only() -> None:
    script = f'(seq (call {HERE} ("s" "l") [] xs) (fold xs x {show("x")}))'
    assert shown(script, {"s.l": [1, 2, 3]}) == [[1]]


def test_folds_nest_and_scalars_are_local_to_an_iteration() -> None:
    inner = f'(fold xs y (seq (seq (call {HERE} ("s" "id") [x y] v) {show("v")}) (next y)))'
    script = f'(seq (call {HERE} ("s" "l") [] xs) (fold xs x (seq {inner} (next x))))'
    assert shown(script, {"s.l": [1, 2], "s.id": lambda x, y: [x, y]}) == [[[1, 1]], [[1, 2]], [[2, 1]], [[2, 2]]]


def test_next_of_an_outer_fold_inside_an_inner_one_visits_every_element_once_for_each() -> None:
    script = (
        f'(seq (call {HERE} ("s" "l") [] xs) (fold xs x (fold xs y (seq {show("x", "y")} (par (next x) (next y))))))'
    )
    calls = shown(script, {"s.l": [1, 2]})
    assert sorted(calls) == [[1, 1], [1, 2], [2, 1], [2, 1], [2, 2], [2, 2]]


def test_fold_in_parallel_asks_all_peers_at_once() -> None:
    script = f'(seq (call {HERE} ("s" "l") [] ps) (fold ps p (par (call p ("s" "f") [p]) (next p))))'
    flow = Flow(script, {"s.l": ["@b", "@c"]}).run()
    assert flow.made == ["a s.l", "b s.f", "c s.f"]


def test_fold_over_a_stream_sees_what_its_body_adds() -> None:
    script = f"""
        (seq (ap 0 $s)
          (fold $s x
            (seq (call {HERE} ("s" "more") [x] y)
              (seq (xor (match y "end" (null)) (ap y $s)) (next x)))
            (null)))
    """
    flow = Flow(script, {"s.more": lambda x: x + 1 if x < 3 else "end"}).run()
    assert flow.arguments_of("s.more") == [[0], [1], [2], [3]]


def test_fold_over_a_stream_does_not_see_what_a_later_instruction_adds() -> None:
    script = f"(par (seq (ap 1 $s) (fold $s x (par {show('x')} (next x)))) (ap 2 $s))"
    assert shown(script) == [[1]]


def test_error_in_the_body_of_a_stream_fold_does_not_leave_it() -> None:
    script = f'(seq (ap 1 $s) (seq (fold $s x (seq (fail 1 "x") (next x)) (null)) {show("1")}))'
    flow = Flow(script).run()
    assert flow.made == []
    assert flow.errors == []


def test_stream_keeps_the_order_in_which_this_peer_learned_of_elements() -> None:
    script = """
        (seq
          (par (par (call "@b" ("s" "b") [] $s) (call "@c" ("s" "c") [] $s)) (null))
          (null))
    """
    collect = f'(seq {script} (par (seq (call "@b" ("s" "hop") []) (call "@a" ("s" "hop") [])) (null)))'
    flow = Flow(f'(seq {collect} (seq (canon "@a" $s #s) {show("#s")}))', {"s.b": "from b", "s.c": "from c"}).run()
    assert set(map(tuple, flow.arguments_of("t.show")[0])) <= {("from b", "from c"), ("from b",), ("from c",), ()}


# --- canon and maps


def test_canon_is_the_same_everywhere_though_more_is_added_later() -> None:
    script = """
        (seq (seq (ap 1 $s) (canon "@b" $s #c))
          (seq (ap 2 $s)
            (seq (call "@c" ("t" "show") [#c]) (call "@a" ("t" "show") [#c]))))
    """
    assert Flow(script).run().arguments_of("t.show") == [[[1]], [[1]]]


def test_canon_of_a_stream_that_nobody_wrote_to_is_empty() -> None:
    assert shown(f"(seq (canon {HERE} $s #c) {show('#c', '#c.length')})") == [[[], 0]]


def test_map_keeps_all_pairs() -> None:
    script = f"""
        (seq (seq (ap ("k" 1) %m) (seq (ap ("k" 2) %m) (ap (5 "five") %m)))
          (seq (canon {HERE} %m #%c)
            (seq (canon {HERE} %m whole)
              (seq {show("#%c", "#%c.$.k", "#%c.$.k.[1]", "#%c.$.[5]", "#%c.$.none", "#%c.length", "whole")}
                (fold #%c kv (seq {show("kv.$.key", "kv.$.value")} (next kv)))))))
    """
    assert shown(script) == [
        [{"5": ["five"], "k": [1, 2]}, [1, 2], 2, ["five"], [], 3, {"5": "five", "k": 1}],
        ["k", 1],
        ["k", 2],
        [5, "five"],
    ]


def test_fold_over_a_map_visits_pairs() -> None:
    script = f'(seq (ap ("k" 1) %m) (fold %m kv (seq {show("kv")} (next kv)) (null)))'
    assert shown(script) == [[{"key": "k", "value": 1}]]


# --- parts


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("x.$.name", "n"),
        ("x.$.list.[1]", 20),
        ("x.$.list[1]", 20),
        ("x.$.deep.[0].k", "v"),
        ("x.$.list.length", {"error": 10007}),
        ("y.length", 2),
        ("x.length", {"error": 10010}),
        ("x.$.[key]", "n"),
        ("y.$.[one]", 20),
        ("x.$.none", {"error": 10007}),
        ("y.$.[2]", {"error": 10007}),
        ("y.$.name", {"error": 10007}),
        ("x.$.[0]", {"error": 10007}),
        ("y.$.[key]", {"error": 10007}),
        ("x.$.[y]", {"error": 10007}),
    ],
)
def test_parts_of_values(part: str, expected: Any) -> None:
    services = {"s.x": {"name": "n", "list": [10, 20], "deep": [{"k": "v"}]}, "s.y": [10, 20]}
    script = f"""
        (seq (seq (call {HERE} ("s" "x") [] x) (call {HERE} ("s" "y") [] y))
          (seq (seq (ap "name" key) (ap 1 one))
            (xor {show(part)} {show(":error:.$.error_code")})))
    """
    assert shown(script, services) == [[expected["error"] if isinstance(expected, dict) else expected]]


# --- fail and errors


@pytest.mark.parametrize(
    ("failing", "code"),
    [
        ('(call %init_peer_id% ("s" "bad") [])', 10000),
        ("(match 1 2 (null))", 10001),
        ("(mismatch 1 1 (null))", 10002),
        ("(fold obj i (null))", 10005),
        ('(fail 7 "text")', 10006),
        ("(ap obj.$.none y)", 10007),
        ("(fail obj)", 10008),
        ("(fail :error:)", 10008),
        ("(new z (ap z y))", 10009),
        ("(ap obj.length y)", 10010),
        ('(call obj ("s" "f") [])', 10011),
        ("(ap (obj 1) %m)", 10012),
    ],
)
def test_catchable_errors(failing: str, code: int) -> None:
    script = f'(seq (call {HERE} ("s" "obj") [] obj) {failing})'
    flow = Flow(script, {"s.obj": {}, "s.bad": BAD}).run()
    assert flow.codes[-1:] == [("a", code)]
    error = flow.errors[-1][1]
    assert error.instruction is not None
    assert error.instruction.at.line == 1
    caught = f"(xor {script} {show(':error:.$.error_code')})"
    assert shown(caught, {"s.obj": {}, "s.bad": BAD}) == [[code]]


def test_error_says_which_instruction_failed_and_where() -> None:
    script = f'(xor (seq (null)\n   (call "@b" ("s" "bad") [1] out)) {show(":error:", "%last_error%")})'
    (arguments,) = shown(script, {"s.bad": BAD})
    wanted = {
        "error_code": 10000,
        "message": "Local service error, ret_code is 3, error message is '\"bad\"'",
        "instruction": 'call "@b" ("s" "bad") [1] out',
        "peer_id": "@b",
    }
    assert arguments == [wanted, wanted]
    flow = Flow('(seq (null)\n   (call "@a" ("s" "bad") [1] out))', {"s.bad": BAD}).run()
    instruction = flow.errors[-1][1].instruction
    assert instruction is not None
    assert (instruction.at.line, instruction.at.column) == (2, 4)


def test_fail_throws_an_object_and_a_caught_error_again() -> None:
    script = f'(xor (xor (fail 7 "text") (fail :error:)) {show(":error:.$.error_code", "%last_error%.$.error_code")})'
    assert shown(script) == [[10006, 10006]]
    script = f'(xor (seq (call {HERE} ("s" "e") [] e) (fail e)) {show("%last_error%")})'
    assert shown(script, {"s.e": {"error_code": 5, "message": "m", "more": 1}}) == [
        [{"error_code": 5, "message": "m", "more": 1}]
    ]


def test_error_of_an_outer_handler_survives_a_successful_inner_one() -> None:
    inner = f'(xor (fail 2 "inner") {show(":error:.$.instruction")})'
    script = f'(xor (fail 1 "outer") (seq {inner} {show(":error:.$.instruction")}))'
    assert shown(script) == [['fail 2 "inner"'], ['fail 1 "outer"']]


def test_last_error_skips_failed_tests_and_outlives_its_handler() -> None:
    script = f'(seq (xor (fail 1 "x") (null)) (seq (xor (match 1 2 (null)) (null)) {show("%last_error%.$.message", ":error:.$.message")}))'
    assert shown(script) == [["x", ""]]


def test_failed_call_is_never_complete() -> None:
    flow = Flow(f'(seq (par (call "@a" ("s" "bad") []) (never)) {show("1")})', {"s.bad": BAD}).run()
    assert flow.made == ["a s.bad"]


def test_failure_on_another_peer_is_handled_where_the_handler_s_call_stands() -> None:
    script = '(xor (call "@b" ("s" "bad") []) (call "@c" ("s" "mend") [:error:.$.peer_id]))'
    flow = Flow(script, {"s.bad": BAD}).run()
    assert flow.calls[-1] == ("c", "s.mend", ["@b"])


# --- white paper forms


def test_value_may_name_a_peer_and_a_service_on_it() -> None:
    script = f'(seq (call {HERE} ("s" "pair") [] p) (call p "f" [1] x))'
    for pair in (
        {"peer": "@b", "service": "svc"},
        {"peer_id": "@b", "service_id": "svc"},
        {"peer_pk": "@b", "service": "svc"},
        ["@b", "svc"],
    ):
        assert Flow(script, {"s.pair": pair}).run().made == ["a s.pair", "b svc.f"]
    for wrong in ({"peer": 1, "service": "svc"}, {}, ["@b"], 5):
        assert Flow(script, {"s.pair": wrong}).run().codes == [("a", 10011)]


def test_a_fold_over_a_stream_without_next_is_complete_with_its_first_body() -> None:
    script = '(seq (ap 1 $s) (seq (fold $s x (call "@a" ("s" "f") [x])) (call "@a" ("s" "end") [])))'
    assert Flow(script).run().made == ["a s.f", "a s.end"]
