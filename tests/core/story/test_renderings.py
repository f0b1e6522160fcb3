"""The renderings: the same as ever (golden files), well-formed whatever a stranger writes, complete and readable."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from fluvial.air.machine.outcomes import Failed
from fluvial.story import data, html, mermaid, svg, text
from fluvial.story.frame import LANES_MAX
from fluvial.story.merging import merge_stories
from fluvial.story.story import Event, Story, Undelivered
from hypothesis import given, settings
from msgspec.structs import replace

from tests.core.story.chats import chat
from tests.core.story.flows import BEGAN_MS, Flow
from tests.core.story.hostile import TEXTS, stories

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "UPDATE_GOLDEN"
"""Set to 1 to write the golden files anew; then look at the difference, and at the pictures."""

SVG = "{http://www.w3.org/2000/svg}"
STEADY = settings(max_examples=25, derandomize=True, deadline=None)
FULL_DISK = Failed(5, '"the disk is full"')


def all_of(flow: Flow) -> Story:
    return merge_stories([flow.story(name) for name in flow.met])


@cache
def told() -> dict[str, tuple[Story, dict[str, str]]]:
    whole, lost, failed = chat(), chat(absent=["carol"]), chat(services={"archive.store": FULL_DISK})
    return {
        "whole": (all_of(whole), whole.names),
        "lost": (all_of(lost), lost.names),
        "alone": (lost.story("members"), {}),
        "failed": (failed.story("alice"), failed.names),
    }


# --- golden files


@pytest.mark.parametrize(
    "file",
    [
        *("whole.txt", "whole.json", "whole.mmd", "whole.svg"),
        *("lost.txt", "lost.mmd", "lost.svg"),
        *("failed.txt", "failed.mmd", "failed.html"),
        "alone.txt",
    ],
)
def test_renderings_are_as_they_were(file: str) -> None:
    modules = {".txt": text, ".json": data, ".mmd": mermaid, ".svg": svg, ".html": html}
    path = GOLDEN / file
    story, names = told()[path.stem]
    rendered = modules[path.suffix].render(story, names=names)
    if os.environ.get(UPDATE) == "1":
        path.write_text(rendered, encoding="utf-8")
    assert rendered == path.read_text(encoding="utf-8"), f"{path.name} differs; {UPDATE}=1 writes it anew"


# --- text


def lines_of(story: Story, names: dict[str, str], now_ms: int | None = None) -> list[str]:
    return [re.sub(r" +", " ", line) for line in text.render(story, names=names, now_ms=now_ms).splitlines()]


def test_text_has_a_line_for_each_event() -> None:
    story, names = told()["whole"]
    lines = lines_of(story, names)
    assert '0.004 alice call load.message() → "hi" signed ✓' in lines
    assert "0.004 alice ⇒ relay for app.resolve signed ✓" in lines
    assert '0.075 history canon $got #got = ["bob got hi"] own' in lines
    assert "0.090 carol → history arrived, hop 4" in lines


def test_text_says_what_is_waited_for_and_who_was_not_reached() -> None:
    story, names = told()["lost"]
    rendered = text.render(story, names=names, now_ms=BEGAN_MS + 1_034)
    waits = 'waits: call p ("chat" "message") [message] $got at 11:13 — carol has not answered yet'
    assert f"{waits}, since 1 s; sent there at 0.034\n" in rendered
    assert f"{waits}, since 0.034; sent there at 0.034\n" in text.render(story, names=names)
    assert "not delivered: carol, tried without success: no address answers: connection refused" in rendered


def test_text_knows_that_a_particle_waits_no_longer_than_it_lives() -> None:
    story, names = told()["lost"]
    rendered = text.render(story, names=names, now_ms=BEGAN_MS + 1_000_000)
    assert "carol has not answered yet, for 29.966 s until the particle expired; sent there at 0.034" in rendered


def test_peers_without_a_name_are_called_by_the_end_of_their_id() -> None:
    story, _ = told()["alone"]
    assert f"…{story.initiator[-6:]} call load.message()" in text.render(story)


def test_ids_that_end_alike_stay_different() -> None:
    story = replace(
        chat().story("alice"), peers=["12D3KooW" + "a" * 44, "12D3KooW" + "b" * 37 + "a" * 7], events=[], waits=[]
    )
    heads = [
        one.text for one in ElementTree.fromstring(svg.render(story)).iter(SVG + "text") if one.get("class") == "name"
    ]
    assert len(set(heads)) == len(heads) == 2


def test_long_values_are_cut() -> None:
    flow = Flow('(call %init_peer_id% ("a" "b") [] x)', peers=["me"], services={"a.b": ["x" * 100_000]})
    assert max(map(len, text.render(flow.story("me"), names=flow.names).splitlines())) < 200


def test_a_letter_under_any_number_of_accents_is_cut() -> None:
    flow = Flow('(call %init_peer_id% ("a" "b") [] x)', peers=["me"], services={"a.b": "e" + "\u0301" * 100_000})
    assert len(text.render(flow.story("me"))) < 2_000


def test_a_call_with_thousands_of_arguments_is_cut() -> None:
    script = f'(seq (call %init_peer_id% ("a" "b") [] x) (call %init_peer_id% ("c" "d") [{" ".join(["x"] * 9_999)}]))'
    flow = Flow(script, peers=["me"], services={"a.b": "y" * 100, "c.d": ""})
    story = flow.story("me")
    shown = text.render(story)
    assert re.search(r"c\.d\(\"y+…, .*, … 9,?9\d\d more\)", shown)
    assert len(shown) < 2_000
    assert data.render(story).count("y" * 100) == 10_000


def test_a_value_that_is_handed_over_again_and_again_makes_no_story_of_gigabytes() -> None:
    script = '(seq (call "@a" ("s" "big") [] x) (seq (call "@a" ("s" "list") [] l) (fold l i (par (call "@a" ("s" "f") [x i]) (next i)))))'
    services = {"s.big": "y" * 1_000_000, "s.list": list(range(40)), "s.f": ""}
    flow = Flow(script, peers=["a"], services=services)
    story = flow.story("a")
    for rendered in (text.render(story), mermaid.render(story), svg.render(story)):
        assert len(rendered) < 500_000
    json = data.render(story)
    assert 10_000_000 < len(json) < 20_000_000
    read = msgspec.json.decode(json, type=Story)
    assert read.shortened
    assert [event.function for event in read.events] == [event.function for event in story.events]
    assert read.events[2].arguments == story.events[2].arguments
    assert len(str(read.events[-1].arguments)) < 500


class Looked(list[Event]):
    """A list that knows how often it was gone through."""

    times = 0

    def __iter__(self) -> Iterator[Event]:
        self.times += 1
        return super().__iter__()


def test_events_are_not_gone_through_for_each_instruction_that_waits() -> None:
    story = chat(absent=["carol"]).story("alice")
    times = []
    for waits in (story.waits[:1], story.waits[:1] * 50):
        looked = Looked(story.events)
        for render in (text.render, svg.render):
            render(replace(story, waits=waits, events=looked))
        times.append(looked.times)
    assert times[0] == times[1]


def is_visible(rendered: str) -> bool:
    """Whether there are lines of characters that are seen, and spaces of all kinds, as French and Japanese have them."""
    return "".join(
        " " if unicodedata.category(one) == "Zs" else one for one in rendered.replace("\n", "")
    ).isprintable()


@STEADY
@given(stories())
def test_text_can_be_shown_on_any_terminal(story: Story) -> None:
    assert is_visible(text.render(story))


# --- JSON


@STEADY
@given(stories())
def test_json_can_be_read_back_and_shown(story: Story) -> None:
    rendered = data.render(story)
    assert msgspec.json.decode(rendered, type=Story) == story
    assert is_visible(rendered)


# --- Mermaid

STATEMENT = re.compile(
    r"""\ {4}(?:
      accTitle:\ [^#;]*(?:\#\d+;[^#;]*)*
    | autonumber
    | participant\ p\d+\ as\ [^#;:]*(?:\#\d+;[^#;:]*)*
    | p\d+(?:->>|-->>|--x)p\d+:\ [^#;:]*(?:\#\d+;[^#;:]*)*
    | (?:\ \ \ \ )?Note\ over\ p\d+:\ [^#;:]*(?:\#\d+;[^#;:]*)*
    | rect\ rgba\([\d,\ .]+\)
    | end
    )""",
    re.VERBOSE,
)


@STEADY
@given(stories())
def test_mermaid_statements_are_not_broken_by_what_strangers_write(story: Story) -> None:
    first, *lines = mermaid.render(story).splitlines()
    assert first == "sequenceDiagram"
    for line in lines:
        assert STATEMENT.fullmatch(line), line
        assert not re.search(r"[<>&%$`\\]", line.replace("->>", ""))
    assert sum(line.strip() == "end" for line in lines) == sum(line.strip().startswith("rect ") for line in lines)


def test_mermaid_marks_what_was_not_delivered() -> None:
    story, names = told()["lost"]
    assert "p2--xp4: ✗ not delivered#58; carol, tried without success" in mermaid.render(story, names=names)


# --- SVG


@STEADY
@given(stories())
def test_svg_is_well_formed_and_shows_nothing_from_elsewhere(story: Story) -> None:
    rendered = svg.render(story)
    root = ElementTree.fromstring(rendered)
    used = {element.tag.removeprefix(SVG) for element in root.iter()}
    assert used <= {"svg", "title", "desc", "style", "g", "rect", "text", "tspan", "line", "path", "circle"}
    attributes = {name for element in root.iter() for name in element.attrib}
    assert not [name for name in attributes if name.startswith("on") or "href" in name]
    assert "url(" not in rendered
    assert "@import" not in (root.findtext(SVG + "style") or "")


@pytest.mark.parametrize("hostile", TEXTS)
def test_svg_keeps_a_hostile_text_as_text(hostile: str) -> None:
    flow = Flow('(call %init_peer_id% ("a" "b") [] x)', peers=["me"], services={"a.b": hostile})
    root = ElementTree.fromstring(svg.render(flow.story("me"), names={str(flow.key("me").peer_id): hostile}))
    assert root.get("role") == "img"
    assert root.findtext(SVG + "title")


def texts(rendered: str, look: str) -> list[str]:
    root = ElementTree.fromstring(rendered)
    return [one.text or "" for one in root.iter(SVG + "text") if look in (one.get("class") or "").split()]


def looks(rendered: str) -> list[str]:
    return [look for one in ElementTree.fromstring(rendered).iter() for look in (one.get("class") or "").split()]


def test_svg_has_a_lane_for_each_peer_and_a_mark_for_each_verified_box() -> None:
    story, names = told()["whole"]
    rendered = svg.render(story, names=names)
    assert texts(rendered, "name")[:6] == ["alice", "relay", "members", "bob", "carol", "history"]
    assert looks(rendered).count("call") == 6
    assert looks(rendered).count("verified") == 5 + 6 + 1, "boxes, arrows, legend"
    assert "initiator" in texts(rendered, "tag")


def test_svg_draws_a_lost_hop_apart_from_one_that_came_to_its_end() -> None:
    story, names = told()["lost"]
    rendered = svg.render(story, names=names)
    assert looks(rendered).count("cross") == 1
    assert any(one.startswith("✗ not delivered: no address answers") for one in texts(rendered, "red"))
    assert "cross" not in looks(svg.render(told()["whole"][0]))


def test_a_hop_is_not_lost_if_its_receiver_was_seen_later() -> None:
    flow = chat()
    story = all_of(flow)
    late = Undelivered(peer=str(flow.key("history").peer_id), attempts=1, error="busy")
    assert "cross" not in looks(svg.render(replace(story, undelivered=[late]), names=flow.names))


def test_svg_keeps_whole_values_in_tooltips() -> None:
    value = {"key": "y" * 300}
    flow = Flow('(call %init_peer_id% ("a" "b") [] x)', peers=["me"], services={"a.b": value})
    rendered = svg.render(flow.story("me"))
    assert not any("y" * 300 in one for one in texts(rendered, "fact"))
    assert any("y" * 300 in (one.text or "") for one in ElementTree.fromstring(rendered).iter(SVG + "title"))


def test_an_arrival_that_a_hop_accounts_for_is_not_drawn_twice() -> None:
    story, names = told()["whole"]
    assert "handed" not in looks(svg.render(story, names=names))
    without = replace(story, events=[event for event in story.events if event.kind != "hop"])
    assert "handed" in looks(svg.render(without, names=names))


def test_a_hop_to_an_unknown_peer_is_drawn() -> None:
    story, names = told()["alone"]
    unknown = replace(story, events=[replace(event, to="") for event in story.events if event.kind == "hop"])
    assert "?" in texts(svg.render(unknown, names=names), "label")


def test_a_story_without_events_is_drawn() -> None:
    story = Flow("(null)", peers=["alice"]).story("alice")
    assert "Nothing has happened yet." in svg.render(story)
    assert "nothing has happened yet" in text.render(story)
    assert f"participant p0 as …{story.initiator[-6:]}" in mermaid.render(story)
    assert "Nothing has happened yet." in html.render(story)


@cache
def long_flow() -> Flow:
    peers = [f"peer{number}" for number in range(10)]
    script = "(null)"
    for number in reversed(range(28)):
        script = f'(seq (call "@peer{number * 7 % 10}" ("service{number % 4}" "step") [{number}] v{number}) {script})'
    return Flow(script, peers=peers, services={f"service{number}.step": {"done": True} for number in range(4)})


def boxes(rendered: str) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of every box and head."""
    found = []
    for block in ElementTree.fromstring(rendered).findall(SVG + "g"):
        down = float((block.get("transform") or "").removeprefix("translate(0 ").removesuffix(")"))
        for one in block.iter(SVG + "rect"):
            if {"head", "call", "failure", "canon", "open"} & set((one.get("class") or "").split()):
                x, y, width, height = (float(one.get(name) or 0) for name in ("x", "y", "width", "height"))
                found.append((x, y + down, x + width, y + down + height))
    return found


@pytest.mark.parametrize("name", ["whole", "lost", "alone", "failed", "long"])
def test_no_box_covers_another_or_leaves_the_picture(name: str) -> None:
    story, names = (all_of(flow := long_flow()), flow.names) if name == "long" else told()[name]
    rendered = svg.render(story, names=names)
    root = ElementTree.fromstring(rendered)
    found = [box for box in boxes(rendered) if box[0] >= 0]  # those of the legend have an origin of their own
    for index, (left, top, right, bottom) in enumerate(found):
        assert right <= float(root.get("width") or 0)
        assert bottom <= float(root.get("height") or 0)
        for other_left, other_top, other_right, other_bottom in found[:index]:
            apart = right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top
            assert apart


def test_sixty_events_over_ten_peers_are_all_drawn() -> None:
    story = all_of(long_flow())
    assert len(story.events) > 60
    rendered = svg.render(story)
    assert looks(rendered).count("call") == 28
    assert len(texts(rendered, "over")) == 27
    assert len(texts(rendered, "name")) == 20, "heads and feet"


def test_peers_beyond_the_last_lane_share_it() -> None:
    peers = [f"12D3KooW{number:044}" for number in range(LANES_MAX + 5)]
    story = replace(chat().story("alice"), peers=peers, initiator=peers[0], waits=[])
    hop = replace(story.events[1], peer=peers[0], to=peers[-1])
    inner = replace(hop, peer=peers[-2])
    rendered = svg.render(replace(story, events=[hop, inner]))
    assert "6 more peers" in texts(rendered, "name")
    assert len(texts(rendered, "name")) == LANES_MAX


def test_more_rows_than_anybody_reads_are_left_out_and_counted() -> None:
    story = chat().story("alice")
    many = replace(story, events=[story.events[0]] * 1_000)
    assert "… 700 more are not drawn" in svg.render(many)
    assert len(text.render(many).splitlines()) > 1_000


# --- HTML


class Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.inside = ""
        self.json = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.inside = dict(attrs).get("id") or ""

    def handle_data(self, data: str) -> None:
        self.json += data if self.inside == html.DATA_ID else ""


@STEADY
@given(stories())
def test_html_runs_and_loads_nothing(story: Story) -> None:
    page = Page(html.render(story))
    assert not {"script", "img", "link", "iframe", "object", "b"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name == "src"]
    assert all((value or "").startswith("#line-") for name, value in page.attributes if name == "href")
    assert msgspec.json.decode(page.json, type=Story) == story


def test_html_marks_what_the_script_did_and_waits_for() -> None:
    story, names = told()["lost"]
    page = html.render(story, names=names)
    assert '<tr id="line-3" class="done">' in page
    assert '<mark class="waits" title="waits, done">(call</mark> p (&quot;chat&quot;' in page
    assert '<tr id="line-14"><th' in page


def test_html_has_notes_of_the_teller_as_text() -> None:
    story, names = told()["failed"]
    assert "What else happened" not in html.render(story, names=names)
    page = html.render(story, names=names, notes=["ledger: block 1", "<b>refused</b>"])
    assert "<li>ledger: block 1</li>" in page
    assert "<li>&lt;b&gt;refused&lt;/b&gt;</li>" in page


def test_html_marks_failures() -> None:
    story, names = told()["failed"]
    assert '<mark class="failed" title="failed">(call</mark>' in html.render(story, names=names)


# --- all


@pytest.mark.parametrize("module", ["text", "data", "mermaid", "svg", "html"])
def test_all_renderings_have_one_shape(module: str) -> None:
    story, names = told()["whole"]
    rendered = import_module(f"fluvial.story.{module}").render(story, names=names)
    assert rendered.endswith("\n")
    assert not rendered.endswith("\n\n")


@STEADY
@given(stories())
def test_any_story_can_be_merged(story: Story) -> None:
    other = replace(story, told_by="12D3KooW" + "b" * 44, waits=[])
    assert len(merge_stories([story, other]).events) == len(story.events)
