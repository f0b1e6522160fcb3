"""Where things are done, and the way from peer to peer."""

from __future__ import annotations

from fluvial_aqua.explaining import route, route_text
from fluvial_aqua.model.operands import Reference
from fluvial_aqua.model.tree import Relay, Station
from fluvial_aqua.topology.paths import path

from tests.plugins.aqua.support import check, program, run, told


def station(name: str, *relays: str, inside: Station | None = None) -> Station:
    return Station(Reference(name), tuple(Relay(Reference(one)) for one in relays), inside)


def passed(start: Station, end: Station) -> list[str]:
    return [hop.peer.text for hop in path(start, end)]


HOME = station("client", "relay")


def test_a_client_leaves_and_comes_home_through_its_relay() -> None:
    there = station("bob", inside=HOME)
    assert passed(HOME, there) == ["relay"]
    assert passed(there, HOME) == ["relay"]


def test_relays_are_passed_in_order_and_back_in_reverse() -> None:
    there = station("bob", "a", "b", inside=HOME)
    assert passed(HOME, there) == ["relay", "a", "b"]
    assert passed(there, HOME) == ["b", "a", "relay"]


def test_neighbours_behind_one_relay_meet_at_it() -> None:
    one, other = station("alice", "a", inside=HOME), station("bob", "a", inside=HOME)
    assert passed(one, other) == ["a"]


def test_neighbours_of_a_client_meet_at_its_relay() -> None:
    assert passed(station("alice", inside=HOME), station("bob", inside=HOME)) == ["relay"]
    free = station("client")
    assert passed(station("alice", inside=free), station("bob", inside=free)) == []


def test_inner_peers_are_reached_directly() -> None:
    outer = station("alice", inside=HOME)
    assert passed(outer, station("bob", inside=outer)) == []
    assert passed(station("bob", inside=outer), HOME) == ["relay"]


def test_a_relay_that_is_the_target_is_not_passed_twice() -> None:
    assert passed(HOME, station("relay", inside=HOME)) == []


def test_data_of_all_branches_arrive() -> None:
    lines = 'on "@alice" via "@relay2":\n  x <- Op.echo("a")\npar on "@bob":\n  y <- Op.echo("b")\non "@carol":\n  Op.pair(x, y)'
    assert told(run(lines, relay="relay"))[-1] == "@carol pair(a, b)"


def test_an_error_is_carried_back_to_where_it_is_caught() -> None:
    lines = 'try:\n  on "@alice" via "@relay2":\n    on "@bob":\n      Op.boom()\ncatch e:\n  Op.note("caught")\non "@carol":\n  Op.note("on")'
    seen = run(lines, relay="relay")
    assert told(seen) == ["@bob boom()", "@client note(caught)", "@carol note(on)"]
    assert seen["error"] is None


def test_branches_gather_where_they_come_together() -> None:
    lines = """got: *string
for p <- ["@alice", "@bob", "@carol"] par:
  on p:
    got <- Op.echo(p)
join got[2]
Op.note("all")"""
    seen = run(lines, relay="relay")
    assert told(seen)[-1] == "@client note(all)"
    # once to the relay, to each peer and back, and home once
    assert seen["deliveries"] == 8


def test_a_peer_that_is_away_is_passed_over() -> None:
    lines = """got: *string
for p <- ["@alice", "@bob"] par:
  on p:
    got <- Op.echo(p)
join got[0]
Op.note(got[0])"""
    seen = run(lines, relay="relay", absent_peers=["bob"])
    assert (told(seen)[-1], seen["lost"]) == ("@client note(@alice)", ["@bob"])


def test_relays_may_be_a_collection() -> None:
    lines = 'rs = ["@relay2", "@carol"]\non "@bob" via rs:\n  x <- Op.echo("a")\nOp.note(x)'
    seen = run(lines, relay="relay")
    assert (told(seen)[-1], seen["deliveries"]) == ("@client note(a)", 8)


def test_what_is_told_of_a_way_names_each_hop_and_why() -> None:
    compilation = check(program('on "@bob":\n  x <- Op.echo("a")\nOp.note(x)'))
    steps = route(compilation.placed("main"))
    hops = [step.text for step in steps if step.what == "hop"]
    assert any(text.startswith("-relay-: on the way from the peer that begins to") for text in hops)
    assert any("carries an error" in text for text in hops)
    assert len(route_text(steps)) >= len(steps)
