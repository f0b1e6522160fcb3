"""What stands around the rows of the drawing: title, lanes with their names, legend."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from fluvial.story import shapes
from fluvial.story.diagram import Arrow, Handed, Open, Row
from fluvial.story.story import OWN, VERIFIED, Story
from fluvial.story.wording import Wording, cut, duration, figures, moment, title, told_by

LANES_MAX: Final = 24
"""Further peers share the last lane."""

WIDTH_MIN: Final = 760.0
MARGIN: Final = 28.0
TIME_WIDTH: Final = 68.0
PITCH_MIN: Final = 196.0
PITCH_MAX: Final = 300.0
LANES_WIDTH: Final = 1_320.0
"""What the lanes may take together before they are made narrower."""

HEAD_WIDTH_MAX: Final = 220.0
HEAD_HEIGHT: Final = 48.0
FOOT_HEIGHT: Final = 28.0

TITLE_FONT, NAME_FONT, FONT = 19.0, 14.0, 12.0
FIGURE_COLUMNS_MAX: Final = 60


class Block(NamedTuple):
    """A part of the drawing, around an origin of its own: its left upper corner."""

    markup: str
    height: float


@dataclass(frozen=True, slots=True)
class Lane:
    """One peer's lane, or that of all peers for which there is no room.

    Attributes:
        x: its middle.
        name, short: the two lines of its head; ``short`` may be empty.
        tooltip: who it is.
        first: whether it is the initiator's.
    """

    x: float
    name: str
    short: str
    tooltip: str
    first: bool


class Lanes:
    """Where the lanes are.

    Args:
        peers: who has one, the initiator first; not empty.
        wording: what they are called.
    """

    def __init__(self, peers: Sequence[str], wording: Wording) -> None:
        count = min(len(peers), LANES_MAX)
        self.pitch: Final = min(max(LANES_WIDTH / count, PITCH_MIN), PITCH_MAX)
        self.width: Final = max(WIDTH_MIN, 2 * MARGIN + TIME_WIDTH + count * self.pitch)
        self._head_width = min(self.pitch - 24, HEAD_WIDTH_MAX)
        self._lanes = [self._lane(index, peers, wording) for index in range(count)]
        self._index = {peer: min(index, count - 1) for index, peer in enumerate(peers)}

    def x(self, peer: str) -> float:
        """The middle of a peer's lane."""
        return self._lanes[self._index[peer]].x

    @property
    def last_x(self) -> float:
        """The middle of the last lane."""
        return self._lanes[-1].x

    def heads(self) -> Block:
        """The names above the lanes."""
        return Block("\n".join(map(self._head, self._lanes)), HEAD_HEIGHT + 18)

    def feet(self) -> Block:
        """The names again, below the lanes."""
        return Block("\n".join(map(self._foot, self._lanes)), FOOT_HEIGHT)

    def lifelines(self, top: float, bottom: float) -> str:
        """The lines of the lanes."""
        return "\n".join(shapes.line(lane.x, top, lane.x, bottom, "life") for lane in self._lanes)

    def _lane(self, index: int, peers: Sequence[str], wording: Wording) -> Lane:
        x = MARGIN + TIME_WIDTH + (index + 0.5) * self.pitch
        if index == LANES_MAX - 1 and len(peers) > LANES_MAX:
            others = peers[index:]
            return Lane(x, f"{len(others)} more peers", "", "\n".join(others), first=False)
        peer = peers[index]
        name, short = wording.peer(peer), wording.short(peer)
        fitting = cut(name, shapes.sans_columns(self._head_width - 16, NAME_FONT))
        second = short if short != name else cut(peer, 16) if peer != name else ""
        return Lane(x, fitting, second, f"{name}\n{peer}", first=index == 0)

    def _box(self, lane: Lane, height: float) -> str:
        classes = "head first" if lane.first else "head"
        return shapes.box(lane.x - self._head_width / 2, 0, self._head_width, height, classes, round_by=8)

    def _head(self, lane: Lane) -> str:
        return shapes.group(
            lane.tooltip,
            self._box(lane, HEAD_HEIGHT),
            shapes.text(lane.x, 23 if lane.short else 29, lane.name, "name"),
            shapes.text(lane.x, 39, lane.short, "short mono") if lane.short else "",
            shapes.box(lane.x - 29, -8, 58, 16, "pill", round_by=8) if lane.first else "",
            shapes.text(lane.x, 3.5, "initiator", "tag") if lane.first else "",
        )

    def _foot(self, lane: Lane) -> str:
        return shapes.group(lane.tooltip, self._box(lane, FOOT_HEIGHT), shapes.text(lane.x, 19, lane.name, "name"))


def banner(story: Story, wording: Wording, width: float) -> Block:
    """Title, figures, and the error that ended the last run."""
    room = width - 2 * MARGIN
    y = 14.0
    parts = [shapes.text(MARGIN, y, cut(title(story), shapes.sans_columns(room, TITLE_FONT)), "title")]
    if story.particle_id not in title(story):
        y += 22
        text = cut(f"particle {story.particle_id}", shapes.mono_columns(room, FONT))
        parts.append(shapes.text(MARGIN, y, text, "id mono"))
    items = {
        "began": moment(story.began_ms),
        "lives": duration(story.ttl_ms),
        **figures(story),
        "state": story.state,
        "told by": ", ".join(map(wording.peer, told_by(story))),
    }
    x, y = MARGIN, y + 26
    for name, value in items.items():
        shown = cut(value, FIGURE_COLUMNS_MAX)
        wide = shapes.sans_width(f"{name} {shown}", FONT)
        if x > MARGIN and x + wide > width - MARGIN:
            x, y = MARGIN, y + 19
        parts.append(shapes.labelled(x, y, name, shown))
        x += wide + 20
    y += 28
    if story.error:
        text = "error " + wording.text(story.error, shapes.sans_columns(room - 40, FONT))
        inner = (shapes.box(MARGIN, y - 12, room, 30, "failure"), shapes.text(MARGIN + 12, y + 8, text, "red"))
        parts.append(shapes.group(f"error: {story.error}", *inner))
        y += 38
    return Block("\n".join(parts), y)


def legend(story: Story, drawn: Sequence[Row]) -> Block:
    """What the marks mean that occur."""
    x = MARGIN + 8
    parts = []
    for mark, meaning in _marks(story, drawn):
        parts.append(shapes.moved(x, 30, mark + shapes.text(16, 4, meaning, "label")))
        x += 16 + shapes.sans_width(meaning, FONT) + 24
    return Block("\n".join(parts), 40 if parts else 12)


def _marks(story: Story, drawn: Sequence[Row]) -> Iterator[tuple[str, str]]:
    signed = {event.signed for event in story.events}
    if VERIFIED in signed:
        yield shapes.seal(0, 0), "signature verified"
    if OWN in signed:
        yield shapes.ring(0, 0), "the teller's own fact"
    if any(isinstance(row, Arrow) and row.lost for row in drawn):
        yield shapes.line(-8, 0, 9, 0, "lost"), "not delivered"
    if any(isinstance(row, Handed) for row in drawn):
        yield shapes.line(-8, 0, 9, 0, "handed"), "arrived that way, as its receiver noted"
    if any(isinstance(row, Open) for row in drawn):
        yield shapes.box(-8, -6, 17, 12, "open", round_by=3), "waits"
