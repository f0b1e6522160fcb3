"""What a machine holds is estimated honestly, bounded, and given back."""

from __future__ import annotations

import gc
import tracemalloc

import pytest
from fluvial.air.data.batch import Known
from fluvial.air.machine.machine import Effects, Machine
from fluvial.air.machine.outcomes import Answered
from fluvial.air.machine.slices import Run
from fluvial.air.syntax import parse
from fluvial.identity import KeyPair

from tests.core.air.machine.flows import Flow
from tests.support.tracing import taken

ME = KeyPair.from_secret(bytes(32)).peer_id
OTHER = KeyPair.from_secret(bytes(31) + b"\1").peer_id
MEGABYTE = 1_000_000


def over_numbers(body: str) -> str:
    """``body`` with numbers in ``xs``; a call that is never answered keeps it alive."""
    return f'(seq (call "{ME}" ("a" "numbers") [] xs) (par (call "{OTHER}" ("a" "never") []) {body}))'


def nested(depth: int, leaf: str = "(null)", kind: str = "par") -> str:
    for level in range(depth):
        leaf = f"(fold xs i{level} ({kind} {leaf} (next i{level})))"
    return leaf


def machine(script: str, *, memory_bytes_max: int = 2**40) -> Machine:
    return Machine(
        parse(script), bytes(32), ME, initiator=ME, timestamp_ms=1, ttl_ms=1, memory_bytes_max=memory_bytes_max
    )


def played(one: Machine, count: int, *, steps: int = 1_000) -> Effects:
    """The last effects, when ``a.numbers`` is answered with so many; in slices."""

    def whole(run: Run[Effects]) -> Effects:
        while (effects := run.advance(steps)) is None:
            pass
        return effects

    effects = whole(one.merging(Known((), {})))
    requests = [request for request in effects.requests if request.function == "numbers"]
    return whole(one.resolving({requests[0].instance: Answered(list(range(count)))}))


def far_inside(body: str) -> str:
    """``body`` in fifty folds, of one iteration each: positions in there are long."""
    for level in range(50):
        body = f"(fold #one in{level} (seq {body} (next in{level})))"
    return f'(seq (ap 1 $one) (seq (canon "{ME}" $one #one) {body}))'


def then_waits(body: str) -> str:
    """Nothing of ``body`` itself is there any more when a call is waited for."""
    return f'(seq {body} (call "{OTHER}" ("a" "b") [%last_error%]))'


HOARDS = {
    "folds": (nested(3), 11),
    "deep folds": (nested(6), 3),
    "one long fold": (nested(1), 400),
    "calls": (nested(2, f'(call "{OTHER}" ("a" "b") [i0 i1] y)'), 25),
    "own calls": (nested(2, f'(call "{ME}" ("a" "b") [i0 i1] y)'), 25),
    "streams": (nested(2, "(new $s (ap i0 $s))"), 25),
    "canons": (
        f'(seq (fold xs i (seq (ap i $s) (next i))) (fold xs j (par (canon "{ME}" $s #c) (next j))))',
        60,
    ),
    "maps": (
        f'(seq (fold xs i (seq (ap ("k" i) %m) (next i))) (fold xs j (par (canon "{ME}" %m #%c) (next j))))',
        60,
    ),
    "maps of many keys": (
        f'(seq (fold xs i (seq (ap (i i) %m) (next i))) (fold xs j (par (seq (canon "{ME}" %m #%c) (call "{OTHER}" ("a" "b") [#%c])) (next j))))',
        32,
    ),
    "objects of maps": (
        f'(seq (fold xs i (seq (ap (i i) %m) (next i))) (fold xs j (par (seq (canon "{ME}" %m z) (call "{OTHER}" ("a" "b") [z])) (next j))))',
        32,
    ),
    "failures": (nested(2, '(xor (fail 1 "because") (null))'), 25),
    "names that are missing": (
        f'(par (call "{OTHER}" ("a" "late") [] late) {nested(2, "(ap late $s)")})',
        25,
    ),
}


@pytest.mark.parametrize("name", HOARDS)
def test_the_estimate_is_near_the_truth(name: str) -> None:
    body, count = HOARDS[name]
    one = machine(over_numbers(body))
    _, truth = taken(lambda: played(one, count))
    assert truth > MEGABYTE / 10
    assert 0.8 * truth <= one.held <= 8 * truth
    for _ in one._state.evaluator.memory.census():
        pass
    assert 0.8 * truth <= one.held <= 4 * truth


REMAINS = {
    "errors in a stream": (
        then_waits(
            f'(seq (ap "{"y" * 50_000}" big) {nested(1, "(xor (ap big.$.nothing z) (ap :error:.$.message $s))", "seq")})'
        ),
        12,
    ),
    "errors as pairs of a map": (
        then_waits(
            f'(seq (ap "{"y" * 50_000}" big) {nested(1, "(xor (ap big.$.nothing z) (ap (i0 :error:) %m))", "seq")})'
        ),
        12,
    ),
    "errors as arguments": (
        f'(seq (ap "{"y" * 50_000}" big) {nested(1, f"""(xor (ap big.$.nothing z) (call "{OTHER}" ("a" "b") [:error:]))""")})',
        12,
    ),
    "positions of errors": (then_waits(far_inside(nested(1, "(xor (ap i0.$.nothing z) (null))", "seq"))), 60),
    "positions in streams": (then_waits(far_inside(nested(1, "(ap i0 $s)", "seq"))), 80),
    "positions of values": (far_inside(nested(1, f"(seq {'(seq (ap 1 z) ' * 9}(ap 2 z){')' * 9} (never))")), 8),
    "values of one key": (
        f'(seq (fold xs i (seq (ap ("k" i) %m) (next i))) (seq (canon "{ME}" %m #%c) (fold xs j (seq (ap #%c.$.k $s) (next j)))))',
        150,
    ),
    "literals": (
        then_waits(f"""(xor (call "{ME}" ("a" "b") [{" ".join(map(str, range(1_000, 3_000)))} xs.$.a]) (null))"""),
        1,
    ),
    "what has decided something": (then_waits(nested(1, "(ap xs.$.[i0] z)", "seq")), 600),
    "calls that were never made": (then_waits(nested(1, f'(xor (call "{ME}" ("a" "b") [i0.$.a]) (null))', "seq")), 300),
}
"""What is there when most of what has made it has ended."""


@pytest.mark.parametrize("name", REMAINS)
def test_what_remains_counts(name: str) -> None:
    body, count = REMAINS[name]
    one = machine(over_numbers(body))
    _, truth = taken(lambda: played(one, count))
    assert truth > MEGABYTE / 10
    assert 0.8 * truth <= one.held
    for _ in one._state.evaluator.memory.census():
        pass
    assert 0.8 * truth <= one.held <= 4 * truth


@pytest.mark.parametrize("steps", [7, 1_000])
def test_what_holds_too_much_fails_for_good_in_slices_of_any_size(steps: int) -> None:
    one = machine(over_numbers(nested(3)), memory_bytes_max=2 * MEGABYTE)
    effects = played(one, 20, steps=steps)
    assert effects.error is not None
    assert (effects.error.code, effects.failed, effects.requests) == (20102, True, ())
    assert one.held < MEGABYTE / 2
    again = one.merge(Known((), {}))
    assert again.error is not None
    assert (again.error.code, again.failed, again.records) == (20102, True, ())


def test_what_has_ended_is_not_held() -> None:
    """27,000 iterations, of which few are there at the same time."""
    script = over_numbers(nested(3, kind="seq"))
    one = machine(script, memory_bytes_max=2 * MEGABYTE)
    effects = played(one, 30)
    assert (effects.error, effects.failed) == (None, False)
    assert one.steps > 100_000


def test_below_the_limit_the_limit_changes_nothing() -> None:
    script = over_numbers(nested(2, f'(call "{OTHER}" ("a" "b") [i0 i1] y)'))
    free, bounded = machine(script), machine(script, memory_bytes_max=20 * MEGABYTE)
    assert played(free, 30) == played(bounded, 30)


def test_a_value_counts() -> None:
    one = machine(over_numbers("(null)"), memory_bytes_max=MEGABYTE)
    effects = played(one, 100_000)
    assert effects.error is not None
    assert effects.error.code == 20102


def test_texts_of_errors_count() -> None:
    text = "y" * 100_000
    script = over_numbers(f'(seq (ap "{text}" big) {nested(1, "(xor (match big.$.nothing 1 (null)) (null))")})')
    one = machine(script, memory_bytes_max=4 * MEGABYTE)
    effects = played(one, 900)
    assert effects.error is not None
    assert effects.error.code == 20102


def test_what_others_bring_is_refused_and_the_flow_goes_on() -> None:
    """A peer that says too much does not end the flow here, as with all limits."""
    script = """
        (par (seq (call "@b" ("s" "much") [] x) (call "@a" ("s" "use") [x]))
             (seq (call "@a" ("s" "own") [] y) (call "@b" ("s" "more") [y])))"""
    flow = Flow(script, {"s.much": list(range(100_000))}, peers=("a", "b")).run()
    header, me = flow.particle.header, flow.particle.initiator
    bounded = Machine(
        flow.script,
        flow.particle.key,
        me,
        initiator=me,
        timestamp_ms=header.timestamp_ms,
        ttl_ms=header.ttl_ms,
        memory_bytes_max=MEGABYTE,
    )
    begun = bounded.merge(Known((), {}))
    of_b = flow.machine("b")
    effects = bounded.merge(Known(tuple(of_b.batches()), of_b.contents()))
    assert effects.error is not None
    assert (effects.error.code, effects.failed) == (20102, False)
    [request] = begun.requests
    assert bounded.resolve({request.instance: Answered(1)}).next_peers


def test_a_journal_is_rebuilt_though_the_limit_was_lowered() -> None:
    script = over_numbers(nested(2))
    one = machine(script)
    records = [*one.merge(Known((), {})).records]
    [request] = [request for request in one._in_flight.values() if request.function == "numbers"]
    records += one.resolve({request.instance: Answered([1] * 30)}).records
    again = machine(script, memory_bytes_max=MEGABYTE // 10)
    restored = again.restoring(records)
    while restored.advance(100) is None:
        pass
    assert again.steps == one.steps


def test_memory_is_there_at_once_without_the_garbage_collector() -> None:
    def hoard() -> None:
        one = machine(over_numbers(nested(2, f'(call "{OTHER}" ("a" "b") [i0 i1] y)')))
        played(one, 25)
        for _ in one.dismantle():
            pass

    gc.collect()
    gc.disable()
    try:
        tracemalloc.start()
        hoard()
        before = tracemalloc.get_traced_memory()[0]
        hoard()
        left = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        gc.enable()
    assert left < MEGABYTE / 50
