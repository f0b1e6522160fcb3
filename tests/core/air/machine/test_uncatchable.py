"""Errors that end a run: what came with it is undone, what services answered stays."""

from __future__ import annotations

import pytest
from fluvial.air.data.facts import Instance
from fluvial.air.machine.errors import Uncatchable
from fluvial.air.machine.outcomes import Answered, Failed

from tests.core.air.machine.flows import NOTHING, Flow

TWICE = """
    (seq (call "@a" ("s" "f") [] x)
      (seq (call "@b" ("s" "g") [] $s)
        (call "@a" ("s" "h") [] x)))
"""


@pytest.mark.parametrize(
    ("before", "wrong", "code"),
    [
        ("(ap 1 x)", "(ap 2 x)", 20007),
        ("(ap 1 x)", '(call "@b" ("s" "f") [] x)', 20007),
        ("(canon %init_peer_id% $s #x)", "(canon %init_peer_id% $s #x)", 20007),
        ('(call "@a" ("s" "l") [] l)', "(fold l x (ap 1 x))", 20004),
        ('(call "@a" ("s" "l") [] l)', '(fold l x (call "@b" ("s" "f") [] x))', 20004),
    ],
)
def test_names_that_may_not_be_set_end_the_run(before: str, wrong: str, code: int) -> None:
    flow = Flow(f"(seq {before}\n  {wrong})", {"s.l": [1]}).run()
    ((name, error),) = flow.errors
    assert (name, error.code) == ("a", code)
    assert isinstance(error, Uncatchable)
    assert "`#x`" in error.message or "`x`" in error.message
    assert error.instruction is not None
    assert error.instruction.at.line == 2
    assert "b s.f" not in flow.made


def test_call_that_waits_counts_behind_what_sets_its_name() -> None:
    flow = Flow('(par (call "@a" ("s" "f") [] x) (call "@b" ("s" "g") [] x))').run()
    assert ("a", 20007) in flow.codes
    assert "b s.g" not in flow.made


def test_call_that_waits_does_not_count_before_what_sets_its_name() -> None:
    flow = Flow('(par (call "@b" ("s" "g") [] x) (seq (ap 1 x) (call "@a" ("s" "f") [x])))').run()
    assert flow.arguments_of("s.f") == [[1]]
    assert flow.codes[0] == ("b", 20007)


def test_the_other_branch_of_a_par_may_not_set_a_name_again() -> None:
    assert Flow("(par (ap 1 x) (ap 2 x))").run().codes == [("a", 20007)]


def test_xor_does_not_catch_them() -> None:
    flow = Flow('(xor (seq (ap 1 x) (ap 2 x)) (call "@a" ("s" "f") []))').run()
    assert flow.codes == [("a", 20007)]
    assert flow.made == []


def test_nothing_of_an_undone_run_is_asked_for_or_written() -> None:
    flow = Flow('(par (call "@a" ("s" "f") []) (par (call "@b" ("s" "g") []) (seq (ap 1 x) (ap 2 x))))')
    effects = flow.merge("a", b"")
    assert (effects.records, effects.requests, effects.next_peers) == ((), (), ())
    assert flow.machine("a").batches() == ()


def test_received_batches_of_an_undone_run_are_forgotten() -> None:
    flow = Flow(TWICE)
    effects = flow.merge("a", b"")
    flow.resolve("a", {effects.requests[0].instance: Answered(1)})
    effects = flow.merge("b", flow.depart("a"))
    flow.resolve("b", {effects.requests[0].instance: Answered(2)})
    before = flow.machine("a").batches()
    waits = flow.machine("a").waits()
    effects = flow.merge("a", flow.depart("b"))
    assert effects.error is not None
    assert effects.error.code == 20007
    assert effects.records == ()
    assert flow.machine("a").batches() == before
    assert flow.machine("a").waits() == waits


CLASH = """
    (par (call "@a" ("s" "f") [] x)
      (par (call "@a" ("s" "g") [] y)
        (seq (match y "ok" (ap 1 x)) (call "@a" ("s" "h") [x]))))
"""


def test_outcomes_stay_though_their_run_is_undone() -> None:
    """A repeated particle must not make the service do its work again."""
    flow = Flow(CLASH, {"s.g": "ok"})
    f, g = flow.merge("a", b"").requests
    undone = flow.resolve("a", {f.instance: Answered("from f"), g.instance: Answered("ok")})
    assert undone.error is not None
    assert undone.error.code == 20007
    assert undone.requests == undone.next_peers == ()
    (record,) = undone.records
    assert not record.evaluated  # type: ignore[union-attr]  # a step
    for again in (flow.merge("a", b""), flow.restart("a").merge(NOTHING)):
        assert again.requests == ()
        assert again.error is not None
        assert again.error.code == 20007


def test_other_calls_in_flight_go_on_after_an_undone_run() -> None:
    script = (
        '(par (call "@a" ("s" "slow") [] z) (par (call "@a" ("s" "f") [] x) (seq (call "@a" ("s" "g") [] y) (ap 1 x))))'
    )
    flow = Flow(script)
    slow, f, g = flow.merge("a", b"").requests
    undone = flow.resolve("a", {f.instance: Answered(1), g.instance: Answered(2)})
    assert undone.error is not None
    later = flow.resolve("a", {slow.instance: Failed(1, '"late"')})
    assert later.error is not None
    assert later.error.code == 20007
    assert later.requests == ()
    assert flow.merge("a", b"").requests == ()


def test_unknown_requests_are_the_host_s_bug() -> None:
    flow = Flow('(call "@a" ("s" "f") [])')
    flow.merge("a", b"")
    with pytest.raises(KeyError):
        flow.resolve("a", {Instance(b"", 99): Answered(1)})


def test_a_name_that_was_set_behind_a_call_does_not_keep_it_from_being_made() -> None:
    flow = Flow('(par (call "@b" ("s" "x") [] v) (call "@a" ("s" "y") [] v))').run()
    assert flow.made == ["a s.y", "b s.x"]
    assert flow.codes == [("b", 20007)]


def test_a_name_that_a_call_behind_will_set_cannot_be_set() -> None:
    flow = Flow('(par (call "@a" ("s" "x") [] v) (call "@b" ("s" "y") [] v))').run()
    assert ("a", 20007) in flow.codes
