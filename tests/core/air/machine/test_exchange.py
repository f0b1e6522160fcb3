"""What is known of what other peers have: enough to send nothing twice, and no more."""

from __future__ import annotations

import gc
import weakref

from fluvial.air.data.batch import Batch, Known
from fluvial.air.data.content import content_id
from fluvial.air.data.facts import Step, Taken
from fluvial.air.data.partial import Level, Mask
from fluvial.air.machine.exchange import SENDERS_MAX, Exchange, Needs
from fluvial.identity import KeyPair

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
    exchange.asks("eve", [key])
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


def test_strangers_that_hand_a_particle_over_are_forgotten_and_partners_are_not() -> None:
    """Each of them has a key of its own, and all together must not use up the memory of the flow."""
    key = content_id(LONG)
    needs = Needs(frozenset({key}), {key: Mask(Level.WHOLE)})
    known = Known((), {key: LONG})
    exchange = Exchange()
    exchange.received("bob", known, here={key})
    exchange.asks("bob", [])
    for number in range(SENDERS_MAX):
        exchange.received(f"stranger {number}", known, here={key})
    held = exchange.held
    for number in range(1_000):
        exchange.received(f"another {number}", known, here={key})
    assert exchange.held == held
    assert exchange.owed("bob", (), {key: LONG}, needs).contents == {}
    assert exchange.owed("stranger 0", (), {key: LONG}, needs).contents == {key: LONG}
