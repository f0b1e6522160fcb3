"""Failures of branches on several peers come together where the handler begins; nothing is sent for them where that is of no use."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, ClassVar, Final

import pytest
from fluvial.air.data.batch import Batch, Known
from fluvial.air.data.content import ContentId, Json
from fluvial.air.data.facts import Sent
from fluvial.air.data.log import Stepped
from fluvial.air.machine.half_failed import HalfFailed
from fluvial.air.machine.machine import Machine
from fluvial.air.machine.outcomes import Answered, Failed
from fluvial.air.syntax import Script
from fluvial.identity import PeerId
from fluvial.simulation.network import simulate
from fluvial.simulation.scenario import MockedError, Scenario, Seeded, ServiceRow, key_of

from tests.core.air.machine.flows import Flow
from tests.fuzz.twins import WAYS, compare_in

PEERS: Final = ("i", "a", "b", "c", "d", "h")
SERVICES: Final = [
    ServiceRow(function="bad", error=MockedError(1, '"no"')),
    ServiceRow(function="peers", returns=["@a", "@b", "@c"]),
    ServiceRow(function="who", returns="@h"),
    ServiceRow(returns="done"),
]
ORDERS: Final = ("fifo", Seeded(1), Seeded(2), Seeded(3))


def bad(peer: str) -> str:
    return f'(call "@{peer}" ("s" "bad") [])'


def ok(peer: str, output: str = "") -> str:
    return f'(call "@{peer}" ("s" "ok") [] {output})'


def par(*branches: str) -> str:
    first, *others = branches
    return f"(par {first} {par(*others)})" if others else first


def seq(first: str, second: str) -> str:
    return f"(seq {first} {second})"


def xor(left: str, right: str) -> str:
    return f"(xor {left} {right})"


def scenario(script: str, order: Any = "fifo") -> Scenario:
    return Scenario("half-failed", script, "i", list(PEERS), services=SERVICES, order=order)


def played(script: str, order: Any = "fifo") -> tuple[list[str], int]:
    """Who was asked for what, without the calls that fail, and the number of deliveries."""
    seen = simulate(scenario(script, order))
    return [f"{call.peer[1:]} {call.function}" for call in seen.calls if call.function != "bad"], seen.deliveries


# --- who is sent the particle

HANDLER: Final = '(call "@h" ("s" "handler") [])'
TWO: Final = par(bad("a"), bad("b"))
MEMBERS: Final = '(call "@i" ("s" "peers") [] ps)'


def test_failures_of_two_peers_meet_where_the_handler_begins() -> None:
    assert played(xor(TWO, HANDLER)) == (["h handler"], 4)


@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize(
    "left",
    [
        par(bad("a"), bad("b"), bad("c"), bad("d")),
        par(par(bad("a"), bad("b")), par(bad("c"), bad("d"))),
        seq(ok("a"), TWO),
        f"(new $s {seq(ok('c', '$s'), TWO)})",
        f"(match 1 1 {TWO})",
        par(bad("a"), seq(ok("b"), "(match 1 2 (null))")),
        par(bad("a"), seq(ok("b"), '(fail 7 "no")')),
        par(xor(bad("a"), bad("b")), xor(bad("c"), bad("d"))),
        f'(seq {MEMBERS} (fold ps p (par (next p) (call p ("s" "bad") [])) (fail 7 "all")))',
        f'(seq {MEMBERS} (fold ps p (par (call p ("s" "bad") []) (next p)) (fail 7 "all")))',
        f'(seq {MEMBERS} (fold ps p (xor (par (call p ("s" "bad") []) {bad("d")}) (next p)) (fail 7 "all")))',
    ],
)
def test_failures_of_many_branches_meet(left: str, order: Any) -> None:
    calls, _ = played(xor(left, HANDLER), order)
    assert calls.count("h handler") == 1


@pytest.mark.parametrize("order", ORDERS, ids=str)
def test_each_iteration_over_a_stream_has_its_handler(order: Any) -> None:
    body = f'(xor (par (call p ("s" "bad") [p]) {bad("d")}) (call "@h" ("s" "handler") [p]))'
    calls, _ = played(f'(seq (seq (ap "@a" $s) (ap "@b" $s)) (fold $s p (par {body} (next p))))', order)
    assert calls.count("h handler") == 2


@pytest.mark.parametrize("handler", ["(null)", '(ap "caught" x)', '(xor (fail 7 "again") (null))'])
def test_a_handler_without_a_peer_meets_where_the_flow_goes_on(handler: str) -> None:
    assert played(f"(seq (xor {TWO} {handler}) {HANDLER})") == (["h handler"], 4)


def test_a_handler_that_throws_meets_at_the_outer_handler() -> None:
    script = f'(seq (xor (xor {TWO} (fail 7 "again")) {HANDLER}) {ok("d")})'
    assert played(script) == (["h handler", "d ok"], 5)


def test_a_value_of_the_handler_is_handed_to_who_waits_for_it() -> None:
    calls, _ = played(f'(par (xor {TWO} (ap "caught" x)) (call "@h" ("s" "handler") [x]))')
    assert calls == ["h handler"]


@pytest.mark.parametrize(
    ("script", "deliveries"),
    [
        (f'(seq (call "@i" ("s" "who") [] p) (xor {TWO} (call p ("s" "handler") [])))', 4),
        (f'(xor (seq (call "@i" ("s" "who") [] p) {TWO}) (call p ("s" "handler") []))', 5),
        (f'(seq {MEMBERS} (fold ps p (xor {par(bad("c"), bad("d"))} (call p ("s" "handler") []))))', 4),
        (f'(xor {TWO} (seq (call %init_peer_id% ("s" "log") []) {HANDLER}))', 5),
    ],
)
def test_the_meeting_point_has_a_name_on_all_peers_or_is_the_initiator(script: str, deliveries: int) -> None:
    calls, made = played(script)
    assert (calls[-1].partition(" ")[2], made) == ("handler", deliveries)


@pytest.mark.parametrize(
    ("script", "calls", "deliveries"),
    [
        pytest.param(TWO, [], 2, id="no xor"),
        pytest.param(xor(TWO, "(null)"), [], 2, id="nothing comes of it"),
        pytest.param(xor(par(bad("a"), bad("a")), HANDLER), ["h handler"], 2, id="one peer"),
        pytest.param(
            xor(par(bad("a"), seq(ok("a"), bad("a"))), HANDLER),
            ["a ok", "h handler"],
            2,
            id="one peer, one after the other",
        ),
        pytest.param(xor(par(bad("a"), "(never)"), HANDLER), [], 1, id="the other cannot fail"),
        pytest.param(xor(par(bad("a"), xor(bad("b"), "(null)")), HANDLER), [], 2, id="the other catches its errors"),
        pytest.param(
            f'(xor (seq {MEMBERS} (fold ps p (par (call p ("s" "bad") []) (next p)))) {HANDLER})',
            ["i peers"],
            3,
            id="the fold ends without an error",
        ),
        pytest.param(
            f'(seq (ap "@a" $s) (xor (fold $s p (par (call p ("s" "bad") []) {bad("b")})) {HANDLER}))',
            [],
            2,
            id="a fold over a stream keeps errors",
        ),
        pytest.param(xor(par(bad("i"), ok("b")), HANDLER), ["b ok"], 2, id="one superfluous delivery"),
        pytest.param(xor(par(bad("h"), bad("b")), HANDLER), ["h handler"], 3, id="a branch meets where it is"),
    ],
)
def test_nothing_is_sent_without_need(script: str, calls: list[str], deliveries: int) -> None:
    assert played(script) == (calls, deliveries)


def test_who_has_sent_says_so_and_does_it_once() -> None:
    flow = Flow(xor(TWO, HANDLER), {"s.bad": Failed(1, '"no"')}, peers=PEERS)
    begun = flow.arrive("i", b"") and flow.queue.pop(0)[1]
    flow.arrive("a", begun)
    last = flow.records["a"][-2]
    assert isinstance(last, Stepped)
    assert [fact for fact in last.facts if isinstance(fact, Sent)] == [Sent(b"", 1, True)]
    flow.restart("a")
    for _ in range(2):
        assert flow.merge("a", begun).next_peers == ()


def test_a_peer_waits_with_a_failure_while_a_call_of_its_own_is_at_work() -> None:
    flow = Flow(xor(par(bad("a"), ok("a"), bad("b")), HANDLER), peers=PEERS)
    flow.arrive("i", b"")
    failing, slow = flow.merge("a", flow.queue.pop(0)[1]).requests
    assert flow.resolve("a", {failing.instance: Failed(1, "")}).next_peers == ()
    assert flow.resolve("a", {slow.instance: Failed(1, "")}).next_peers == (str(flow.names.keys["h"].peer_id),)


@pytest.mark.parametrize("order", ["as asked", "reversed", "shuffled"])
def test_many_failures_of_one_peer_are_told_once(order: str) -> None:
    members = [f"member {number}" for number in range(100)]
    fold = f'(fold xs x (par (call "@i" ("s" "bad") [x]) (next x)) {bad("b")})'
    flow = Flow(f'(seq (call "@i" ("s" "l") [] xs) {xor(fold, HANDLER)})', {"s.l": members}, peers=PEERS)
    (first,) = flow.merge("i", b"").requests
    instances = [request.instance for request in flow.resolve("i", {first.instance: Answered(members)}).requests]
    Random(1).shuffle(instances) if order == "shuffled" else instances.sort(reverse=order == "reversed")
    sent = [flow.resolve("i", {instance: Failed(1, "")}).next_peers for instance in instances]
    assert sent == [()] * 99 + [(str(flow.names.keys["h"].peer_id),)]


# --- random flows


class Watched(Machine):
    """A machine that is remembered with the peer that has it."""

    made: ClassVar[list[tuple[PeerId, Watched]]]

    def __init__(self, script: Script, particle: bytes, me: PeerId, **environment: Any) -> None:
        super().__init__(script, particle, me, **environment)
        self.made_of = (script, particle, environment)
        self.made.append((me, self))


def unanswered(script: str, order: Any) -> list[str]:
    """Calls that who knows what all peers know has come to, and that nobody has made."""
    machine = type("Machines", (Watched,), {"made": []})
    simulate(scenario(script, order), machine=machine)
    keys = {key_of(name).peer_id: key_of(name) for name in PEERS}
    batches: dict[bytes, Batch] = {}
    contents: dict[ContentId, Json] = {}
    for peer, one in machine.made:
        one.seal(keys[peer].sign)
        batches |= {batch.id: batch for batch in one.batches()}
        contents |= one.contents()
    parsed, particle, environment = machine.made[0][1].made_of
    everything = Machine(parsed, particle, key_of("nobody").peer_id, **environment)
    everything.merge(Known(tuple(batches.values()), contents))
    return [wait.reason for wait in everything.waits() if wait.peer is not None]


class Writer:
    """Writes random scripts of nested ``par``, ``xor`` and ``seq``, folds and calls, of which half fail."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._folds = 0

    def script(self) -> str:
        body = f"(xor {self._instruction(self._random.randint(2, 7))} {self._instruction(1)})"
        return f'(seq (seq {MEMBERS} (call "@i" ("s" "who") [] w)) (seq (ap "@a" $s) (seq (ap "@b" $s) {body})))'

    def _instruction(self, size: int, peers: Sequence[str] = ()) -> str:
        random = self._random
        if size <= 1:
            peer = random.choice([*(f'"@{peer}"' for peer in PEERS), *peers, "w"])
            call = f'(call {peer} ("s" "{random.choice(("bad", "bad", "ok"))}") [])'
            return random.choices([call, "(null)", '(fail 7 "no")', "(match 1 2 (null))", "(never)"], [20, 1, 1, 1, 1])[
                0
            ]
        left = random.randint(1, size - 1)
        one, other = self._instruction(left, peers), self._instruction(size - left, peers)
        kind = random.choices(["par", "xor", "seq", "fold"], [5, 4, 2, 1 if self._folds < 2 else 0])[0]
        return self._fold(size, peers) if kind == "fold" else f"({kind} {one} {other})"

    def _fold(self, size: int, peers: Sequence[str]) -> str:
        self._folds += 1
        random, iterator = self._random, f"p{self._folds}"
        body = self._instruction(size - 1, [*peers, iterator])
        iterable, lasts = random.choice((("ps", ("", "(null)", '(fail 7 "no")')), ("$s", ("", "(null)"))))
        shapes = ("(par {0} {1})", "(seq {0} {1})", "(xor {0} {1})", *(["(par {1} {0})"] if iterable == "ps" else []))
        both = random.choice(shapes).format(body, f"(next {iterator})")
        return f"(fold {iterable} {iterator} {both} {random.choice(lasts)})"


ROWS: Final = [range(start, start + 50) for start in range(0, 200, 50)]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_no_flow_stands_still(row: range) -> None:
    for number in row:
        script = Writer(number).script()
        for order in ORDERS:
            assert unanswered(script, order) == [], f"{number} {order} {script}"


def test_without_the_rule_some_flows_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HalfFailed, "report", lambda self: True)
    assert sum(bool(unanswered(Writer(number).script(), "fifo")) for number in range(200)) >= 10


@pytest.mark.parametrize("way", WAYS)
def test_the_plain_machine_does_the_same(way: str) -> None:
    for number in range(100):
        compare_in(scenario(Writer(number).script(), Seeded(number)), way, seed=number)
