"""Texts that try to become markup, terminal commands or diagram syntax."""

from __future__ import annotations

from typing import Any

from fluvial.story.story import Contradiction, Event, Story, Undelivered, WaitingInstruction
from hypothesis import strategies as st

TEXTS = (
    "<script>alert(1)</script>",
    "</script><!-- ]]> &amp; &",
    "\"quotes\" and 'apostrophes' and `backticks`",
    "line\nbreak\r\n; end\n---\n",
    "\x1b[31mred\x1b[0m\x07\x00\x85\u2028\u202eright to left\ufffe",
    "style: x#35; %%{init: {}}%% $$x^2$$ end",
    "漢字" * 40,
    "",
)

anything = st.one_of(st.sampled_from(TEXTS), st.text(max_size=30))
peers = st.sampled_from(["12D3KooW" + "a" * 44, "12D3KooW" + "b" * 44, "<b>", "x\ny", "", "a b"])
json: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | anything,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(anything, inner, max_size=3),
    max_leaves=6,
)
places = st.sampled_from(["1:1", "2:3", "7:12", "99:1"])
times = st.integers(0, 2**63)

events = st.builds(
    Event,
    kind=st.sampled_from(["call", "failure", "canon", "hop"]),
    peer=peers.filter(bool),
    to=peers,
    instruction=anything,
    at=places | st.just(""),
    instance=st.sampled_from(["", "1", "2@00ff"]),
    service=anything,
    function=anything,
    arguments=st.none() | st.lists(json, max_size=3),
    value=json,
    error=anything,
    known_at_ms=times,
    signed=st.sampled_from(["", "own", "verified"]),
)
arrivals = st.builds(
    Event,
    kind=st.just("arrival"),
    peer=peers.filter(bool),
    to=peers.filter(bool),
    hop=st.integers(0, 9),
    known_at_ms=times,
)
notices = st.builds(
    Event,
    kind=st.just("notice"),
    peer=peers.filter(bool),
    instruction=anything,
    at=places | st.just(""),
    error=anything,
    known_at_ms=times,
    signed=st.just("verified"),
)
waits = st.builds(
    WaitingInstruction,
    instruction=anything,
    at=places,
    reason=anything,
    instance=st.just("1"),
    peer=peers,
    since_ms=st.none() | times,
)
undelivered = st.builds(Undelivered, peer=peers.filter(bool), attempts=st.integers(0, 3), error=anything)
contradictions = st.builds(
    Contradiction,
    peer=peers.filter(bool),
    instruction=anything,
    at=places,
    instance=st.just("1"),
    answers=st.tuples(anything, anything),
    batches=st.just(("00", "01")),
)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Any story that a stranger's particle might lead to, and some that are impossible."""
    initiator = draw(peers.filter(bool))
    told = draw(st.lists(events | arrivals | notices, max_size=8))
    found = {initiator: None, **{peer: None for event in told for peer in (event.peer, event.to) if peer}}
    return Story(
        particle_id=draw(anything),
        initiator=initiator,
        told_by=draw(st.sampled_from(["12D3KooW" + "a" * 44, "12D3KooW" + "a" * 44 + " 12D3KooW" + "b" * 44])),
        script=draw(anything),
        began_ms=draw(times),
        ttl_ms=draw(times),
        state=draw(st.sampled_from(["live", "finished"])),
        peers=list(found),
        events=told,
        waits=draw(st.lists(waits, max_size=2)),
        undelivered=draw(st.lists(undelivered, max_size=2)),
        error=draw(anything),
        contradictions=draw(st.lists(contradictions, max_size=2)),
    )
