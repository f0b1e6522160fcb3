"""A story made small, to be kept in place of a journal: all that a terminal shows of most particles, and the beginning and end of long ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec.structs import replace

from fluvial.air.data.content import Json
from fluvial.air.data.weight import weight_within
from fluvial.encoding import decode, encode
from fluvial.identity import PeerId
from fluvial.stored import StoredParticle
from fluvial.story.story import Contradiction, Event, Story, Undelivered, WaitingInstruction, tell

STORY_BYTES_MAX: Final = 16_384
EVENTS_MAX: Final = 128
"""Half of them are the first ones, half the last ones; fewer if all together are too large."""
VALUE_BYTES_MAX: Final = 120
TEXT_BYTES_MAX: Final = 240
SCRIPT_BYTES_MAX: Final = 4_096
OTHERS_MAX: Final = 8
"""Waits, undelivered peers and contradictions."""
STEPS_MAX: Final = 5_000
"""Steps that are made once more to tell since when something waits: a few flows of thousands would keep the peer busy for minutes."""


def condense(stored: StoredParticle, told: bool, *, me: PeerId) -> bytes:
    """The story of a stored particle in at most ``STORY_BYTES_MAX`` bytes.

    Args:
        stored: all that a peer's store has of it.
        told: whether its events are told, for which the script has to run again a few times.
        me: that peer.

    Raises:
        RemoteProtocolError: the journal is damaged.
    """
    story, count = tell(stored, me, steps_max=STEPS_MAX) if told else _untold(stored, me), EVENTS_MAX
    while len(data := encode(shorten(story, count))) > STORY_BYTES_MAX and count:
        count //= 2
    return data


def _untold(stored: StoredParticle, me: PeerId) -> Story:
    header, initiator = stored.particle.header, str(stored.particle.initiator)
    return Story(
        particle_id=header.id,
        initiator=initiator,
        told_by=str(me),
        script=stored.particle.script,
        began_ms=header.timestamp_ms,
        ttl_ms=header.ttl_ms,
        state=stored.state.value,
        peers=[initiator],
        events=[],
        waits=[],
        undelivered=[
            Undelivered(peer=str(row.peer), attempts=row.attempts, error=row.last_error) for row in stored.outbox
        ],
        left_out=len(stored.journal),
    )


def read_condensed(data: bytes) -> Story:
    """The story that :func:`condense` has made; raises RemoteProtocolError if the bytes are damaged."""
    return decode(data, Story, what="story")


def shorten(story: Story, events_max: int) -> Story:
    """The story with long texts and values cut, and with the first and the last of its events."""
    first, last = (events_max + 1) // 2, events_max // 2
    events = story.events
    if len(events) > events_max:
        events = [*events[:first], *events[len(events) - last :]]
    told = {peer for event in events for peer in (event.peer, event.to)} | {story.initiator}
    return replace(
        story,
        script=_cut(story.script, SCRIPT_BYTES_MAX),
        peers=[peer for peer in story.peers if peer in told],
        events=list(map(_short, events)),
        waits=list(map(_short_wait, story.waits[:OTHERS_MAX])),
        undelivered=[replace(one, error=_cut(one.error)) for one in story.undelivered[:OTHERS_MAX]],
        error=_cut(story.error),
        contradictions=list(map(_short_contradiction, story.contradictions[:OTHERS_MAX])),
        left_out=story.left_out + len(story.events) - len(events),
        shortened=True,
    )


def fitting(story: Story, bytes_max: int) -> Story:
    """The story with long texts and values cut where those before take so much memory together: one value may be there in thousands of calls."""
    left = bytes_max

    def fits(one: Event | WaitingInstruction | Contradiction) -> bool:
        nonlocal left
        weight = weight_within(msgspec.structs.astuple(one), left)
        left -= weight if weight <= left else 0
        return weight <= left

    events = [event if fits(event) else _short(event) for event in story.events]
    waits = [one if fits(one) else _short_wait(one) for one in story.waits]
    contradictions = [one if fits(one) else _short_contradiction(one) for one in story.contradictions]
    whole = (events, waits, contradictions) == (story.events, story.waits, story.contradictions)
    if whole:
        return story
    return replace(story, events=events, waits=waits, contradictions=contradictions, shortened=True)


def _short_wait(one: WaitingInstruction) -> WaitingInstruction:
    return replace(one, instruction=_cut(one.instruction), reason=_cut(one.reason))


def _short_contradiction(one: Contradiction) -> Contradiction:
    first, second = map(_value, one.answers)
    return replace(one, instruction=_cut(one.instruction), answers=(first, second))


def _short(event: Event) -> Event:
    return replace(
        event,
        instruction=_cut(event.instruction),
        service=_cut(event.service),
        function=_cut(event.function),
        arguments=None if event.arguments is None else list(map(_value, event.arguments[:OTHERS_MAX])),
        value=_value(event.value),
        error=_cut(event.error),
    )


def _value(value: Json) -> Json:
    """The value; a text with the beginning of its JSON if that is long."""
    text = ""
    for piece in _written(value):
        text += piece
        if len(text) > VALUE_BYTES_MAX:
            break
    return value if len(text.encode()) <= VALUE_BYTES_MAX else _cut(text, VALUE_BYTES_MAX)


def _written(value: Json) -> Iterator[str]:
    """The JSON of a value piece by piece, each of them short: of megabytes only the beginning is looked at."""
    if isinstance(value, str):
        yield msgspec.json.encode(value[: VALUE_BYTES_MAX + 1]).decode()
    elif isinstance(value, list):
        for number, one in enumerate(value):
            yield "," if number else "["
            yield from _written(one)
        yield "]" if value else "[]"
    elif isinstance(value, dict):
        for number, (name, one) in enumerate(value.items()):
            yield "," if number else "{"
            yield from _written(name)
            yield ":"
            yield from _written(one)
        yield "}" if value else "{}"
    else:
        yield msgspec.json.encode(value).decode()


def _cut(text: str, most: int = TEXT_BYTES_MAX) -> str:
    data = text.encode()
    return text if len(data) <= most else data[:most].decode(errors="ignore") + "…"
