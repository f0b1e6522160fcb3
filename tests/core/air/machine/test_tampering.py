"""Data that were tampered with: refused, with a word on whose batch it is, or without any effect on what honest peers do.

Two attackers: a *stranger* (or relay) who holds his own key and no other, and a peer of the flow that *lies*. All mutations are
enumerated, none is random; together they are more than 5,000.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

import pytest
from fluvial.air.data.batch import Batch
from fluvial.air.data.content import ContentId, Json, content_id
from fluvial.air.data.evidence import Answer
from fluvial.air.data.facts import Closed, Fact, Item, Result, Sent, Step, Taken, instances_of
from fluvial.air.data.wire import decode_data, encode_data
from fluvial.errors import RemoteProtocolError
from fluvial.identity import KeyPair
from fluvial.particle import Particle
from msgspec.structs import replace

from tests.core.air.machine.tampered import PLAYS, Calls, Delivery, Played, altered, flipped, forged, known, rearranged

STRANGER = KeyPair.from_secret(b"stranger".ljust(32, b"."))
LIE: Json = {"a": "lie"}
Contents = Mapping[ContentId, Json]


@cache
def honest(name: str) -> Played:
    """A play that nobody disturbs."""
    played = Played(name).run()
    assert played.calls_of()
    return played


def deliveries() -> Iterator[tuple[str, int, Delivery, Sequence[Batch], Contents]]:
    """All deliveries that carry something: the play, their number, and what they carry."""
    for name in PLAYS:
        for number, delivery in enumerate(honest(name).deliveries):
            batches, contents = known(honest(name), delivery.data)
            if batches:
                yield name, number, delivery, batches, contents


def refused(name: str, data: bytes) -> RemoteProtocolError:
    """Data are refused as they are read, before a machine sees them."""
    with pytest.raises(RemoteProtocolError) as caught:
        decode_data(honest(name).particle.key, data)
    return caught.value


def harmless(name: str, number: int, data: bytes) -> None:
    """Data are refused, or change nothing that any peer does."""
    try:
        decode_data(honest(name).particle.key, data)
    except RemoteProtocolError:
        return
    played = Played(name, number, data).run()
    assert played.calls_of() == honest(name).calls_of(), (name, number, played.refusal)
    assert played.codes == honest(name).codes
    assert played.evidence() == []


# --- by a stranger ----------------------------------------------------------------------------------------------------


def test_altered_items_are_refused_and_their_signer_is_named() -> None:
    """Every field of every item, and the number and order of items, members of lists included."""
    tried = 0
    for name, _, _, batches, contents in deliveries():
        for index, batch in enumerate(batches):
            for items in altered(batch.signed.items):
                bad = [*batches[:index], forged(batch, items), *batches[index + 1 :]]
                assert str(batch.signer) in str(refused(name, encode_data(bad, contents)))
                tried += 1
    assert tried >= 1_500


def test_altered_signatures_and_signers_are_refused_and_the_claimed_signer_is_named() -> None:
    tried = 0
    for name, _, _, batches, contents in deliveries():
        for index, batch in enumerate(batches):
            others = [other.signed.signature for other in batches if other is not batch]
            by_stranger = Batch.seal(
                honest(name).particle.key, STRANGER.peer_id, batch.signed.items, STRANGER.sign
            ).signed.signature
            signature = batch.signed.signature
            signatures = [flipped(signature, 0), flipped(signature, 63), bytes(64), b"", signature[:-1], by_stranger]
            bad_ones = [(batch.signer, forged(batch, signature=bad)) for bad in (*signatures, *others)]
            bad_ones.append((STRANGER.peer_id, forged(batch, signer=STRANGER.public_key)))
            for signer, bad in bad_ones:
                data = encode_data([*batches[:index], bad, *batches[index + 1 :]], contents)
                assert f"not signed by {signer}" in str(refused(name, data))
                tried += 1
    assert tried >= 400


def test_altered_contents_are_refused_and_who_speaks_of_them_is_named() -> None:
    tried = 0
    for name, _, _, batches, contents in deliveries():
        for key, value in contents.items():
            speakers = [str(batch.signer) for batch in batches if key in batch.contents()]
            for other in (LIE, [value], None, -1, str(value) + "x"):
                message = str(refused(name, encode_data(batches, {**contents, key: other})))
                assert any(speaker in message for speaker in speakers)
                tried += 1
    assert tried >= 200


def test_altered_bytes_are_refused() -> None:
    """One bit of every second byte that travels, and an early end, in the last delivery of each play."""
    tried = 0
    for name in PLAYS:
        data = honest(name).deliveries[-1].data
        for at in range(0, len(data), 2):
            refused(name, flipped(data, at))
            tried += 1
        for size in range(1, len(data), 11):
            refused(name, data[:size])
            tried += 1
    assert tried >= 2_000


def test_data_of_another_particle_are_refused() -> None:
    """Other script, id, initiator, network, time: each makes another particle, and nothing that was signed for one counts in another."""
    tried = 0
    for name, _, delivery, batches, contents in deliveries():
        own = honest(name).particle
        header = own.header
        others = [
            replace(header, id="other"),
            replace(header, initiator=STRANGER.public_key),
            replace(header, script_hash=bytes(32)),
            replace(header, network="other"),
            replace(header, timestamp_ms=header.timestamp_ms + 1),
            replace(header, ttl_ms=header.ttl_ms + 1),
            replace(header, max_hops=header.max_hops + 1),
            replace(header, reply_to=("/ip4/127.0.0.1/tcp/1",)),
        ]
        for other in others:
            key = Particle(other, own.signature, own.script).key
            with pytest.raises(RemoteProtocolError, match=f"not signed by {batches[0].signer} for this particle"):
                decode_data(key, delivery.data)
            tried += 1
        for foreign in PLAYS:
            transplant = known(honest(foreign), honest(foreign).deliveries[-1].data)[0][-1]
            if foreign != name:
                message = str(refused(name, encode_data([*batches, transplant], contents)))
                assert f"not signed by {transplant.signer}" in message
                tried += 1
    assert tried >= 300


def test_dropped_repeated_and_reordered_parts_do_no_harm() -> None:
    tried = 0
    for name, number, _, batches, contents in deliveries():
        for some in [*rearranged(batches), tuple(reversed(batches)), ()]:
            harmless(name, number, encode_data(some, contents))
            tried += 1
        for key in contents:
            harmless(name, number, encode_data(batches, {other: contents[other] for other in contents if other != key}))
            tried += 1
        for earlier in honest(name).deliveries[: number + 1]:
            harmless(name, number, earlier.data)
            tried += 1
    assert tried >= 200


def test_what_a_stranger_signs_moves_nothing() -> None:
    """The items of each batch under his own signature, instead of it and next to it, as they are and altered."""
    tried = 0
    for name, number, _, batches, contents in deliveries():
        key = honest(name).particle.key
        for index, batch in enumerate(batches):
            for position, items in enumerate([batch.signed.items, *altered(batch.signed.items)]):
                if not items or not isinstance(items[0], Step) or position % 8:
                    continue
                own = Batch.seal(
                    key, STRANGER.peer_id, without_news_of_departures(items, batch.signed.items), STRANGER.sign
                )
                instead = [*batches[:index], own, *batches[index + 1 :]]
                for some in (instead, [own, *batches]) if position == 0 else ([own, *batches],):
                    harmless(name, number, encode_data(some, {**contents, content_id(LIE): LIE}))
                    tried += 1
    assert tried >= 250


def test_who_claims_to_be_at_work_on_calls_of_others_holds_nothing_back() -> None:
    for name, number, _, batches, contents in deliveries():
        taken = [Taken(b"", node) for node in range(honest(name).script.size)]
        own = Batch.seal(honest(name).particle.key, STRANGER.peer_id, [Step(), *taken], STRANGER.sign)
        harmless(name, number, encode_data([own, *batches], contents))
        harmless(name, number, encode_data([own], {}))


def test_who_closes_calls_of_others_closes_nothing() -> None:
    for name, number, _, batches, contents in deliveries():
        closed = Closed(b"", tuple(range(honest(name).script.size)), bytes(32))
        own = Batch.seal(honest(name).particle.key, STRANGER.peer_id, [Step(), closed], STRANGER.sign)
        harmless(name, number, encode_data([own, *batches], contents))
        harmless(name, number, encode_data([own], {}))


def without_news_of_departures(items: Sequence[Item], true: Sequence[Item]) -> list[Item]:
    """Items without those that say of a departure what its peer has not said: that one is believed of everybody."""
    return [item for item in items if not isinstance(item, Sent) or item in true]


# --- by a peer that lies ----------------------------------------------------------------------------------------------


def lies(delivery: Delivery, batches: Sequence[Batch], key: bytes) -> Iterator[Batch]:
    """The sender's last batch in each other form that he can sign."""
    keys = honest_keys(delivery.sender)
    last = batches[-1]
    assert last.signer == keys.peer_id
    for items in [*altered(last.signed.items), *other_answers(last.signed.items)]:
        if items and isinstance(items[0], Step):
            yield Batch.seal(key, keys.peer_id, items, keys.sign)


def honest_keys(name: str) -> KeyPair:
    return honest("chain").names.keys[name]


def other_answers(items: Sequence[Item]) -> Iterator[tuple[Item, ...]]:
    """Each result replaced by another one, and both, in either order."""
    for index, item in enumerate(items):
        if isinstance(item, Result):
            other = replace(item, value=content_id(LIE))
            for told in ((other,), (other, item), (item, other)):
                yield (*items[:index], *told, *items[index + 1 :])


def test_lies_about_own_answers_reach_only_what_builds_on_them() -> None:
    tried = 0
    for name, number, delivery, batches, contents in deliveries():
        liar = delivery.sender
        true: Calls = honest(name).calls_of(without=liar)
        beyond = PLAYS[name].beyond.get(liar, frozenset())
        for lie in islice(lies(delivery, batches, honest(name).particle.key), number % 3, None, 3):
            data = encode_data([*batches[:-1], lie], {**contents, content_id(LIE): LIE})
            played = Played(name, number, data).run()
            made = played.calls_of(without=liar)
            assert {call: count for call, count in made.items() if call[1] in beyond and count > true[call]} == {}
            assert {(call[0], call[1]) for call in made} <= {(call[0], call[1]) for call in true} | OTHER_WAYS
            assert {one.signer for one in played.evidence()} <= {lie.signer}
            if played.refusal is not None:
                assert "is not here" in str(played.refusal) or str(lie.signer) in str(played.refusal)
            tried += 1
    assert tried >= 250


OTHER_WAYS = {("c", "s.handle")}
"""Calls that a flow makes only if another one fails."""


def test_another_answer_next_to_the_true_one_convicts_its_signer() -> None:
    tried = found = 0
    for name, number, delivery, batches, contents in deliveries():
        key, keys, last = honest(name).particle.key, honest_keys(delivery.sender), batches[-1]
        for items in other_answers(last.signed.items):
            lie = Batch.seal(key, keys.peer_id, items, keys.sign)
            played = Played(name, number, encode_data([*batches[:-1], lie], {**contents, content_id(LIE): LIE})).run()
            tried += 1
            if played.refusal is not None:  # its own canon of the same batch names the true answer
                assert f"what {lie.signer} has fixed does not follow" in str(played.refusal)
                continue
            convicted = [one for one in played.evidence() if {last.id, lie.id} >= set(one.batches)]
            assert convicted
            assert all(one.signer == last.signer and lie.id in one.batches for one in convicted)
            found += 1
    assert tried >= 30
    assert found >= 25


def test_of_two_answers_the_first_counts() -> None:
    """In the chain the last peer tells two tales, one after the other or in one breath: the initiator shows the first one, once."""
    *_, delivery = honest("chain").deliveries
    batches, contents = known(honest("chain"), delivery.data)
    items = list(batches[-1].signed.items)
    keys, key = honest_keys("c"), honest("chain").particle.key
    number = len(honest("chain").deliveries) - 1
    shown = []
    for told in other_answers(items):
        lie = Batch.seal(key, keys.peer_id, told, keys.sign)
        data = encode_data([*batches[:-1], lie], {**contents, content_id(LIE): LIE})
        shown += Played("chain", number, data).run().arguments_of("t.show")
    true = {"k": "v"}
    assert shown == [[true, LIE], [true, LIE], [true, [1, 2]]]


def test_lies_about_answers_of_others_move_nothing() -> None:
    tried = 0
    for name, number, delivery, batches, contents in deliveries():
        key, keys = honest(name).particle.key, honest_keys(delivery.sender)
        theirs = [
            item
            for batch in batches
            if batch.signer != keys.peer_id
            for item in batch.signed.items
            if isinstance(item, Answer | Closed)
        ]
        for fact in theirs:
            for other in claims(fact):
                step = Step(tuple(batch.id for batch in batches))
                for some in ((Step(), other), (step, other)):
                    lie = Batch.seal(key, keys.peer_id, some, keys.sign)
                    order: list[Any] = [lie, *batches] if not some[0].seen else [*batches, lie]
                    harmless(name, number, encode_data(order, {**contents, content_id(LIE): LIE}))
                    tried += 1
    assert tried >= 150


def claims(fact: Fact) -> Iterator[Fact]:
    """A fact of somebody else as it is, with another value, and altered, but about the same instance."""
    yield fact
    if isinstance(fact, Result):
        yield replace(fact, value=content_id(LIE))
    yield from (other for other in altered(fact) if instances_of(other) == instances_of(fact))
