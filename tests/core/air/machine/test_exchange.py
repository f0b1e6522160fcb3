"""What is known of what other peers have: enough to send nothing twice, and no more."""

from __future__ import annotations

import gc
import weakref

from fluvial.air.data.batch import Batch, Known
from fluvial.air.data.content import ContentId, content_id
from fluvial.air.data.facts import Step, Taken
from fluvial.air.data.partial import Level, Mask
from fluvial.air.machine.exchange import ASKED_MAX, SENDERS_MAX, Exchange, Needs
from fluvial.identity import KeyPair

from tests.support.tracing import taken

LONG = "x" * 1_000


class Junk(list[str]):
    """A list that can be watched."""


def test_values_that_nobody_speaks_of_are_not_remembered() -> None:
    """Else whoever hands a particle over could fill this peer's memory with them."""
    exchange = Exchange()
    junk = Junk([LONG])
    key, seen = content_id(list(junk)), weakref.ref(junk)
    exchange.received("bob", Known((), {key: junk}), here=())
    del junk
    gc.collect()
    assert seen() is None
    needs = Needs(frozenset({key}), {key: Mask(Level.WHOLE)})
    assert exchange.owed("bob", (), {key: [LONG]}, needs).contents == {key: [LONG]}


def test_what_a_peer_has_sent_or_taken_is_not_sent_to_it() -> None:
    key = content_id(LONG)
    needs = Needs(frozenset({key}), {key: Mask(Level.WHOLE)})
    exchange = Exchange()
    assert exchange.owed("bob", (), {key: LONG}, needs).contents == {key: LONG}
    exchange.received("bob", Known((), {key: LONG}), here={key})
    assert exchange.owed("bob", (), {key: LONG}, needs).contents == {}
    exchange.given("eve", exchange.owed("eve", (), {key: LONG}, needs))
    assert exchange.owed("eve", (), {key: LONG}, needs).contents == {}
    exchange.asks("eve", [key], {key})
    assert exchange.owed("eve", (), {key: LONG}, needs).contents == {key: LONG}


def test_what_a_peer_builds_on_it_has() -> None:
    key = KeyPair.from_secret(b"signer".ljust(32, b"."))
    first, second = (Batch.seal(bytes(32), key.peer_id, [Step(), Taken(b"", number)], key.sign) for number in range(2))
    exchange = Exchange()
    assert not exchange.has("bob", first.id)
    assert exchange.owed("bob", (first, second), {}).batches == (first, second)
    exchange.shown("bob", [first.id])
    assert exchange.has("bob", first.id)
    assert exchange.owed("bob", (first, second), {}).batches == (second,)
    exchange.forget("bob")
    assert exchange.owed("bob", (first, second), {}).batches == (first, second)


def test_what_is_asked_for_and_not_there_is_not_remembered() -> None:
    key = content_id(LONG)
    exchange = Exchange()
    for number in range(5):
        exchange.asks("eve", [content_id([number, one]) for one in range(100)], {key})
    assert exchange.held == 0
    exchange.asks("eve", [key, content_id("made up")], {key})
    assert 0 < exchange.held < 2_000
    assert exchange.owed("eve", (), {key: LONG}).contents == {key: LONG}


def test_who_lacks_more_than_one_question_has_room_for_gets_all_of_it_together() -> None:
    many = {content_id(number): number for number in range(300)}
    keys, exchange = list(many), Exchange()
    exchange.asks("bob", keys[:200], many)
    exchange.asks("bob", keys[200:], many)
    assert exchange.owed("bob", (), many).contents == many


def test_what_one_peer_asks_for_is_bounded_and_counted() -> None:
    many = {content_id(number): number for number in range(ASKED_MAX + 100)}
    keys, exchange = list(many), Exchange()
    _, truth = taken(lambda: exchange.asks("bob", [ContentId(bytes(bytearray(key))) for key in keys[:ASKED_MAX]], many))
    assert truth <= 1.3 * exchange.held
    held = exchange.held
    exchange.asks("bob", keys[ASKED_MAX:], many)
    assert exchange.held < held / 50


def test_strangers_that_hand_a_particle_over_are_forgotten_and_partners_are_not() -> None:
    """Each of them has a key of its own, and all together must not use up the memory of the flow."""
    key = content_id(LONG)
    needs = Needs(frozenset({key}), {key: Mask(Level.WHOLE)})
    known = Known((), {key: LONG})
    exchange = Exchange()
    exchange.received("bob", known, here={key})
    exchange.asks("bob", [], ())
    for number in range(SENDERS_MAX):
        exchange.received(f"stranger {number}", known, here={key})
    held = exchange.held
    for number in range(1_000):
        exchange.received(f"another {number}", known, here={key})
    assert exchange.held == held
    assert exchange.owed("bob", (), {key: LONG}, needs).contents == {}
    assert exchange.owed("stranger 0", (), {key: LONG}, needs).contents == {key: LONG}
