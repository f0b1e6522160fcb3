"""What waits, for whom, and who sends the particle where."""

from __future__ import annotations

from fluvial.air.data.facts import Sent, Taken
from fluvial.air.data.log import Stepped
from fluvial.air.machine.findings import Visit
from fluvial.air.machine.outcomes import Answered, Failed

from tests.core.air.machine.flows import Flow

JOIN = """
    (seq (par (call "@b" ("s" "x") [] x) (call "@c" ("s" "y") [] y))
      (call "@a" ("s" "end") [x y]))
"""


def waits(flow: Flow, name: str) -> list[tuple[str, str | None]]:
    """Reason and peer of each wait on a peer, with names for ids."""
    return [
        (flow.names.to_names(wait.reason), flow.names.to_names(wait.peer) if wait.peer else None)
        for wait in flow.machine(name).waits()
    ]


def test_own_call_waits_for_the_service() -> None:
    flow = Flow('(call "@a" ("s" "f") [])')
    effects = flow.merge("a", b"")
    assert waits(flow, "a") == [("the service has not answered yet", None)]
    assert not effects.finished
    effects = flow.resolve("a", {effects.requests[0].instance: Answered(1)})
    assert (waits(flow, "a"), effects.finished) == ([], True)


def test_call_of_another_peer_waits_for_it() -> None:
    flow = Flow('(call "@b" ("s" "f") [])')
    effects = flow.merge("a", b"")
    assert waits(flow, "a") == [("@b has not answered yet", "@b")]
    assert effects.next_peers == (flow.names.keys["b"].peer_id,)
    assert not effects.finished


def test_calls_without_a_fact_are_awaited_from_their_peers_also_while_an_argument_is_unknown() -> None:
    flow = Flow('(par (call "@b" ("s" "x") [] x) (par (call "@c" ("s" "y") [x]) (call "@a" ("s" "z") [])))')
    effects = flow.merge("a", b"")
    machine = flow.machine("a")
    whose = [(instance.node, flow.names.to_names(peer)) for instance, peer in machine.awaited().items()]
    assert sorted(whose) == [(1, "@b"), (3, "@c"), (4, "@a")]
    flow.resolve("a", {effects.requests[0].instance: Answered(1)})
    assert [instance.node for instance in machine.awaited()] == [1, 3]


def test_instructions_wait_for_names_and_say_which() -> None:
    for instruction in (
        "(ap x y)",
        "(match x 1 (null))",
        "(fold x i (null))",
        '(call x ("s" "f") [])',
        "(ap 1 y)",
        "(canon x $s #c)",
    ):
        script = f'(par (call "@b" ("s" "x") [] x) (seq {instruction} (call "@a" ("s" "after") [])))'
        flow = Flow(script)
        effects = flow.merge("a", b"")
        if instruction == "(ap 1 y)":
            assert [request.function for request in effects.requests] == ["after"]
        else:
            assert ("`x` has no value yet", None) in waits(flow, "a")
            assert effects.requests == ()


def test_own_call_with_a_missing_argument_waits_and_leaves_no_fact() -> None:
    flow = Flow('(par (call "@b" ("s" "x") [] x) (call "@a" ("s" "f") [x]))')
    effects = flow.merge("a", b"")
    assert waits(flow, "a")[1] == ("`x` has no value yet", None)
    (record,) = effects.records
    assert isinstance(record, Stepped)
    assert [type(fact) for fact in record.facts] == [Sent]


def test_canon_of_another_peer_and_stream_folds_wait() -> None:
    script = """
        (par (seq (ap 1 $s) (canon "@b" $s #c))
          (par (call "@c" ("s" "t") [] $t) (fold $t i (null))))
    """
    flow = Flow(script)
    flow.merge("a", b"")
    reasons = waits(flow, "a")
    assert ("@b has not fixed `$s` yet", "@b") in reasons
    assert ("nothing was written to `$t` yet", None) in reasons


def test_branches_meet_where_the_last_argument_arrives() -> None:
    flow = Flow(JOIN, {"s.x": 1, "s.y": 2}, peers=("a", "b", "c")).run()
    assert flow.made == ["b s.x", "c s.y", "a s.end"]
    assert flow.arguments_of("s.end") == [[1, 2]]


def test_waiting_peer_collects_the_arguments_of_its_call() -> None:
    script = '(seq (par (call "@b" ("s" "x") [] x) (call "@c" ("s" "y") [] y)) (call "@d" ("s" "end") [x y]))'
    flow = Flow(script, {"s.x": 1, "s.y": 2}, peers=("a", "b", "c", "d")).run()
    assert flow.arguments_of("s.end") == [[1, 2]]
    assert flow.made.count("d s.end") == 1


def test_whoever_learns_the_last_argument_sends_once_more() -> None:
    """The reference stands still here: c is asked by a, too early, and never again."""
    flow = Flow('(par (call "@b" ("s" "x") [] x) (call "@c" ("s" "end") [x]))', {"s.x": 5}).run()
    assert flow.made == ["b s.x", "c s.end"]
    assert flow.arguments_of("s.end") == [[5]]


def test_nobody_sends_for_the_same_call_twice() -> None:
    flow = Flow('(par (call "@b" ("s" "f") []) (call "@a" ("s" "g") []))')
    effects = flow.merge("a", b"")
    assert len(effects.next_peers) == 1
    again = flow.resolve("a", {effects.requests[0].instance: Answered(None)})
    assert again.next_peers == ()
    assert flow.merge("a", b"").next_peers == ()


def test_peer_at_work_is_not_asked_by_others() -> None:
    script = '(par (seq (call "@b" ("s" "slow") [] x) (call "@a" ("s" "end") [x])) (seq (call "@b" ("s" "hop") []) (call "@c" ("s" "on") [])))'
    flow = Flow(script)
    flow.merge("a", b"")
    effects = flow.merge("b", flow.depart("a"))
    slow, hop = effects.requests
    effects = flow.resolve("b", {hop.instance: Answered(None)})
    assert effects.next_peers == (flow.names.keys["c"].peer_id,)
    at_c = flow.merge("c", flow.depart("b"))
    assert [request.function for request in at_c.requests] == ["on"]
    assert at_c.next_peers == (), "b has the call in hand: no one sends the particle back to it"
    late = flow.resolve("b", {slow.instance: Answered(5)})
    assert late.next_peers == (flow.names.keys["a"].peer_id,)


def test_running_calls_are_requested_once_and_again_after_a_restart() -> None:
    flow = Flow('(call "@a" ("s" "f") [1] x)')
    first = flow.merge("a", b"")
    assert [request.arguments for request in first.requests] == [(1,)]
    assert flow.merge("a", b"").requests == ()
    flow.restart("a")
    again = flow.merge("a", b"")
    assert [request.arguments for request in again.requests] == [(1,)]
    assert again.records == (), "that the call is in hand was written before"
    assert any(
        isinstance(fact, Taken) for record in first.records if isinstance(record, Stepped) for fact in record.facts
    )


def test_failed_script_without_waits_is_finished() -> None:
    flow = Flow('(call "@a" ("s" "f") [])', {"s.f": Failed(1, '"no"')}).run()
    assert flow.effects["a"].finished
    assert flow.codes == [("a", 10000)]


def test_an_observer_is_told_of_calls_and_canons() -> None:
    script = """
        (seq (call "@a" ("s" "f") [1] x)
          (par (call "@c" ("s" "y") [] y)
            (par (canon "@b" $s #c) (call "@b" ("s" "g") [x.$.k y]))))
    """
    flow = Flow(script)
    met: dict[tuple[bytes, int], Visit] = {}
    flow.observe("a", met.__setitem__)

    def trace() -> list[tuple[str, str, object]]:
        return [(flow.names.to_names(one.call.peer), one.call.function, one.arguments) for one in met.values()]

    effects = flow.merge("a", b"")
    assert trace() == [("@a", "f", (1,))]
    flow.resolve("a", {effects.requests[0].instance: Answered({"k": 2})})
    assert trace() == [("@a", "f", (1,)), ("@c", "y", ()), ("@b", "", ()), ("@b", "g", None)]
    assert flow.machine("a").error is None
    assert flow.merge("a", b"").records == ()


def test_what_is_set_behind_an_instruction_does_not_wake_it() -> None:
    flow = Flow("""
        (seq (call "@a" ("s" "list") [] xs)
          (fold xs x
            (seq (fold xs y (ap y z))
              (par (call "@a" ("s" "before") [z])
                (seq (ap x z) (call "@a" ("s" "behind") [z]))))))
    """)
    effects = flow.merge("a", b"")
    effects = flow.resolve("a", {effects.requests[0].instance: Answered([1])})
    assert [request.function for request in effects.requests] == ["behind"]
    assert waits(flow, "a") == [("`z` has no value yet", None), ("the service has not answered yet", None)]
