"""Several peers' stories of one particle become one story."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Final, TypeAlias

from msgspec.structs import replace

from fluvial.stored import ParticleState
from fluvial.story.story import VERIFIED, Contradiction, Event, Story, Undelivered, WaitingInstruction
from fluvial.story.wording import told_by

FACTS_THAT_ANSWER: Final = frozenset({"call", "failure", "canon"})

_Key: TypeAlias = tuple[str, ...]
"""What an event has in common in all stories; the last number distinguishes equal events of one story."""


def merge_stories(stories: Sequence[Story]) -> Story:
    """The story that the peers would tell together.

    An event that several stories have appears once, with the time of the peer that knew it first. The order of preference of events:

    1. A cause comes before its effect, even where clocks differ.
    2. The earlier event comes first.
    3. The event of the earlier story comes first.

    A wait is left out if another peer has the answer. It is also left out if another peer knows more than the peer that waits,
    and does not wait for it.

    Args:
        stories: of the same particle, at least one, told by different peers or by one at different times.

    Raises:
        ValueError: there is none, or they are of different particles.
    """
    if not stories:
        raise ValueError("there are no stories to merge")
    first = stories[0]
    same = (first.particle_id, first.initiator, first.script, first.began_ms)
    for story in stories:
        if (story.particle_id, story.initiator, story.script, story.began_ms) != same:
            raise ValueError(f"the stories are of different particles: {first.particle_id!r}, {story.particle_id!r}")
    if all(story == first for story in stories):
        return first
    keyed = _joined([list(zip(_keys(story.events), story.events, strict=True)) for story in stories])
    events = _in_order(stories, keyed)
    ahead = _ahead(stories, keyed)
    waits = _waits(ahead, events, _began(stories))
    peers = [first.initiator, *_peers(events, waits), *(peer for story in stories for peer in story.peers)]
    errors = dict.fromkeys(story.error for story in ahead if story.error)
    return replace(
        first,
        told_by=" ".join(dict.fromkeys(peer for story in stories for peer in told_by(story))),
        state=(ParticleState.LIVE if waits else ParticleState.FINISHED).value,
        peers=list(dict.fromkeys(peers)),
        events=events,
        waits=waits,
        undelivered=_undelivered(stories),
        contradictions=_contradictions(stories),
        error="; ".join(errors),
    )


def _keys(events: Iterable[Event]) -> Iterator[_Key]:
    """The name of each event; what a fact says is part of it, so that two lies about one instance are two events."""
    times: Counter[tuple[str, ...]] = Counter()
    for event in events:
        said: tuple[str, ...]
        if event.kind == "notice":
            said = (event.at, event.instruction, event.error)
        elif event.kind == "arrival":
            said = (event.to, str(event.hop))
        elif event.kind == "hop":  # where to and what for is not known to everybody
            said = (event.instance, "fact" if event.signed else "")
        else:
            said = (event.instance, "" if event.closed else event.fact)
        key = (event.kind, event.peer, *said)
        times[key] += 1
        yield (*key, str(times[key]))


def _joined(keyed: Sequence[Sequence[tuple[_Key, Event]]]) -> list[list[tuple[_Key, Event]]]:
    """The same events with their keys; a call that is closed in one story gets the key of the call that another story discloses."""
    told: dict[tuple[str, str], _Key] = {}
    for key, event in (pair for pairs in keyed for pair in pairs):
        if event.kind == "call" and not event.closed:
            told.setdefault((event.peer, event.instance), key)
    return [
        [(told.get((event.peer, event.instance), key) if event.closed else key, event) for key, event in pairs]
        for pairs in keyed
    ]


def _together(events: Sequence[Event]) -> Event:
    """One event from what several stories know of it: each knows the fact, but perhaps not where it leads."""
    first = min(events, key=lambda event: event.known_at_ms)
    best = max(events, key=_detail)
    way = next((event for event in events if event.way), best)
    return replace(
        best,
        known_at_ms=first.known_at_ms,
        way=way.way,
        via=way.via,
        signed=VERIFIED if any(event.signed == VERIFIED for event in events) else best.signed,
    )


def _detail(event: Event) -> tuple[bool, ...]:
    """Greater for an event of which more is known."""
    return (not event.closed, bool(event.at), bool(event.to), event.arguments is not None, not event.partial)


# --- order


def _in_order(stories: Sequence[Story], keyed: Sequence[Sequence[tuple[_Key, Event]]]) -> list[Event]:
    """All events, each once; of those whose causes have come, the earliest comes next."""
    versions: dict[_Key, list[Event]] = defaultdict(list)
    causes: dict[_Key, set[_Key]] = defaultdict(set)
    for story, pairs in zip(stories, keyed, strict=True):
        for key, event in pairs:
            versions[key].append(event)
        for key, before in _causes(story, pairs):
            causes[key].add(before)
    merged = {key: _together(known) for key, known in versions.items()}
    times = {key: (event.known_at_ms, rank, key) for rank, (key, event) in enumerate(merged.items())}
    sorter = TopologicalSorter({key: causes[key] for key in merged})
    try:
        sorter.prepare()
    except CycleError:  # impossible unless a journal was tampered with: then the clocks are all there is
        return [merged[key] for key in sorted(merged, key=times.__getitem__)]
    ready: list[tuple[int, int, _Key]] = []
    order: list[Event] = []
    while sorter.is_active():
        for key in sorter.get_ready():
            heapq.heappush(ready, times[key])
        key = heapq.heappop(ready)[-1]
        order.append(merged[key])
        sorter.done(key)
    return order


def _causes(story: Story, pairs: Sequence[tuple[_Key, Event]]) -> Iterator[tuple[_Key, _Key]]:
    """Pairs of an event and one that came before it for sure: a peer's own event follows all that this peer knew then.

    An arrival is written down before the facts that came with it, but those had happened already.
    """
    tellers = told_by(story)
    if len(tellers) != 1:  # a merged story: its order is not one peer's
        return
    since: list[_Key] = []
    arrival: _Key | None = None
    for key, event in pairs:
        if event.kind == "arrival":
            yield from ((key, before) for before in since)
            since, arrival = [key], key
        elif event.peer == tellers[0]:
            yield from ((key, before) for before in since)
            since, arrival = [key], None
        else:
            since.append(key)
            if arrival is not None:
                yield arrival, key


# --- what is open


def _ahead(stories: Sequence[Story], keyed: Sequence[Sequence[tuple[_Key, Event]]]) -> list[Story]:
    """The stories that none of the others outdoes: more facts never make a flow go less far."""
    known = [{key for key, event in pairs if event.kind in FACTS_THAT_ANSWER} for pairs in keyed]
    return [story for story, mine in zip(stories, known, strict=True) if not any(mine < other for other in known)]


def _began(stories: Sequence[Story]) -> dict[tuple[str, str], int]:
    """Since when each instance has waited for something, on whichever peer it did so first."""
    began: dict[tuple[str, str], int] = {}
    for waiting in (waiting for story in stories for waiting in story.waits):
        if (since_ms := waiting.since_ms) is not None:
            what = (waiting.instance, waiting.reason)
            began[what] = min(since_ms, began.get(what, since_ms))
    return began


def _waits(
    stories: Sequence[Story], events: Sequence[Event], began: dict[tuple[str, str], int]
) -> list[WaitingInstruction]:
    """The waits, one for each instance; of two waits of one instance the one that names a peer is kept."""
    answered = {event.instance for event in events if event.kind in FACTS_THAT_ANSWER}
    waits: dict[str, WaitingInstruction] = {}
    for waiting in (waiting for story in stories for waiting in story.waits):
        name = waiting.instance or f"{waiting.at} {waiting.instruction}"
        if waiting.instance not in answered and not (name in waits and waits[name].peer):
            waits[name] = replace(waiting, since_ms=began.get((waiting.instance, waiting.reason)))
    return list(waits.values())


def _undelivered(stories: Sequence[Story]) -> list[Undelivered]:
    rows: dict[str, Undelivered] = {}
    for one in (one for story in stories for one in story.undelivered):
        before = rows.get(one.peer, Undelivered(peer=one.peer, attempts=0, error=""))
        rows[one.peer] = Undelivered(
            peer=one.peer, attempts=before.attempts + one.attempts, error=one.error or before.error
        )
    return list(rows.values())


def _contradictions(stories: Sequence[Story]) -> list[Contradiction]:
    """The contradictions, one for each peer and instance."""
    found: dict[tuple[str, str], Contradiction] = {}
    for one in (one for story in stories for one in story.contradictions):
        found.setdefault((one.peer, one.instance), one)
    return list(found.values())


def _peers(events: Sequence[Event], waits: Sequence[WaitingInstruction]) -> Iterator[str]:
    for event in sorted(events, key=lambda event: event.kind == "arrival"):
        yield from (peer for peer in (event.peer, event.to) if peer)
    yield from (waiting.peer for waiting in waits if waiting.peer)
