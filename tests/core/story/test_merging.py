"""Several peers' stories become one: each event once, causes first, nothing open that another peer has closed."""

from __future__ import annotations

import random
from itertools import permutations

import msgspec
import pytest
from fluvial.story.merging import merge_stories
from fluvial.story.story import Story, tell
from msgspec.structs import replace

from tests.core.story.chats import chat
from tests.core.story.flows import Flow


def merged(flow: Flow) -> Story:
    return merge_stories([flow.story(name) for name in flow.met])


def told(story: Story, flow: Flow) -> list[str]:
    names = flow.names
    return [
        f"{names[event.peer]} {event.kind} {event.function or names.get(event.to, '')}".strip()
        for event in story.events
        if event.kind != "arrival"
    ]


def test_all_peers_together_tell_the_whole_flow_in_order() -> None:
    flow = chat()
    assert told(merged(flow), flow) == [
        "alice call message",
        "alice hop resolve",
        "relay call resolve",
        "relay hop list",
        "members call list",
        "members hop message",
        "members hop message",
        "bob call message",
        "bob hop history",
        "carol call message",
        "carol hop history",
        "history canon",
        "history call store",
    ]


def test_an_event_has_the_time_of_who_knew_it_first_and_is_verified_if_anybody_did() -> None:
    flow = chat()
    call = merged(flow).events[0]
    assert call.known_at_ms == flow.story("alice").events[0].known_at_ms
    assert call.signed == "verified"


def test_what_nobody_else_has_seen_stays_the_tellers_own() -> None:
    assert merged(chat()).events[-2].signed == "own"


@pytest.mark.parametrize("seed", range(4))
def test_the_order_of_the_stories_does_not_matter_for_what_is_told(seed: int) -> None:
    flow = chat(absent=["carol"])
    stories = [flow.story(name) for name in flow.met]
    random.Random(seed).shuffle(stories)
    one, other = merged(flow), merge_stories(stories)
    assert other.events == one.events
    assert sorted(wait.instance for wait in other.waits) == sorted(wait.instance for wait in one.waits)


def test_merging_one_story_changes_nothing() -> None:
    story = chat(absent=["carol"]).story("members")
    assert merge_stories([story]) == story


def test_merging_the_same_story_twice_changes_nothing() -> None:
    story = chat().story("history")
    assert merge_stories([story, story]) == story


def test_merged_stories_can_be_merged() -> None:
    flow = chat()
    some, others = flow.met[:3], flow.met[3:]
    halves = [merge_stories([flow.story(name) for name in half]) for half in (some, others)]
    assert {event.instance for event in merge_stories(halves).events} == {
        event.instance for event in merged(flow).events
    }


def test_causes_come_first_even_if_clocks_differ() -> None:
    flow = chat()
    stored = flow.stored("relay")
    early = tuple(msgspec.structs.replace(entry, at_ms=entry.at_ms - 5_000) for entry in stored.journal)
    stories = [flow.story("alice"), tell(msgspec.structs.replace(stored, journal=early), flow.key("relay").peer_id)]
    for order in permutations(stories):
        assert told(merge_stories(order), flow)[:3] == ["alice call message", "alice hop resolve", "relay call resolve"]


def test_a_wait_that_another_peer_has_answered_is_left_out() -> None:
    flow = chat()
    assert flow.story("alice").waits
    assert merged(flow).waits == []
    assert merged(flow).state == "finished"


def test_what_nobody_has_answered_is_still_waited_for() -> None:
    flow = chat(absent=["carol"])
    waits = merged(flow).waits
    assert [wait.peer for wait in waits] == [flow.key("carol").peer_id]
    asked = next(event.known_at_ms for event in merged(flow).events if event.to == flow.key("carol").peer_id)
    assert [wait.since_ms for wait in waits] == [asked], "since whoever asked waits, not since others heard of it"
    assert merged(flow).state == "live"


def test_a_name_that_a_further_peer_knows_is_not_waited_for() -> None:
    script = '(par (call "@bob" ("a" "b") [] x) (match x 1 (call "@carol" ("c" "d") [x] y)))'
    flow = Flow(script, peers=["alice", "bob", "carol"], services={"a.b": 1, "c.d": 2})
    assert any("no value" in wait.reason for wait in flow.story("alice").waits)
    assert merged(flow).waits == []


def test_peers_that_several_could_not_reach_are_told_once() -> None:
    flow = chat(absent=["history"])
    rows = merged(flow).undelivered
    assert [(row.peer, row.attempts) for row in rows] == [(flow.key("history").peer_id, 6)]


def test_the_tellers_are_named() -> None:
    flow = chat()
    assert merged(flow).told_by.split() == [str(flow.key(name).peer_id) for name in flow.met]


def test_equal_calls_in_different_iterations_are_all_told() -> None:
    script = '(seq (call "@bob" ("a" "b") [] xs) (fold xs x (seq (call "@carol" ("c" "d") [] y) (next x))))'
    flow = Flow(script, peers=["alice", "bob", "carol"], services={"a.b": [1, 1, 1], "c.d": "same"})
    assert sum(event.function == "d" and event.kind == "call" for event in merged(flow).events) == 3


def test_stories_of_different_particles_are_refused() -> None:
    story = chat().story("alice")
    with pytest.raises(ValueError, match="different particles"):
        merge_stories([story, replace(story, particle_id="another")])


def test_no_stories_are_refused() -> None:
    with pytest.raises(ValueError, match="no stories"):
        merge_stories([])
