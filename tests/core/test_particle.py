"""Particles: what the initiator's signature covers, and the decoder that meets hostile bytes first."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from fluvial.air.data.wire import decode_data, encode_data
from fluvial.encoding import encode
from fluvial.errors import LocalProtocolError, RemoteProtocolError
from fluvial.identity import KeyPair
from fluvial.particle import (
    CREDENTIALS_BYTES_MAX,
    CREDENTIALS_MAX,
    ID_CHARACTERS_MAX,
    NETWORK_CHARACTERS_MAX,
    REPLY_ADDRESSES_MAX,
    Delivery,
    Particle,
    decode_delivery,
    encode_delivery,
    hash_script,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.air.machine.flows import Flow

KEYS = KeyPair.from_secret(b"initiator".ljust(32, b"."))
OTHER = KeyPair.from_secret(b"other".ljust(32, b"."))
ADDRESS = f"/ip4/127.0.0.1/tcp/7771/p2p/{OTHER.peer_id}"
MUTATIONS = 10_000


def particle(**changes: Any) -> Particle:
    fields = {
        "particle_id": "a-particle",
        "timestamp_ms": 1_700_000_000_000,
        "ttl_ms": 60_000,
        "max_hops": 10,
        "network": "test",
        "reply_to": (ADDRESS,),
    }
    return Particle.create(KEYS, "(null)", **(fields | changes))


def delivery(of: Particle, **changes: Any) -> Delivery:
    whole = Delivery(OTHER.public_key, 1, of.header, of.signature, of.script, b"")
    return msgspec.structs.replace(whole, **changes)


def test_new_particle_is_signed_and_has_its_script() -> None:
    new = particle()
    assert new.signed_by_initiator()
    assert new.has_its_script()
    assert new.initiator == KEYS.peer_id
    assert new.deadline_ms == 1_700_000_060_000
    assert new.header.script_hash == hash_script("(null)")


ALTERATIONS: dict[str, object] = {
    "network": "other",
    "id": "another-particle",
    "initiator": OTHER.public_key,
    "timestamp_ms": 1_700_000_000_001,
    "ttl_ms": 60_001,
    "max_hops": 11,
    "script_hash": hash_script("(never)"),
    "reply_to": (),
    "credentials": (b"shown by somebody else",),
}


@pytest.mark.parametrize("field", ALTERATIONS)
def test_every_field_of_the_header_is_signed(field: str) -> None:
    assert set(ALTERATIONS) == set(particle().header.__struct_fields__)
    old = particle()
    header = msgspec.structs.replace(old.header, **{field: ALTERATIONS[field]})
    altered = Particle(header, old.signature, old.script)
    assert not altered.signed_by_initiator()
    assert altered.key != old.key


def test_no_particle_is_made_with_more_credentials_than_it_can_carry() -> None:
    assert particle(credentials=(b"x",) * CREDENTIALS_MAX).signed_by_initiator()
    for wrong in ((b"x",) * (CREDENTIALS_MAX + 1), (b"",), (b"x" * CREDENTIALS_BYTES_MAX, b"x")):
        with pytest.raises(LocalProtocolError, match="credentials"):
            particle(credentials=wrong)


def test_altered_script_and_signature_show() -> None:
    old = particle()
    assert not msgspec.structs.replace(old, script="(null) ").has_its_script()
    assert not msgspec.structs.replace(old, signature=bytes(64)).signed_by_initiator()
    assert not msgspec.structs.replace(old, signature=OTHER.sign(encode(old.header))).signed_by_initiator()


def test_neighbouring_fields_cannot_be_moved_into_each_other() -> None:
    assert particle(particle_id="a1", timestamp_ms=2).key != particle(particle_id="a", timestamp_ms=12).key
    assert particle(network="ab", particle_id="c").key != particle(network="a", particle_id="bc").key


def test_delivery_comes_back() -> None:
    sent = delivery(particle(), data=b"data", hops=3)
    got = decode_delivery(encode_delivery(sent))
    assert got == sent
    assert got.particle == particle()
    assert got.particle.key == particle().key


def header(**changes: object) -> Callable[[Delivery], Delivery]:
    return lambda whole: msgspec.structs.replace(whole, header=msgspec.structs.replace(whole.header, **changes))


def outer(**changes: object) -> Callable[[Delivery], Delivery]:
    return lambda whole: msgspec.structs.replace(whole, **changes)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (outer(to=b""), "does not have 32 bytes"),
        (outer(to=bytes(33)), "does not have 32 bytes"),
        (header(initiator=bytes(31)), "does not have 32 bytes"),
        (outer(signature=bytes(63)), "wrong size"),
        (header(script_hash=b""), "wrong size"),
        (header(id=""), f"1 to {ID_CHARACTERS_MAX} characters"),
        (header(id="x" * (ID_CHARACTERS_MAX + 1)), f"1 to {ID_CHARACTERS_MAX} characters"),
        (header(network="x" * (NETWORK_CHARACTERS_MAX + 1)), "network's name"),
        (header(network=""), "network's name"),
        (header(network="größe"), "network's name"),
        (header(timestamp_ms=-1), "a number is negative"),
        (header(ttl_ms=-1), "a number is negative"),
        (header(max_hops=-1), "a number is negative"),
        (outer(hops=-1), "a number is negative"),
        (header(credentials=(b"x",) * (CREDENTIALS_MAX + 1)), "credentials"),
        (header(credentials=(b"",)), "credentials"),
        (header(credentials=(b"x" * CREDENTIALS_BYTES_MAX, b"x")), "credentials"),
        (header(timestamp_ms=2**63 - 1), "overflow"),
        (header(ttl_ms=2**64 - 1), "overflow"),
        (header(reply_to=(ADDRESS,) * (REPLY_ADDRESSES_MAX + 1)), "reply addresses"),
        (header(reply_to=("nowhere",)), "no address like"),
        (header(reply_to=("/dns/" + "x" * 100_000 + "/tcp/1",)), "no address"),
    ],
)
def test_impossible_fields_are_refused(change: Callable[[Delivery], Delivery], problem: str) -> None:
    with pytest.raises(RemoteProtocolError, match=problem) as caught:
        decode_delivery(encode_delivery(change(delivery(particle()))))
    assert len(caught.value.message) < 2_000


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_delivery(data)


@settings(max_examples=200)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(max_size=9)
        | st.binary(max_size=64),
        st.lists,
        max_leaves=12,
    )
)
def test_other_well_formed_values_are_refused(value: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_delivery(msgspec.msgpack.encode(value))


def test_mutated_deliveries_are_refused_or_are_other_deliveries() -> None:
    """Real deliveries, altered by one to three edits: nothing but RemoteProtocolError comes out, and no alteration is overlooked."""
    flow = Flow(
        '(seq (call "@b" ("s" "f") ["text" 1 -2.5 [] true] x) (par (canon "@b" $s #c) (call "@a" ("s" "g") [x.$.k] y)))',
        {"s.f": {"k": [1, {"deep": None}]}, "s.g": "end"},
    )
    flow.run()
    originals = [encode_delivery(delivery(flow.particle, data=data)) for data in flow.wire]
    assert len(originals) >= 2
    rng = random.Random(20)
    for number in range(MUTATIONS):
        original = originals[number % len(originals)]
        mutated = mutate(rng, original)
        with suppress(RemoteProtocolError):
            decoded = decode_delivery(mutated)
            assert encode_delivery(decoded) == mutated
            known = decode_data(flow.particle.key, decoded.data)
            assert encode_data(known.batches, known.contents) == decoded.data


def mutate(rng: random.Random, original: bytes) -> bytes:
    data = bytearray(original)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(data))
        match rng.randrange(4):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                del data[place : place + rng.randint(1, 8)]
            case 2:
                data[place:place] = rng.randbytes(rng.randint(1, 8))
            case _:
                del data[place:]
        if not data:
            break
    return bytes(data)
