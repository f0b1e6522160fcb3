"""The model: what a story says, and from whose point of view."""

from __future__ import annotations

import msgspec
from fluvial.air.machine.machine import Failed
from fluvial.story import text
from fluvial.story.story import Story

from tests.core.story.chats import chat
from tests.core.story.flows import BEGAN_MS, Flow


def test_a_story_begins_with_the_initiators_own_facts() -> None:
    story = chat().story("alice")
    first, second = story.events[:2]
    assert (first.kind, first.service, first.function, first.value, first.signed) == (
        "call",
        "load",
        "message",
        "hi",
        "own",
    )
    assert first.known_at_ms == BEGAN_MS + 4
    assert (second.kind, second.service, second.function) == ("hop", "app", "resolve")
    assert second.to == str(chat().key("relay").peer_id)


def test_what_came_with_the_particle_is_verified_and_known_from_its_arrival_on() -> None:
    story = chat().story("relay")
    arrival, call, hop = story.events[:3]
    assert (arrival.kind, arrival.hop, arrival.signed) == ("arrival", 1, "")
    assert call.signed == hop.signed == "verified"
    assert call.known_at_ms == hop.known_at_ms == arrival.known_at_ms


def test_a_failed_call_is_told_with_its_error() -> None:
    flow = chat(services={"archive.store": Failed(5, '"the disk is full"')})
    failure = next(event for event in flow.story("alice").events if event.kind == "failure")
    assert failure.error == '5: "the disk is full"'
    assert failure.peer == str(flow.key("history").peer_id)


def test_a_hop_has_the_instance_of_the_call_that_waits_for_it() -> None:
    story = chat().story("alice")
    assert story.waits[0].instance == story.events[1].instance != ""


def test_a_failure_is_sent_to_where_failures_meet() -> None:
    branches = '(par (call "@bob" ("s" "bad") []) (call "@carol" ("s" "bad") []))'
    script = f'(xor {branches} (call "@dave" ("s" "handler") []))'
    flow = Flow(script, peers=["alice", "bob", "carol", "dave"], services={"s.bad": Failed(1, '"no"'), "s.handler": 1})
    story = flow.story("dave")
    hops = [event for event in story.events if event.kind == "hop" and event.instruction == "par"]
    assert {hop.peer for hop in hops} == {str(flow.key(name).peer_id) for name in ("bob", "carol")}
    assert {hop.to for hop in hops} == {str(flow.key("dave").peer_id)}
    assert "failed branch" in text.render(story)


def test_iterations_of_a_fold_are_different_instances() -> None:
    hops = [event for event in chat().story("members").events if event.function == "message" and event.kind == "hop"]
    assert len({hop.instance for hop in hops}) == len(hops) == 2
    assert len({hop.at for hop in hops}) == 1


def test_a_story_is_plain_json() -> None:
    story = chat(absent=["carol"]).story("members")
    assert msgspec.json.decode(msgspec.json.encode(story), type=Story) == story


def test_a_story_without_events_has_the_initiator() -> None:
    story = Flow("(null)", peers=["alice"]).story("alice")
    assert (story.events, story.waits, story.state) == ([], [], "finished")
    assert story.peers == [story.initiator]
