"""A story as the rows of a sequence diagram, before anything is drawn; Mermaid and SVG draw the same rows."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from fluvial.story.story import Event, Story, Undelivered, WaitingInstruction
from fluvial.story.wording import AskedTimes, Wording, told_by

ROWS_MAX: Final = 300
"""Rows for events; Mermaid itself refuses texts of 50,000 characters. Text, tables and JSON have them all."""

OPEN_MAX: Final = 40
"""Rows for what is still open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """The particle goes from one peer to another.

    Attributes:
        hops: the ``sent`` facts behind it, at least one, for several instructions at once.
        lost: why it is not there yet, as far as is known.
    """

    hops: tuple[Event, ...]
    lost: Undelivered | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A call, a failure or a canon on one peer."""

    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A copy came from a peer that has no ``sent`` fact for it: it passed the particle on, or its facts are not known here."""

    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Open:
    """An instruction that waits.

    Attributes:
        waiting: which.
        peer: on whose lane it is drawn.
        asked_at_ms: when the particle was sent there for it; None if it was not, or if that is not known.
    """

    waiting: WaitingInstruction
    peer: str
    asked_at_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A peer that could not be reached and to which no arrow is drawn as lost."""

    undelivered: Undelivered


@dataclass(frozen=True, slots=True, kw_only=True)
class Omitted:
    """So many rows are not drawn, since nobody could read them."""

    count: int


Row: TypeAlias = Arrow | Done | Handed | Open | Missing | Omitted


def rows(story: Story) -> list[Row]:
    """What is drawn, from top to bottom.

    Hops of one peer to another that follow each other at one moment are one arrow; an arrival that a hop accounts for is not drawn.
    """
    events = list(_events(story))
    lost = {row.lost.peer for row in events if isinstance(row, Arrow) and row.lost is not None}
    first, asked = told_by(story)[0], AskedTimes(story)
    still: list[Row] = [
        Open(waiting=waiting, peer=waiting.peer or first, asked_at_ms=asked.ms(waiting)) for waiting in story.waits
    ]
    still += [Missing(undelivered=one) for one in story.undelivered if one.peer not in lost]
    return [*_shortened(events, ROWS_MAX), *_shortened(still, OPEN_MAX)]


def lanes(story: Story, drawn: Sequence[Row]) -> list[str]:
    """The peers that have a lane, the initiator first."""
    others = [
        row.peer if isinstance(row, Open) else row.undelivered.peer for row in drawn if isinstance(row, Open | Missing)
    ]
    return list(dict.fromkeys([*story.peers, *others]))


def purposes(arrow: Arrow, wording: Wording) -> list[str]:
    """What the particle was sent on for, each thing once."""
    return list(dict.fromkeys(purpose for hop in arrow.hops if (purpose := wording.purpose(hop))))


def _shortened(drawn: list[Row], rows_max: int) -> list[Row]:
    return drawn if len(drawn) <= rows_max else [*drawn[:rows_max], Omitted(count=len(drawn) - rows_max)]


def _events(story: Story) -> Iterator[Row]:
    expected = _accounted_for(story)
    doubts = _Doubts(story)
    bundle: list[Event] = []
    for index, event in enumerate(story.events):
        if bundle and not _together(bundle[-1], event):
            yield Arrow(hops=tuple(bundle), lost=doubts.about(bundle[-1], index))
            bundle = []
        if event.kind == "hop":
            bundle.append(event)
        elif event.kind != "arrival":
            yield Done(event=event)
        elif index not in expected:
            yield Handed(event=event)
    if bundle:
        yield Arrow(hops=tuple(bundle), lost=doubts.about(bundle[-1], len(story.events)))


def _together(one: Event, other: Event) -> bool:
    return other.kind == "hop" and (one.peer, one.to, one.known_at_ms) == (other.peer, other.to, other.known_at_ms)


class _Doubts:
    """The hops that were not completed: the teller could not deliver them, and nothing of the receiver was seen since."""

    def __init__(self, story: Story) -> None:
        self._pending = {one.peer: one for one in story.undelivered}
        self._tellers = told_by(story)
        self._seen_last: dict[str, int] = {}
        for index, event in enumerate(story.events):
            self._seen_last[event.to if event.kind == "arrival" else event.peer] = index

    def about(self, hop: Event, index: int) -> Undelivered | None:
        """Why a hop is lost, the story going on at ``index``; None if it is not."""
        if hop.peer not in self._tellers or self._seen_last.get(hop.to, -1) >= index:
            return None
        return self._pending.get(hop.to)


def _accounted_for(story: Story) -> set[int]:
    """Indices of the arrivals for which there is a hop; each hop accounts for one."""
    hops: dict[tuple[str, str], deque[int]] = defaultdict(deque)
    for event in story.events:
        if event.kind == "hop":
            hops[event.peer, event.to].append(event.known_at_ms)
    found: set[int] = set()
    for index, event in enumerate(story.events):
        waiting = hops.get((event.peer, event.to)) if event.kind == "arrival" else None
        if waiting and waiting[0] <= event.known_at_ms:
            waiting.popleft()
            found.add(index)
    return found
