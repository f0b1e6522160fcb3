"""The story for a terminal: one line for each event, then what is still open."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final

from fluvial.story.story import OWN, VERIFIED, Contradiction, Event, Story, Undelivered, WaitingInstruction
from fluvial.story.wording import (
    INSTRUCTION_CHARACTERS_MAX,
    REASON_CHARACTERS_MAX,
    AskedTimes,
    Wording,
    columns,
    duration,
    figures,
    moment,
    told_by,
)
from fluvial.strangers import printable

NO_NAMES: Final[Mapping[str, str]] = MappingProxyType({})
MARKS: Final[Mapping[str, str]] = {VERIFIED: "signed ✓", OWN: "own", "": ""}
"""The mark of a signature; ``own`` facts are this peer's, whose signature it need not check."""

MARK_COLUMN_MAX: Final = 96
"""A longer line has its mark right behind it, so that one long line does not push away the marks of all others."""


def render(story: Story, *, names: Mapping[str, str] = NO_NAMES, now_ms: int | None = None) -> str:
    """The story as lines of text, the last one ended as well.

    Args:
        story: what to tell.
        names: peer id to the name that people use; others are called by the end of their id.
        now_ms: milliseconds since 1970; if given, waits say for how long, else from when on.
    """
    wording = Wording(story, names)
    lines = [*_head(story, wording), "", *_events(story, wording), "", *open_points(story, wording, now_ms=now_ms)]
    lines.append(", ".join(f"{name} {figure}" for name, figure in figures(story).items()))
    return "\n".join(lines) + "\n"


def describe(event: Event, wording: Wording) -> str:
    """What happened, without when, by whom and the mark: ``call members.is_member() → true``."""
    match event.kind:
        case "call":
            return f"call {wording.call(event)} → {wording.outcome(event)}"
        case "failure":
            return f"FAILED {wording.call(event)}: {wording.outcome(event)}"
        case "canon":
            return f"{wording.canon(event)} = {wording.value(event.value)}"
        case "notice":
            return wording.notice(event)
        case "hop":
            what = wording.purpose(event)
            hop = f"⇒ {wording.peer(event.to) if event.to else '(not known)'}" + (f"  for {what}" if what else "")
            return f"{hop}, {wording.way(event)}" if event.way else hop
        case "arrival":
            return f"→ {wording.peer(event.to)}  arrived, hop {event.hop}"


def _head(story: Story, wording: Wording) -> Iterator[str]:
    yield f"particle {printable(story.particle_id)}, {story.state}"
    initiator = f"{wording.peer(story.initiator)} ({printable(story.initiator)})"
    yield f"  begun by {initiator} at {moment(story.began_ms)}, lives {duration(story.ttl_ms)}"
    yield f"  told by {', '.join(map(wording.peer, told_by(story)))}"
    if story.shortened:
        what = "events in the middle" if story.events else "records"
        left = f", {story.left_out} {what} are left out" if story.left_out else ""
        yield f"  shortened, since it was large: long values are cut{left}"


def _events(story: Story, wording: Wording) -> Iterator[str]:
    if not story.events:
        yield "nothing has happened yet"
        return
    times = [wording.seconds(event.known_at_ms) for event in story.events]
    who = [wording.peer(event.peer) for event in story.events]
    wide, long = max(map(columns, who)), max(map(len, times))
    lines = [
        f"{time:>{long}}  {_padded(name, wide)} {describe(event, wording)}"
        for time, name, event in zip(times, who, story.events, strict=True)
    ]
    mark_column = max((columns(line) for line in lines if columns(line) <= MARK_COLUMN_MAX), default=0)
    for line, event in zip(lines, story.events, strict=True):
        yield f"{_padded(line, mark_column)}  {MARKS[event.signed]}".rstrip()


def _padded(text: str, width: int) -> str:
    return text + " " * (width - columns(text))


def open_points(story: Story, wording: Wording, *, now_ms: int | None = None) -> Iterator[str]:
    """What is not settled: waits, peers that could not be reached, peers that lie, the error that ended the last run."""
    asked = AskedTimes(story)
    for waiting in story.waits:
        yield f"waits: {_waiting(story, waiting, wording, now_ms, asked.ms(waiting))}"
    for undelivered in story.undelivered:
        yield f"not delivered: {not_delivered(undelivered, wording)}"
    for contradiction in story.contradictions:
        yield f"contradicts itself: {_contradiction(contradiction, wording)}"
    if story.error:
        yield f"error: {wording.text(story.error, REASON_CHARACTERS_MAX)}"


def _waiting(
    story: Story, waiting: WaitingInstruction, wording: Wording, now_ms: int | None, asked_ms: int | None
) -> str:
    what = wording.text(waiting.instruction, INSTRUCTION_CHARACTERS_MAX)
    text = f"{what} at {waiting.at} — {wording.text(waiting.reason, REASON_CHARACTERS_MAX)}"
    if waiting.since_ms is not None:
        text += f", {_since(story, waiting.since_ms, wording, now_ms)}"
    return text if asked_ms is None else f"{text}; sent there at {wording.seconds(asked_ms)}"


def _contradiction(found: Contradiction, wording: Wording) -> str:
    """Who has signed two answers, to what, and which: ``bob, call bob ("op" "f") [] x at 1:6 — 1, and 2``."""
    what = wording.text(found.instruction, INSTRUCTION_CHARACTERS_MAX)
    first, second = map(wording.value, found.answers)
    return f"{wording.peer(found.peer)}, {what} at {found.at} — {first}, and {second}"


def _since(story: Story, since_ms: int, wording: Wording, now_ms: int | None) -> str:
    """How long something has waited, if the time is known; else from when on."""
    if now_ms is None:
        return f"since {wording.seconds(since_ms)}"
    deadline_ms = story.began_ms + story.ttl_ms
    waited = duration(max(min(now_ms, deadline_ms) - since_ms, 0))
    return f"since {waited}" if now_ms < deadline_ms else f"for {waited} until the particle expired"


def not_delivered(undelivered: Undelivered, wording: Wording) -> str:
    """Who could not be reached, and why: ``carol, tried without success: connection refused``."""
    peer = wording.peer(undelivered.peer)
    if not undelivered.attempts:
        return f"{peer}, not tried yet"
    return f"{peer}, tried without success: {wording.text(undelivered.error, REASON_CHARACTERS_MAX)}"
