"""A story made small: bounded, and still what happened first and last."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from fluvial.air.data.content import Json
from fluvial.encoding import encode
from fluvial.story import text
from fluvial.story.condensed import EVENTS_MAX, STORY_BYTES_MAX, VALUE_BYTES_MAX, read_condensed, shorten
from fluvial.story.story import Contradiction, Event, Story, Undelivered, WaitingInstruction
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.nodes import id_of

ME = str(id_of("me"))
PEERS = [str(id_of(f"p{number}")) for number in range(3)]


def story(count: int, value: object, script: str = "(null)") -> Story:
    events = [
        Event(
            kind="call",
            peer=PEERS[number % 3],
            service="s" * 300,
            function=f"f{number}",
            arguments=[value, number],
            value=value,
            instruction="call " * 100,
            known_at_ms=number,
        )
        for number in range(count)
    ]
    return Story(
        particle_id="p",
        initiator=ME,
        told_by=ME,
        script=script,
        began_ms=0,
        ttl_ms=1_000,
        state="finished",
        peers=[ME, *PEERS, "unseen"],
        events=events,
        waits=[WaitingInstruction(instruction="x" * 999, at="1:1", reason="y" * 9_999)] * 50,
        undelivered=[Undelivered(peer=ME, attempts=1, error="z" * 9_999)] * 50,
        contradictions=[
            Contradiction(
                peer=ME,
                instruction="x" * 999,
                at="1:1",
                instance="1",
                answers=(value, ["w" * 9_999]),
                batches=("00", "01"),
            )
        ]
        * 16,
        error="e" * 9_999,
    )


def test_the_first_and_the_last_events_stay() -> None:
    short = shorten(story(300, "v"), 5)
    assert [event.function for event in short.events] == ["f0", "f1", "f2", "f298", "f299"]
    assert short.left_out == 295
    assert "295 events in the middle are left out" in text.render(short)


def test_what_is_short_stays_as_it_is() -> None:
    whole = story(2, {"a": [1, None]})
    short = shorten(whole, EVENTS_MAX)
    assert [event.value for event in short.events] == [{"a": [1, None]}] * 2
    assert short.left_out == 0
    assert len(short.peers) == 3, "the initiator and those of whom something is told"


class Seen(list[int]):
    """A list that knows how many of its elements were looked at."""

    seen = 0

    def __iter__(self) -> Iterator[int]:
        for one in super().__iter__():
            self.seen += 1
            yield one


def test_of_large_values_only_the_beginning_is_looked_at() -> None:
    """Hundreds of events may be about one of a megabyte."""
    value = Seen(range(100_000))
    short = shorten(story(EVENTS_MAX, value), EVENTS_MAX)
    assert str(short.events[0].value).startswith("[0,1,2,")
    assert value.seen <= 2 * EVENTS_MAX * VALUE_BYTES_MAX


@settings(max_examples=10, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(),
        lambda some: st.lists(some) | st.dictionaries(st.text(), some),
    )
)
def test_what_is_looked_at_is_the_beginning_of_the_json(value: Json) -> None:
    (event,) = shorten(story(1, value), 1).events
    text = msgspec.json.encode(value).decode()
    if len(text.encode()) <= VALUE_BYTES_MAX:
        assert event.value == value
    else:
        assert isinstance(event.value, str)
        assert text.startswith(event.value.removesuffix("…"))


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 200), st.sampled_from(["x" * 5_000, [1, None, {}] * 20, "ü\u202e\x1b" * 99]))
def test_it_is_never_large_and_can_be_read_and_shown(count: int, value: object) -> None:
    few, whole = EVENTS_MAX, story(count, value, "(null)" * 9_999)
    while len(data := encode(shorten(whole, few))) > STORY_BYTES_MAX:
        assert few, "without any events it fits"
        few //= 2
    read = read_condensed(data)
    assert read.shortened
    assert len(read.events) + read.left_out == count
    assert text.render(read)
