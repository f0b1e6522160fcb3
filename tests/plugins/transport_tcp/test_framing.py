"""Frames: what goes in comes out, however it is cut; what is no frame is refused, and nothing makes the decoder hoard."""

from __future__ import annotations

import itertools
import struct
from contextlib import suppress

import pytest
from fluvial.errors import RemoteProtocolError
from fluvial_transport_tcp.framing import (
    HEADER_BYTES,
    LONG_BYTES,
    TEXT_BYTES_MAX,
    Decoder,
    Kind,
    Message,
    SendQueue,
    encode_frame,
    frame_bytes,
)
from hypothesis import given, settings
from hypothesis import strategies as st

FRAME_BYTES_MAX = 4096
ids = st.integers(0, 2**32 - 1)
labels = st.text(max_size=60)
bodies = st.binary(max_size=2000)
texts = st.binary(max_size=TEXT_BYTES_MAX)
messages = st.one_of(
    st.builds(Message, st.just(Kind.REQUEST), ids, labels, bodies),
    st.builds(Message, st.just(Kind.ERROR), ids, labels, texts),
    st.builds(Message, st.just(Kind.ANSWER), ids, st.just(""), bodies),
    st.builds(Message, st.just(Kind.ONE_WAY), st.just(0), labels, bodies),
    st.builds(Message, st.just(Kind.GOODBYE), st.just(0), labels, texts),
    st.builds(Message, st.sampled_from([Kind.CREDIT, Kind.PING, Kind.PONG]), ids),
    st.builds(Message, st.just(Kind.HELLO), st.just(0), st.just(""), bodies),
)


def frame(message: Message) -> bytes:
    return b"".join(encode_frame(message))


def decode_all(decoder: Decoder, data: bytes) -> list[Message]:
    decoder.feed(data)
    out = []
    while (message := decoder.next_message()) is not None:
        out.append(message)
    return out


@given(st.lists(messages, max_size=8), st.lists(st.integers(1, 700), min_size=1, max_size=8))
def test_messages_arrive_however_the_bytes_are_cut(sent: list[Message], cuts: list[int]) -> None:
    data = b"".join(map(frame, sent))
    decoder, received, at, turn = Decoder(FRAME_BYTES_MAX), list[Message](), 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        received += decode_all(decoder, data[at : at + size])
        assert decoder.buffered <= FRAME_BYTES_MAX
        at, turn = at + size, turn + 1
    assert received == sent
    assert decoder.buffered == 0


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from([0, 10, LONG_BYTES - 20, LONG_BYTES, 200_000]), min_size=1, max_size=4),
    st.lists(st.sampled_from([2_009, 16_384, LONG_BYTES, 150_000]), min_size=1, max_size=6),
)
def test_long_messages_arrive_between_short_ones(sizes: list[int], cuts: list[int]) -> None:
    """A long frame that arrives in parts has a buffer of its own; what is behind it is not lost."""
    sent = [Message(Kind.REQUEST, number, "/a/1", bytes([number]) * size) for number, size in enumerate(sizes)]
    data = b"".join(map(frame, sent))
    decoder, received, at = Decoder(2**20), list[Message](), 0
    for size in itertools.cycle(cuts):
        received += decode_all(decoder, data[at : at + size])
        at += size
        if at >= len(data):
            break
        assert decoder.buffered == at - sum(len(frame(message)) for message in received)
    assert received == sent
    assert decoder.buffered == 0


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=20))
def test_any_bytes_are_messages_or_an_error(chunks: list[bytes]) -> None:
    decoder = Decoder(FRAME_BYTES_MAX)
    with suppress(RemoteProtocolError):
        for chunk in chunks:
            for message in decode_all(decoder, chunk):
                assert decode_all(Decoder(FRAME_BYTES_MAX), frame(message)) == [message]
            assert decoder.buffered <= FRAME_BYTES_MAX


@given(messages, st.data())
def test_a_changed_byte_is_another_message_or_an_error(message: Message, data: st.DataObject) -> None:
    good = bytearray(frame(message))
    good[data.draw(st.integers(0, len(good) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        received = decode_all(Decoder(FRAME_BYTES_MAX), bytes(good))
    except RemoteProtocolError:
        return
    assert received != [message]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (struct.pack(">IBBI", 0, 0, 0, 0), "no message of kind 0"),
        (struct.pack(">IBBI", 0, 99, 0, 0), "no message of kind 99"),
        (struct.pack(">IBBI", FRAME_BYTES_MAX, Kind.ONE_WAY, 1, 0), "larger than"),
        (struct.pack(">IBBI", 2**32 - 1, Kind.ANSWER, 0, 1), "larger than"),
        (struct.pack(">IBBI", 3, Kind.REQUEST, 4, 1), "label is longer"),
        (struct.pack(">IBBI", 0, Kind.HELLO, 0, 1), "should not have"),
        (struct.pack(">IBBI", 1, Kind.PING, 0, 1), "should not have"),
        (struct.pack(">IBBI", 1, Kind.ANSWER, 1, 1), "should not have"),
        (struct.pack(">IBBI", 1, Kind.ONE_WAY, 1, 0) + b"\xff", "UTF-8"),
        (struct.pack(">IBBI", TEXT_BYTES_MAX + 2, Kind.ERROR, 1, 7), "text of a ERROR has more than 1024"),
        (struct.pack(">IBBI", TEXT_BYTES_MAX + 2, Kind.GOODBYE, 1, 0), "text of a GOODBYE has more than 1024"),
    ],
)
def test_what_is_no_frame_is_refused_with_the_reason(data: bytes, why: str) -> None:
    with pytest.raises(RemoteProtocolError, match=why):
        decode_all(Decoder(FRAME_BYTES_MAX), data)


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    message = Message(Kind.ONE_WAY, 0, "p", bytes(FRAME_BYTES_MAX - HEADER_BYTES - 1))
    assert frame_bytes(message.label, message.body) == FRAME_BYTES_MAX
    assert decode_all(Decoder(FRAME_BYTES_MAX), frame(message)) == [message]


def test_labels_that_do_not_fit_are_not_encoded() -> None:
    with pytest.raises(ValueError, match="255 bytes"):
        encode_frame(Message(Kind.ONE_WAY, 0, "ü" * 128))


@given(
    st.lists(
        st.builds(Message, st.just(Kind.ONE_WAY), st.just(0), st.just("p"), st.binary(max_size=90_000)), max_size=4
    )
)
def test_the_queue_gives_out_all_bytes_in_order_and_bounded_pieces(sent: list[Message]) -> None:
    queue = SendQueue()
    for message in sent:
        queue.put(encode_frame(message))
    pieces = []
    while piece := bytes(queue.take(20_000)):
        assert len(piece) <= 20_000
        pieces.append(piece)
    assert not queue
    assert b"".join(pieces) == b"".join(map(frame, sent))


def test_long_bodies_are_not_copied_into_frames() -> None:
    body = bytes(1_000_000)
    assert encode_frame(Message(Kind.ANSWER, 1, body=body))[1] is body
