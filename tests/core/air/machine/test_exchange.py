"""What is known of what other peers have: enough to send nothing twice, and no more."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable

import pytest
from fluvial.air.data.batch import Batch, Known
from fluvial.air.data.content import ContentId, Json, content_id
from fluvial.air.data.facts import Step, Taken
from fluvial.air.data.pace import NODES
from fluvial.air.data.partial import Level, Mask, Partial, cut
from fluvial.air.data.wire import decode_data, encode_data
from fluvial.air.machine import exchange as exchange_module
from fluvial.air.machine.exchange import ASKED_MAX, SENDERS_MAX, Exchange, Needs
from fluvial.identity import KeyPair
from fluvial.particle import ParticleKey

from tests.support.tracing import taken

LONG = "x" * 1_000


class Junk(list[str]):
    """A list that can be watched."""


def test_values_that_nobody_speaks_of_are_not_remembered() -> None:
    """Else whoever hands a particle over could fill this peer's memory with them."""
    exchange = Exchange()
    junk = Junk([LONG])
    key, seen = content_id(list(junk)), weakref.ref(junk)
    exchange.received("bob", Known((), {key: junk}), here={})
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
    exchange.received("bob", Known((), {key: LONG}), here={key: LONG})
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


def parts_of(value: list[Json], places: Iterable[int]) -> Partial:
    """As it comes from a peer: nothing of it is anywhere else."""
    mask = Mask()
    for place in places:
        mask.add((place,), Level.WHOLE)
    data = encode_data((), {content_id(value): cut(value, mask)})
    [part] = decode_data(ParticleKey(bytes(32)), data).contents.values()
    assert isinstance(part, Partial)
    return part


def test_parts_of_values_that_peers_have_sent_are_counted_and_of_large_ones_nothing_is_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange_module, "PART_BYTES_MAX", 100_000)
    value: list[Json] = [[f"{'x' * 400}{number}"] for number in range(200)]
    key, exchange = content_id(value), Exchange()
    everything = {key: value}

    def sent(by: str, *, places: Iterable[int]) -> int:
        part = parts_of(value, places)
        held = exchange.held
        exchange.received(by, Known((), {key: part}), everything)
        return exchange.held - held

    sent("somebody", places=range(3))
    few, real = taken(lambda: sent("bob", places=range(50)))
    assert 30_000 < real < 1.1 * few
    assert sent("bob", places=range(50)) == 0
    assert sent("bob", places=range(50, 60)) > 0
    many, real = taken(lambda: sent("eve", places=range(199)))
    assert real < 30_000
    assert many < 3_000
    mask = Mask()
    mask.add((7,), Level.WHOLE)
    needs = Needs(frozenset({key}), {key: mask})
    assert exchange.owed("bob", (), everything, needs).contents == {}
    assert exchange.owed("eve", (), everything, needs).contents.keys() == {key}
    sent("eve", places=(7,))
    assert exchange.owed("eve", (), everything, needs).contents == {}


def test_a_part_that_is_kept_elsewhere_as_well_counts_without_its_values() -> None:
    value: list[Json] = ["x" * 10_000 + str(number) for number in range(400)]
    part = parts_of(value, range(399))
    exchange = Exchange()
    exchange.given("bob", Known((), {content_id(value): part}))
    assert 399 * 160 < exchange.held < 1_000_000
    exchange.received("bob", Known((), {content_id(value): value}), {content_id(value): value})
    assert exchange.held < 2_000


def test_strangers_that_hand_a_particle_over_are_forgotten_and_partners_are_not() -> None:
    """Each of them has a key of its own, and all together must not use up the memory of the flow."""
    key = content_id(LONG)
    needs = Needs(frozenset({key}), {key: Mask(Level.WHOLE)})
    known = Known((), {key: LONG})
    exchange = Exchange()
    exchange.received("bob", known, here={key: LONG})
    exchange.asks("bob", [], ())
    for number in range(SENDERS_MAX):
        exchange.received(f"stranger {number}", known, here={key: LONG})
    held = exchange.held
    for number in range(1_000):
        exchange.received(f"another {number}", known, here={key: LONG})
    assert exchange.held == held
    assert exchange.owed("bob", (), {key: LONG}, needs).contents == {}
    assert exchange.owed("stranger 0", (), {key: LONG}, needs).contents == {key: LONG}


def test_what_a_peer_has_sent_is_taken_note_of_in_slices() -> None:
    part = parts_of([f"{number:040}" for number in range(1_000)], range(1, 1_000))
    parts = {content_id(f"part {number}"): part for number in range(20)}
    wholes = {content_id(number): number for number in range(20 * NODES)}
    known = Known((), {**parts, **wholes})
    exchange = Exchange()
    assert sum(1 for _ in exchange.receiving("a", known, dict(known.contents))) >= 10
    other = Exchange()
    other.received("a", known, dict(known.contents))
    assert exchange.held == other.held
    more = Known((), dict.fromkeys(parts, "whole"))
    exchange.received("a", more, more.contents)
    assert exchange.held < other.held, "of what it has whole nothing is kept"
