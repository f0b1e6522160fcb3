"""The model: what a story says, and from whose point of view."""

from __future__ import annotations

import gc

import msgspec
from fluvial.air.machine.errors import Catchable
from fluvial.air.machine.machine import Machine
from fluvial.air.machine.outcomes import Failed
from fluvial.air.syntax import parse
from fluvial.stored import HandOver
from fluvial.story import html, mermaid, svg, text
from fluvial.story.merging import merge_stories
from fluvial.story.story import Story, tell
from hypothesis import given
from hypothesis import strategies as st

from tests.core.story.chats import chat
from tests.core.story.flows import BEGAN_MS, CALL_MS, HANDOVER_MS, Flow


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


def test_a_hop_says_how_its_receiver_was_found() -> None:
    relay, alice = chat().key("relay").peer_id, chat().key("alice").peer_id
    first, later = (
        HandOver(relay, BEGAN_MS + 5, "known", "/ip4/192.0.2.7/tcp/7771,/ip4/192.0.2.8/tcp/7771"),
        HandOver(relay, BEGAN_MS + 60_000, "connection"),
    )
    story = tell(chat().stored("alice"), alice, [first, later])
    assert (story.events[1].way, story.events[1].via) == (first.way, first.via)
    assert "at a known address, /ip4/192.0.2.7/tcp/7771 or /ip4/192.0.2.8/tcp/7771" in text.render(story)
    assert "at a known address" in svg.render(story)
    others = merge_stories([chat().story("relay"), story])
    assert [event.way for event in others.events if event.kind == "hop" and event.peer == alice] == ["known"]
    assert not any(event.way for event in tell(chat().stored("relay"), relay, [first]).events)


def test_what_a_script_says_once_is_there_once_however_often_it_happens() -> None:
    """A peer tells such stories itself, of large flows that have ended: a script of a megabyte took as much for each of a thousand calls."""
    call = f'(call "@alice" ("op" "noop") ["{"x" * 100_000}" i])'
    script = f'(seq (call "@alice" ("load" "list") [] l) (fold l i (par {call} (next i))))'
    services = {"load.list": list(range(100)), "op.noop": ""}
    story = Flow(script, peers=["alice"], services=services).story("alice")
    assert len(story.events) == 101
    waiting = Flow(script, peers=["alice"], services=services, silent=["op.noop"]).story("alice")
    assert len(waiting.waits) == 100
    texts = [event.instruction for event in story.events] + [one.instruction for one in waiting.waits]
    assert sum(len(one) for one in {id(one): one for one in texts}.values()) < 500_000


def test_what_is_sent_in_place_of_another_peer_is_a_hop_without_a_fact() -> None:
    script = '(seq (call "@bob" ("s" "x") [] x) (par (call "@alice" ("s" "y") []) (call "@carol" ("s" "z") [x])))'
    flow = Flow(script, peers=["alice", "bob", "carol"], services={"s.x": 1, "s.y": 2, "s.z": 3})
    (node,) = [int(event.instance) for event in flow.story("alice").events if event.function == "z"]
    flow.resend("alice", "carol", node)
    story = flow.story("alice")
    again = story.events[-1]
    assert (again.kind, again.peer, again.to) == ("hop", flow.key("alice").peer_id, flow.key("carol").peer_id)
    assert (again.function, again.instance, again.signed) == ("z", str(node), "")
    merged = merge_stories([story, flow.story("carol")])
    assert [event.kind for event in merged.events if not event.signed].count("hop") == 1
    for rendered in (text.render, mermaid.render, svg.render, html.render):
        assert rendered(merged)


def test_a_failure_is_sent_to_where_failures_meet() -> None:
    branches = '(par (call "@bob" ("s" "bad") []) (call "@carol" ("s" "bad") []))'
    script = f'(xor {branches} (call "@dave" ("s" "handler") []))'
    flow = Flow(script, peers=["alice", "bob", "carol", "dave"], services={"s.bad": Failed(1, '"no"'), "s.handler": 1})
    story = flow.story("dave")
    hops = [event for event in story.events if event.kind == "hop" and event.instruction == "par"]
    assert {hop.peer for hop in hops} == {str(flow.key(name).peer_id) for name in ("bob", "carol")}
    assert {hop.to for hop in hops} == {str(flow.key("dave").peer_id)}
    assert "failed branch" in text.render(story)


def test_the_error_that_undid_the_last_run_is_told() -> None:
    """Nothing of such a run is in the journal; of a first one the journal is empty."""
    call = '(call %init_peer_id% ("s" "f") [] x)'
    for script in ("(seq (ap 1 x) (ap 2 x))", f"(seq {call} {call})"):
        told = Flow(script, peers=["alice"], services={"s.f": 1}).story("alice")
        assert told.error.startswith("20007: `x` is set already")
        assert "error: 20007: `x` is set already" in text.render(told)


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


def test_a_failure_notice_is_told_and_no_fact_of_it() -> None:
    flow = chat(silent=["archive.store"])
    before = flow.story("alice")
    error = Catchable(10000, "the disk\x1b is full")
    error.instruction = parse('(call "p" ("archive" "store") [])').root
    flow.notice("history", error.message, error=error)
    story = flow.story("alice")
    *_, notice = story.events
    assert story.events[:-1] == before.events
    assert (notice.kind, notice.error, notice.at) == ("notice", "10000: the disk\x1b is full", "1:1")
    assert (notice.peer, notice.signed) == (flow.key("history").peer_id, "verified")
    told = text.render(story, names=flow.names)
    what = r'CANNOT GO ON: 10000: the disk\x1b is full at 1:1 (call "p" ("archive" "store") [])'
    assert f"history {what}" in told
    assert "notices 1, facts verified" in told
    assert notice in merge_stories([story, flow.story("history")]).events
    for rendered in (mermaid.render(story), svg.render(story), html.render(story)):
        assert "CANNOT GO ON" in rendered


# --- closed calls

ROW = """
    (seq (call "@bob" ("s" "one") [] x)
      (seq (call "@bob" ("s" "two") [x])
        (seq (call "@bob" ("s" "three") [] y) (call "@carol" ("s" "four") [y]))))"""


def row() -> Flow:
    services = {"s.one": "first", "s.two": "second", "s.three": "third", "s.four": "fourth"}
    return Flow(ROW, peers=["alice", "bob", "carol"], services=services)


def calls_of(story: Story) -> list[tuple[str, object, object]]:
    return [(event.function, event.value, event.arguments) for event in story.events if event.kind == "call"]


def test_calls_that_are_closed_are_told_as_answered_and_not_what_with() -> None:
    story = row().story("carol")
    not_here = "… not here"
    assert calls_of(story) == [
        ("one", not_here, None),
        ("two", not_here, None),
        ("three", "third", []),
        ("four", "fourth", ["third"]),
    ]
    one, two, three = (event for event in story.events if event.function in ("one", "two", "three") and event.value)
    assert (one.closed, two.closed, three.closed) == (True, True, False)
    assert (one.partial, one.signed, one.at, one.instance) == (True, "verified", "2:10", "1")
    assert one.fact == two.fact != three.fact
    told = text.render(story)
    assert 's.two(…) → "… not here"' in told
    for rendered in (mermaid.render(story), svg.render(story), html.render(story)):
        assert "not here" in rendered


def test_the_peer_that_has_answered_tells_what_with() -> None:
    assert calls_of(row().story("bob"))[:2] == [("one", "first", []), ("two", "second", ["first"])]


def test_a_closed_call_is_told_once_by_all_together() -> None:
    flow = row()
    for order in (["bob", "carol"], ["carol", "bob"], ["carol", "bob", "carol"]):
        merged = merge_stories([flow.story(name) for name in order])
        assert calls_of(merged) == [
            ("one", "first", []),
            ("two", "second", ["first"]),
            ("three", "third", []),
            ("four", "fourth", ["third"]),
        ]
        assert not any(event.closed for event in merged.events)
    again = merge_stories([flow.story("carol"), told_by_alice(flow.story("carol"), flow)])
    assert [function for function, *_ in calls_of(again)] == ["one", "two", "three", "four"]


def told_by_alice(story: Story, flow: Flow) -> Story:
    """A story as if another peer told it."""
    return msgspec.structs.replace(story, told_by=str(flow.key("alice").peer_id))


# --- since when it waits

STEPS = """
    (seq (call "@bob" ("a" "first") [] x)
         (par (seq (call "@alice" ("a" "slow") [x] y) (call "@bob" ("a" "second") [y] z))
              (seq (call "@carol" ("a" "third") [] w) (match z w (call "@bob" ("a" "last") [])))))"""


def waits_of(flow: Flow, name: str) -> list[tuple[str, int | None]]:
    story = flow.story(name)
    names = {str(flow.key(one).peer_id): one for one in ("alice", "bob", "carol")}
    found = []
    for waiting in story.waits:
        reason = " ".join(names.get(word, word) for word in waiting.reason.split())
        found.append((reason, None if waiting.since_ms is None else waiting.since_ms - BEGAN_MS))
    return found


def test_a_wait_says_since_when() -> None:
    services = {"a.first": 1, "a.slow": 2, "a.second": 3}
    flow = Flow(STEPS, peers=["alice", "bob", "carol"], services=services, silent=["a.second", "a.third"])
    asked_carol_ms = HANDOVER_MS + CALL_MS  # bob has answered
    arrived_ms = asked_carol_ms + HANDOVER_MS
    found = waits_of(flow, "alice")
    answered_ms = flow.stored("alice").journal[-1].at_ms - BEGAN_MS
    assert found == [
        ("bob has not answered yet", answered_ms),
        ("carol has not answered yet", arrived_ms),
    ]
    assert waits_of(flow, "bob")[1] == ("carol has not answered yet", asked_carol_ms)


def test_an_instruction_waits_for_each_thing_since_it_waits_for_that() -> None:
    """The call of bob first needs a name, then bob."""
    script = """
        (par (call "@carol" ("a" "slow") [] x)
             (par (call "@carol" ("a" "never") [] y) (match x 1 (match y 2 (null)))))"""
    services = {"a.slow": 1}
    flow = Flow(script, peers=["alice", "bob", "carol"], services=services, silent=["a.never"])
    assert waits_of(flow, "alice") == [
        ("carol has not answered yet", 0),
        ("carol has not answered yet", 0),
        ("`x` has no value yet", 0),
    ]
    *_, last = waits_of(flow, "carol")
    assert last == ("`y` has no value yet", HANDOVER_MS + CALL_MS)


def test_machines_that_were_made_for_a_story_are_gone_when_it_is_told() -> None:
    """They are in circles: garbage collectors would stop a peer for those that are left."""
    services = {"a.first": 1, "a.slow": 2, "a.second": 3}
    flow = Flow(STEPS, peers=["alice", "bob", "carol"], services=services, silent=["a.second", "a.third"])
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(one, Machine) for one in gc.get_objects())
        flow.story("alice")
        assert sum(isinstance(one, Machine) for one in gc.get_objects()) == before
    finally:
        gc.enable()


def test_since_when_is_told_as_far_as_the_machine_may_run_again_for_that() -> None:
    services = {"a.first": 1, "a.slow": 2, "a.second": 3}
    flow = Flow(STEPS, peers=["alice", "bob", "carol"], services=services, silent=["a.second", "a.third"])
    stored, me = flow.stored("alice"), flow.key("alice").peer_id
    assert [waiting.since_ms for waiting in tell(stored, me, steps_max=0).waits] == [None, None]
    assert tell(stored, me, steps_max=1_000) == flow.story("alice")


def test_times_are_looked_for_where_most_waits_began() -> None:
    """Only so many moments are looked at, and each of the last sixteen waits began at one of its own."""
    later = "(null)"
    for number in range(16):
        asked = '(seq (call "@bob" ("s" "f") []) (call "@alice" ("s" "f") []))'
        later = f'(seq {asked} (par {later} (call "@bob" ("s" "late") [{number}])))'
    first = '(fold l i (par (call "@bob" ("s" "first") [i]) (next i)))'
    script = f'(seq (call "@alice" ("s" "list") [] l) (par {first} {later}))'
    flow = Flow(
        script, peers=["alice", "bob"], services={"s.list": list(range(9)), "s.f": 1}, silent=["s.first", "s.late"]
    )
    story = tell(flow.stored("alice"), flow.key("alice").peer_id, steps_max=3_000)
    waits = [one for one in story.waits if '"first"' in one.instruction]
    assert [one.since_ms is not None for one in waits] == [True] * 9


@given(st.data())
def test_waits_began_when_they_are_first_seen_in_the_journal(data: st.DataObject) -> None:
    """Bisection finds what looking at every moment finds."""
    silent = data.draw(st.sets(st.sampled_from(["a.first", "a.slow", "a.second", "a.third", "a.last"])))
    services = {"a.first": 1, "a.slow": 2, "a.second": 3, "a.third": 3, "a.last": 4}
    flow = Flow(STEPS, peers=["alice", "bob", "carol"], services=services, silent=sorted(silent))
    for name in flow.met:
        stored = flow.stored(name)
        first: dict[tuple[str, str], int] = {}
        for end in range(1, len(stored.journal) + 1):
            if end < len(stored.journal) and stored.journal[end].at_ms == stored.journal[end - 1].at_ms:
                continue
            now = tell(msgspec.structs.replace(stored, journal=stored.journal[:end]), flow.key(name).peer_id)
            for waiting in now.waits:
                first.setdefault((waiting.instance, waiting.reason), stored.journal[end - 1].at_ms)
        for waiting in flow.story(name).waits:
            assert waiting.since_ms == first[waiting.instance, waiting.reason]
