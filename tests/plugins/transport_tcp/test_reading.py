"""What reading costs the other side: all that it sends of its own accord, and next to nothing of what it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import pytest
from fluvial.identity import KeyPair
from fluvial_transport_tcp.accounts import WasteRates
from fluvial_transport_tcp.framing import Decoder, Kind, Message, encode_frame
from fluvial_transport_tcp.intake import Intake, IntakeHolder, IntakeShare
from fluvial_transport_tcp.keepalive import KeepAlive
from fluvial_transport_tcp.metrics import Metrics
from fluvial_transport_tcp.pacing import ReadingPace
from fluvial_transport_tcp.reading import ANSWER_BYTES_FREE, FrameReader
from fluvial_transport_tcp.rounds import WorkRounds
from fluvial_transport_tcp.secure import Credentials, Session
from fluvial_transport_tcp.standing import Rank
from fluvial_transport_tcp.wire import Wire
from fluvial_transport_tcp.work_clock import WorkClock
from prometheus_client import CollectorRegistry

FRAME_BYTES_MAX: Final = 4 * 1024 * 1024
READING_S: Final = 0.000_1
"""What one call takes by the clock of the test: less than what rounds of the loop have."""


def channel() -> tuple[Session, Session]:
    """Both ends of an encrypted connection, without a network."""
    one, other = (Credentials(KeyPair.generate(), "test") for _ in range(2))
    here, there = one.dial(other.peer_id), other.accept()
    for source, target in ((here, there), (there, here), (here, there), (there, here)):
        source.handshake()
        target.feed(source.outgoing())
    here.handshake(), there.handshake()
    return here, there


class Holder:
    """A stranger's connection."""

    rank = Rank.STRANGER
    incomplete = False

    def frame_s(self, now: float) -> float:
        return 0.0

    def cut(self, reason: str, text: str) -> None:
        raise AssertionError((reason, text))


class Reading:
    """The reader of a connection, and the other side; its clock goes on when a message is taken."""

    def __init__(self) -> None:
        self.now = 0.0
        self.here, self.there = channel()
        self.received = b""
        self.taken: list[Kind] = []
        self.account = WasteRates().account(None, lambda: Rank.STRANGER, 0.0)
        intake = Intake(8 * FRAME_BYTES_MAX, frame_bytes_max=FRAME_BYTES_MAX)
        self.reader = FrameReader(
            cast(Wire, self),
            self.here,
            Decoder(FRAME_BYTES_MAX),
            share=IntakeShare(intake, cast(IntakeHolder, Holder())),
            life=KeepAlive(0.0, keepalive_s=10, silence_max_s=30, frame_max_s=30, leaving_max_s=30),
            metrics=Metrics(CollectorRegistry()),
            pace=ReadingPace([]),
            account=self.account,
            rounds=WorkRounds(WorkClock(lambda: self.now, lambda: self.now)),
            made=lambda number: True,
            take=self._take,
            resume=lambda: None,
        )

    def take(self, bytes_max: int) -> bytes:
        """Of the wire."""
        taken, self.received = self.received[:bytes_max], self.received[bytes_max:]
        return taken

    def _take(self, message: Message, counted: int, then: Callable[[], None]) -> None:
        self.taken.append(message.kind)
        self.now += READING_S / self.expected

    def charged(self, *messages: Message) -> float:
        """The part of reading these, in one call, that the other side is charged for."""
        self.expected = len(messages)
        self.reader.read()  # nothing is here, and it has had its first turn
        for message in messages:
            for piece in encode_frame(message):
                self.received += self.there.seal(piece)
        before, began = self.account.tag, self.now
        self.reader.read()
        assert self.taken == [message.kind for message in messages]
        return (self.account.tag - before) / (self.now - began)


def answer(size: int) -> Message:
    return Message(Kind.ANSWER, 1, body=bytes(size))


def request(size: int) -> Message:
    return Message(Kind.REQUEST, 1, "x", bytes(size))


@pytest.mark.parametrize("messages", [[request(0)], [request(100_000)], [Message(Kind.ONE_WAY, 0, "x", bytes(9))] * 9])
async def test_what_comes_unasked_is_charged(messages: list[Message]) -> None:
    assert Reading().charged(*messages) == pytest.approx(1)


@pytest.mark.parametrize(
    "messages",
    [[answer(0)], [answer(ANSWER_BYTES_FREE)], [answer(1_000)] * 20, [Message(Kind.ERROR, 1, "F000", b"no")]],
)
async def test_what_was_asked_for_is_not(messages: list[Message]) -> None:
    assert Reading().charged(*messages) == pytest.approx(0)


async def test_of_both_each_counts_by_its_bytes() -> None:
    """Who hides a long question among many short answers pays for it."""
    assert Reading().charged(request(100), answer(100)) == pytest.approx(0.5, abs=0.01)
    assert Reading().charged(request(ANSWER_BYTES_FREE), *[answer(0)] * 2) > 0.8
    assert Reading().charged(request(0), answer(ANSWER_BYTES_FREE)) < 0.1


async def test_a_longer_answer_than_anybody_needs_costs_whoever_gives_it() -> None:
    assert 0.4 < Reading().charged(answer(2 * ANSWER_BYTES_FREE)) < 0.6
    assert Reading().charged(answer(20 * ANSWER_BYTES_FREE)) > 0.9
