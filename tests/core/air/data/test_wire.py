"""How data travel: ids that the receiver can work out are not sent, and what comes back is the very thing that was signed."""

from __future__ import annotations

import pytest
from fluvial.air.data.batch import Known
from fluvial.air.data.content import content_id
from fluvial.air.data.facts import CanonFact, Element, Result, Sent, Step
from fluvial.air.data.wire import SEEN_MAX, WireData, decode_data, encode_data
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.core.air.data.test_batch import OTHER, PARTICLE, VALUE, seal

CONTENTS = {VALUE: {"k": "value"}}


def wire_of(data: bytes) -> WireData:
    return decode(data, WireData, what="particle data")


def test_data_come_back_as_they_were() -> None:
    batch = seal()
    contents = CONTENTS | {content_id("that the receiver asked for"): "that the receiver asked for"}
    assert decode_data(PARTICLE, encode_data([batch], contents)) == Known((batch,), contents)
    assert decode_data(PARTICLE, b"") == Known((), {})


def test_contents_that_the_receiver_has_need_not_come_along() -> None:
    batch = seal()
    assert decode_data(PARTICLE, encode_data([batch], {})) == Known((batch,), {})


def test_ids_of_contents_and_batches_sent_along_are_not_sent() -> None:
    first = seal((Step(), Result(b"", 1, "s", "f", (), VALUE)))
    second = seal((Step((first.id,)), Sent(b"", 2, True)), keys=OTHER)
    data = encode_data([first, second], CONTENTS)
    assert VALUE not in data
    assert first.id not in data
    assert wire_of(data).ids == ()
    assert decode_data(PARTICLE, data).batches == (first, second)


def test_an_altered_value_is_refused() -> None:
    wire = wire_of(encode_data([seal()], CONTENTS))
    with pytest.raises(RemoteProtocolError, match="not signed by"):
        decode_data(PARTICLE, encode(replace(wire, contents=({"k": "other"},))))


def test_steps_name_so_many_batches_at_most() -> None:
    """A byte of the data may stand for 34 that are signed and stored."""
    first = seal()
    second = seal((Step((first.id,) * (SEEN_MAX + 1)),), keys=OTHER)
    with pytest.raises(RemoteProtocolError, match="name more than"):
        decode_data(PARTICLE, encode_data([first, second], {}))


def test_numbers_that_stand_for_nothing_are_refused() -> None:
    later = seal((Step(), CanonFact(b"", 3, (Element(VALUE, b"", 1),))))
    wire = wire_of(encode_data([later], CONTENTS))
    for broken in (replace(wire, contents=()), replace(wire, signers=()), replace(wire, ids=(b"short",))):
        with pytest.raises(RemoteProtocolError):
            decode_data(PARTICLE, encode(broken))


def test_a_content_sent_twice_is_refused() -> None:
    wire = wire_of(encode_data([seal()], CONTENTS))
    with pytest.raises(RemoteProtocolError, match="twice"):
        decode_data(PARTICLE, encode(replace(wire, contents=wire.contents * 2)))


@pytest.mark.parametrize(
    "content",
    [
        b"\xc4\x01x",
        b"\xc7\x01\x05x",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xcb\x7f\xf8" + bytes(6),
        b"\xcb\x7f\xf0" + bytes(6),
        b"\x81\x01\x02",
        b"\x91" * 129 + b"\xc0",
    ],
    ids=["binary", "extension", "timestamp", "NaN", "infinity", "integer key", "too deep"],
)
def test_contents_that_are_no_json_are_refused(content: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        decode_data(PARTICLE, b"\x94\x91" + content + b"\x90\x90\x90")


@settings(max_examples=200)
@given(st.binary(max_size=100))
def test_random_data_are_refused(data: bytes) -> None:
    try:
        known = decode_data(PARTICLE, data)
    except RemoteProtocolError:
        return
    assert known.batches == ()
