"""When a peer stops relying on what others have promised; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pytest
from fluvial.air.data.batch import Batch, Known
from fluvial.air.data.facts import Closed, Fact, Instance, Item, Sent, Step, Taken
from fluvial.air.data.log import Merged, Sealed
from fluvial.air.machine.exchange import Exchange
from fluvial.particles.promises import RESENDS_MAX, Look, Promises, shown_to
from hypothesis import given
from hypothesis import strategies as st

from tests.support.nodes import id_of, keys_of

PARTICLE = b"P" * 32
AFTER_MS = 1_000
CALL, OTHER_CALL = Instance(b"", 4), Instance(b"", 7)


def batch(signer: str, *facts: Fact, seen: Sequence[Batch] = ()) -> Batch:
    keys = keys_of(signer)
    items: list[Item] = [Step(tuple(one.id for one in seen)), *facts]
    return Batch.seal(PARTICLE, keys.peer_id, items, keys.sign)


def sent(instance: Instance = CALL, *, complete: bool = True) -> Sent:
    return Sent(*instance, complete)


class Here:
    """What ``me`` knows of a particle, and what it makes of that."""

    def __init__(self, me: str = "me", initiator: str = "initiator") -> None:
        self.promises = Promises(id_of(me), id_of(initiator))
        self.exchange = Exchange()
        self.batches: list[Batch] = []

    def came(self, *batches: Batch, at_ms: int = 0) -> None:
        self.batches += batches
        self.promises.record(Merged(tuple(one.signed for one in batches), ()), at_ms)

    def sealed(self, one: Batch) -> None:
        self.batches.append(one)
        self.promises.record(Sealed(one.signed), 0)

    def look(
        self,
        now_ms: int = AFTER_MS,
        *,
        awaited: Mapping[Instance, str] | None = None,
        on_way: Collection[str] = (),
        room: int = 100,
    ) -> Look:
        found = self.promises.look(
            {CALL: id_of("q")} if awaited is None else awaited,
            self.batches,
            self.exchange,
            on_way=on_way.__contains__,
            now_ms=now_ms,
            after_ms=AFTER_MS,
            room=room,
        )
        for peer, batches in found.shown.items():
            self.exchange.shown(peer, batches)
        return Look(found.broken, found.again_ms)


def peers(look: Look) -> list[str]:
    return [promise.peer for promise in look.broken]


# --- what is relied on


def test_a_promise_has_its_time_from_when_it_came() -> None:
    here = Here()
    here.came(batch("liar", sent()), at_ms=500)
    assert here.look(1_499) == Look((), 1_500)
    (promise,) = here.look(1_500).broken
    assert (promise.peer, promise.signer, promise.instance) == (id_of("q"), id_of("liar"), CALL)


def test_nothing_is_done_where_nobody_has_promised_anything() -> None:
    here = Here()
    assert here.look() == Look()
    here.came(batch("other", sent(OTHER_CALL)))
    assert here.look() == Look()
    assert here.look(awaited={}) == Look()


def test_ones_own_promise_and_the_initiators_are_relied_on() -> None:
    here = Here()
    here.sealed(batch("me", sent()))
    here.came(batch("other", Taken(*OTHER_CALL)))
    assert here.look(10**9) == Look()
    there = Here()
    there.came(batch("initiator", sent()))
    assert there.look(10**9) == Look()


def test_ones_own_promise_that_comes_back_from_others_is_of_a_time_before_the_store_was_lost() -> None:
    here = Here()
    here.came(batch("me", sent()))
    assert peers(here.look()) == [id_of("q")]


def test_who_has_handed_everything_on_relies_on_those_who_have_it_until_more_comes() -> None:
    here = Here()
    here.came(first := batch("liar", sent()))
    here.sealed(batch("me", sent(OTHER_CALL), seen=[first]))
    assert here.promises.last_came_ms is None
    assert here.look(10**9) == Look()
    here.came(batch("other", Taken(*OTHER_CALL)), at_ms=10)
    assert here.promises.last_came_ms == 10
    assert peers(here.look()) == [id_of("q")]


@pytest.mark.parametrize("fact", [Taken(*CALL), Closed(CALL.frame, (CALL.node - 1, CALL.node), bytes(32))], ids=repr)
def test_a_fact_of_the_peer_about_the_call_shows_that_it_came_there(fact: Fact) -> None:
    here = Here()
    here.came(batch("liar", sent()), batch("q", fact))
    assert here.look(10**9) == Look()


def test_so_does_anything_that_the_peer_has_signed_knowing_the_promise() -> None:
    here = Here()
    first = batch("liar", sent())
    second = batch("other", Taken(*OTHER_CALL), seen=[first])
    here.came(first, second, batch("q", sent(OTHER_CALL), seen=[second]))
    assert here.look(10**9) == Look()
    assert here.exchange.has(id_of("q"), first.id)


def test_what_the_peer_has_signed_without_knowing_the_promise_shows_nothing() -> None:
    here = Here()
    begin = batch("initiator", sent(OTHER_CALL))
    here.came(begin, batch("q", Taken(*OTHER_CALL), seen=[begin]), batch("liar", sent()))
    assert peers(here.look()) == [id_of("q")]
    assert here.exchange.has(id_of("q"), begin.id), "it is not sent again"


def test_a_peer_that_has_the_promise_from_here_or_sent_it_here_has_it() -> None:
    here = Here()
    here.came(first := batch("liar", sent()))
    here.exchange.given(id_of("q"), Known((first,), {}))
    assert here.look(10**9) == Look()


def test_what_the_outbox_has_already_is_not_asked_for() -> None:
    here = Here()
    here.came(batch("liar", sent()))
    assert here.look(on_way=[id_of("q")]) == Look()


def test_only_the_strongest_promise_counts() -> None:
    """With an argument unknown the peer can have waited; who knows all of them promises to send once more."""
    here = Here()
    weak = batch("other", sent(complete=False))
    here.sealed(batch("me", sent(complete=False)))
    here.came(weak, batch("liar", sent()), at_ms=100)
    here.exchange.given(id_of("q"), Known((weak,), {}))
    (promise,) = here.look(1_100).broken
    assert promise.signer == id_of("liar")
    there = Here()
    there.came(batch("liar", sent(complete=False)))
    assert peers(there.look()) == [id_of("q")], "it may be the one that collects the arguments"


# --- how often, and how many


def test_the_times_between_grow_and_end() -> None:
    here = Here()
    here.came(batch("liar", sent()))
    now_ms, found = 0, []
    while (look := here.look(now_ms)).again_ms is not None or look.broken:
        if look.broken:
            found.append(now_ms)
            here.promises.resent(id_of("q"), now_ms)
        else:
            assert look.again_ms is not None
            now_ms = look.again_ms
    assert found == [1_000, 3_000, 7_000, 15_000]
    assert len(found) == RESENDS_MAX


def test_several_promises_to_one_peer_are_one_delivery() -> None:
    here = Here()
    here.came(batch("liar", sent(), sent(OTHER_CALL)))
    assert peers(here.look(awaited={CALL: id_of("q"), OTHER_CALL: id_of("q")})) == [id_of("q")]


def test_where_there_is_no_room_it_is_looked_at_again_at_once() -> None:
    here = Here(me="initiator")
    here.came(batch("liar", sent(), sent(OTHER_CALL)))
    awaited = {CALL: id_of("q"), OTHER_CALL: id_of("r")}
    look = here.look(awaited=awaited, room=1)
    assert (peers(look), look.again_ms) == ([id_of("q")], AFTER_MS)
    assert peers(here.look(awaited=awaited, room=2)) == [id_of("q"), id_of("r")]


def test_what_is_gone_into_and_shown_to_be_kept_takes_room_once() -> None:
    here = Here(me="initiator")
    first = batch("liar", sent(), sent(OTHER_CALL))
    here.came(first, batch("q", Taken(b"", 9), seen=[first]))
    awaited = {CALL: id_of("q"), OTHER_CALL: id_of("r")}
    assert here.look(awaited=awaited, room=1) == Look((), AFTER_MS)
    assert peers(here.look(awaited=awaited, room=1)) == [id_of("r")]


# --- turns


def fan_out(names: Sequence[str], me: str, **fields: Any) -> tuple[Here, dict[Instance, str]]:
    """A peer that knows that all of these were promised the particle in one batch, and has done its own call."""
    calls = {Instance(b"", number): name for number, name in enumerate(names)}
    here = Here(me, **fields)
    here.came(batch("relay", *(sent(call) for call in calls)))
    return here, {call: id_of(name) for call, name in calls.items() if name != me}


@given(st.integers(2, 8), st.integers(0, 40))
def test_those_who_wait_for_each_other_take_turns(size: int, salt: int) -> None:
    names = [f"{salt}-{number}" for number in range(size)]
    first: list[str] = []
    for name in names:
        here, awaited = fan_out(names, name)
        first += peers(here.look(AFTER_MS, awaited=awaited))
        late = here.look(AFTER_MS * 2**size, awaited=awaited)
        assert set(peers(late)) == set(awaited.values()), "in the end each of them would"
    assert sorted(first) == sorted(map(id_of, names)), "each is seen to first by exactly one other"


def test_the_turn_doubles_the_time() -> None:
    here, awaited = fan_out(["a", "b", "c", "d"], "a")
    counts = [len(here.look(AFTER_MS * factor, awaited=awaited).broken) for factor in (1, 2, 4)]
    assert counts == [1, 2, 3]


def test_the_initiator_does_not_stand_in_line() -> None:
    here, awaited = fan_out(["a", "b", "c"], "initiator")
    assert len(here.look(awaited=awaited).broken) == 3


def test_nor_does_a_peer_with_a_call_of_its_own_to_make() -> None:
    here, awaited = fan_out(["a", "b", "c"], "d")
    assert len(here.look(awaited=awaited).broken) == 1
    assert len(here.look(awaited={**awaited, Instance(b"", 9): id_of("d")}).broken) == 3


# --- what builds on what


@given(st.data())
def test_what_is_shown_is_what_a_peer_signed_and_all_before_it(data: st.DataObject) -> None:
    batches: list[Batch] = []
    before: list[set[int]] = []
    for number in range(data.draw(st.integers(1, 8))):
        seen = data.draw(st.sets(st.sampled_from(range(number)))) if number else set()
        signer = data.draw(st.sampled_from("pqr"))
        batches.append(batch(signer, Taken(b"", number), seen=[batches[one] for one in sorted(seen)]))
        before.append(seen.union(*(before[one] for one in seen)))
    expected = {
        batches[one].id
        for number, this in enumerate(batches)
        if this.signer == id_of("q")
        for one in before[number] | {number}
    }
    assert shown_to(id_of("q"), batches) == expected
