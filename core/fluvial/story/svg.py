"""The story as a picture: a self-contained SVG sequence diagram, light and dark, without scripts and without anything from elsewhere.

One lane for each peer, one row for each event, times at the left. Widths of texts are estimated from the widest common fonts, since
nothing here knows the fonts of the reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from fluvial.story import shapes
from fluvial.story.diagram import Arrow, Done, Handed, Missing, Omitted, Open, Row, lanes, purposes, rows
from fluvial.story.story import OWN, VERIFIED, Event, Story
from fluvial.story.style import CSS
from fluvial.story.text import NO_NAMES, describe, not_delivered
from fluvial.story.wording import (
    REASON_CHARACTERS_MAX,
    TOOLTIP_CHARACTERS_MAX,
    Wording,
    columns,
    cut,
    duration,
    figures,
    json_text,
    moment,
    title,
    told_by,
)

LANES_MAX: Final = 24
"""Further peers share the last lane."""

WIDTH_MIN: Final = 760.0
MARGIN: Final = 28.0
TIME_WIDTH: Final = 68.0
PITCH_MIN: Final = 196.0
PITCH_MAX: Final = 300.0
LANES_WIDTH: Final = 1_320.0
"""What the lanes may take together before they are made narrower."""

HEAD_HEIGHT: Final = 48.0
FOOT_HEIGHT: Final = 28.0
FOOT_FROM_ROWS: Final = 10
"""Drawings with more rows show the names at the bottom, too."""

BOX_FONT: Final = 11.5
BOX_WIDTH_MIN: Final = 110.0
LINE_HEIGHT: Final = 15.5
OUTCOME_LINES_MAX: Final = 2
BOX_GAP: Final = 10.0
ARROW_HEIGHT: Final = 40.0
SEAL_WIDTH: Final = 22.0
STUB_WIDTH: Final = 56.0


_SEALS: Final = {VERIFIED: shapes.seal, OWN: shapes.ring}


def render(story: Story, *, names: Mapping[str, str] = NO_NAMES) -> str:
    """The story as an SVG document, the last line ended as well.

    Args:
        story: what to draw.
        names: peer id to the name that people use; others are called by the end of their id.
    """
    return _Drawing(story, Wording(story, names)).document()


@dataclass(frozen=True, slots=True)
class _Lane:
    x: float
    name: str
    short: str
    tooltip: str
    first: bool


class _Drawing:
    """Everything from top to bottom; ``_y`` is where the next thing goes."""

    def __init__(self, story: Story, wording: Wording) -> None:
        self._story = story
        self._wording = wording
        self._rows = rows(story)
        peers = lanes(story, self._rows)
        count = min(len(peers), LANES_MAX)
        self._pitch = min(max(LANES_WIDTH / count, PITCH_MIN), PITCH_MAX)
        self._width = max(WIDTH_MIN, 2 * MARGIN + TIME_WIDTH + count * self._pitch)
        self._lanes = [self._lane(index, peers) for index in range(count)]
        self._index = {peer: min(index, count - 1) for index, peer in enumerate(peers)}
        self._y = MARGIN
        self._last_time = ""

    def document(self) -> str:
        story = self._story
        parts = [*self._title(), ""]
        place_of_lifelines = len(parts) - 1
        top = self._y
        parts += self._heads()
        for row in self._rows:
            parts += self._row(row)
        if not self._rows:
            parts.append(shapes.text(MARGIN, self._y + 20, "Nothing has happened yet.", "label"))
            self._y += 32
        lines = [shapes.line(lane.x, top + HEAD_HEIGHT, lane.x, self._y + 4, "life") for lane in self._lanes]
        parts[place_of_lifelines] = "\n".join(lines)
        parts += self._feet()
        parts += self._legend()
        height = self._y + MARGIN - 8
        size = f'width="{self._width:.0f}" height="{height:.0f}" viewBox="0 0 {self._width:.0f} {height:.0f}"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" class="fs" {size} role="img" aria-labelledby="fs-t fs-d">',
                f'<title id="fs-t">{shapes.safe(title(story))}</title>',
                f'<desc id="fs-d">{shapes.safe(self._description())}</desc>',
                f"<style>{CSS}</style>",
                shapes.box(0, 0, self._width, height, "page", round_by=0),
                *(part for part in parts if part),
                "</svg>\n",
            ]
        )

    def _description(self) -> str:
        story = self._story
        lines = [
            f"Sequence diagram of particle {story.particle_id}, begun by {self._wording.peer(story.initiator)}.",
            ", ".join(f"{name} {figure}" for name, figure in figures(story).items()) + ".",
            *(f"{self._wording.peer(event.peer)}: {describe(event, self._wording)}" for event in story.events),
            *(f"waits: {waiting.instruction}: {waiting.reason}" for waiting in story.waits),
        ]
        return cut("\n".join(lines), TOOLTIP_CHARACTERS_MAX)

    # --- above and below the lanes

    def _title(self) -> Iterator[str]:
        story = self._story
        yield shapes.text(MARGIN, self._y + 14, title(story), "title")
        if story.particle_id not in title(story):
            yield shapes.text(MARGIN, self._y + 36, f"particle {story.particle_id}", "id mono")
            self._y += 20
        self._y += 28
        items = {
            "began": moment(story.began_ms),
            "lives": duration(story.ttl_ms),
            **figures(story),
            "state": story.state,
            "told by": ", ".join(map(self._wording.peer, told_by(story))),
        }
        x = MARGIN
        for name, value in items.items():
            shown = cut(value, 60)
            width = (columns(name) + 1 + columns(shown)) * 12 * shapes.SANS_WIDTH
            if x > MARGIN and x + width > self._width - MARGIN:
                x, self._y = MARGIN, self._y + 19
            label = f'<tspan class="label">{shapes.safe(name)}</tspan> {shapes.safe(shown)}'
            yield f'<text x="{x:.0f}" y="{self._y + 12:.0f}">{label}</text>'
            x += width + 20
        self._y += 40
        if story.error:
            text = f"error {self._wording.text(story.error, int((self._width - 2 * MARGIN - 40) / (12 * shapes.SANS_WIDTH)))}"
            yield shapes.box(MARGIN, self._y - 12, self._width - 2 * MARGIN, 30, "failure")
            yield shapes.group(f"error: {story.error}", shapes.text(MARGIN + 12, self._y + 8, text, "red"))
            self._y += 38

    def _lane(self, index: int, peers: Sequence[str]) -> _Lane:
        x = MARGIN + TIME_WIDTH + (index + 0.5) * self._pitch
        if index == LANES_MAX - 1 and len(peers) > LANES_MAX:
            others = peers[index:]
            return _Lane(x, f"{len(others)} more peers", "", "\n".join(others), first=False)
        peer = peers[index]
        name, short = self._wording.peer(peer), self._wording.short(peer)
        fit = int((self._pitch - 40) / (14 * shapes.SANS_WIDTH))
        return _Lane(x, cut(name, fit), short if short != name else peer[:16] + "…", f"{name}\n{peer}", first=index == 0)

    def _heads(self) -> Iterator[str]:
        width = self._pitch - 24
        for lane in self._lanes:
            x, y = lane.x - width / 2, self._y
            tag = []
            if lane.first:
                tag = [
                    shapes.box(lane.x - 29, y - 8, 58, 16, "pill", round_by=8),
                    shapes.text(lane.x, y + 3.5, "initiator", "tag"),
                ]
            yield shapes.group(
                lane.tooltip,
                shapes.box(x, y, width, HEAD_HEIGHT, "head first" if lane.first else "head", round_by=8),
                shapes.text(lane.x, y + (23 if lane.short else 29), lane.name, "name"),
                shapes.text(lane.x, y + 39, lane.short, "short mono") if lane.short else "",
                *tag,
            )
        self._y += HEAD_HEIGHT + 18

    def _feet(self) -> Iterator[str]:
        self._y += 4
        if len(self._rows) <= FOOT_FROM_ROWS:
            return
        width = self._pitch - 24
        for lane in self._lanes:
            classes = "head first" if lane.first else "head"
            yield shapes.group(
                lane.tooltip,
                shapes.box(lane.x - width / 2, self._y, width, FOOT_HEIGHT, classes, round_by=8),
                shapes.text(lane.x, self._y + 19, lane.name, "name"),
            )
        self._y += FOOT_HEIGHT

    def _legend(self) -> Iterator[str]:
        marks = {event.signed for event in self._story.events}
        y = self._y + 30
        entries: list[tuple[str, str]] = []
        if VERIFIED in marks:
            entries.append((shapes.seal(0, 0), "signature verified"))
        if OWN in marks:
            entries.append((shapes.ring(0, 0), "the teller's own fact"))
        if any(isinstance(row, Arrow) and row.lost for row in self._rows):
            entries.append((shapes.line(-8, 0, 9, 0, "lost"), "not delivered"))
        if any(isinstance(row, Handed) for row in self._rows):
            entries.append((shapes.line(-8, 0, 9, 0, "handed"), "arrived from there, who sent it on is not known"))
        if any(isinstance(row, Open) for row in self._rows):
            entries.append((shapes.box(-8, -6, 17, 12, "open", round_by=3), "waits"))
        x = MARGIN + 8
        for mark, meaning in entries:
            yield f'<g transform="translate({x:.0f} {y:.0f})">{mark}{shapes.text(16, 4, meaning, "label")}</g>'
            x += 16 + columns(meaning) * 12 * shapes.SANS_WIDTH + 24
        self._y = y + 10 if entries else self._y + 12

    # --- rows

    def _row(self, row: Row) -> Iterator[str]:
        match row:
            case Arrow():
                yield from self._arrow(row)
            case Done():
                yield from self._done(row.event)
            case Handed():
                yield from self._handed(row.event)
            case Open():
                yield from self._open(row)
            case Missing():
                text = not_delivered(row.undelivered, self._wording)
                yield from self._box(row.undelivered.peer, "failure", "not delivered", text, "red", text)
            case Omitted():
                text = f"… {row.count} more are not drawn"
                yield shapes.text(MARGIN + TIME_WIDTH, self._y + 14, text, "label")
                self._y += 28
            case _:
                assert_never(row)

    def _time(self, at_ms: int, y: float) -> str:
        """When, at the left; said once for rows of the same moment."""
        time = self._wording.seconds(at_ms)
        if time == self._last_time:
            return ""
        self._last_time = time
        guide = shapes.line(MARGIN + TIME_WIDTH - 8, y - 4, self._lanes[-1].x, y - 4, "guide")
        return guide + shapes.text(MARGIN + TIME_WIDTH - 16, y, time, "time mono")

    def _done(self, event: Event) -> Iterator[str]:
        wording = self._wording
        yield self._time(event.known_at_ms, self._y + 17)
        if event.kind == "canon":
            what, sign = wording.canon(event), "="
        else:
            what, sign = wording.call(event), "✗" if event.kind == "failure" else "→"
        outcome = f"{sign} {wording.outcome(event, REASON_CHARACTERS_MAX)}"
        style = "red" if event.kind == "failure" else "outcome"
        yield from self._box(event.peer, event.kind, what, outcome, style, _whole(event), mark=event.signed)

    def _open(self, row: Open) -> Iterator[str]:
        waiting, wording = row.waiting, self._wording
        what = f"waits: {wording.text(waiting.instruction, REASON_CHARACTERS_MAX)}"
        why = wording.text(waiting.reason, REASON_CHARACTERS_MAX)
        if row.asked_at_ms is not None:
            why += f" (sent there at {wording.seconds(row.asked_at_ms)})"
        tooltip = f"{waiting.instruction} at {waiting.at}\n{waiting.reason}"
        yield from self._box(row.peer, "open", what, why, "amber", tooltip)

    def _box(
        self, peer: str, kind: str, what: str, outcome: str, style: str, tooltip: str, *, mark: str = ""
    ) -> Iterator[str]:
        """A box on a peer's lane, as wide as it must be and as the lane allows: one line, and up to two for the outcome."""
        x, y, seal = self._x(peer), self._y, _SEALS.get(mark)
        room = self._pitch - 32
        first = cut(what, shapes.mono_columns(room - (SEAL_WIDTH if seal else 0), BOX_FONT))
        others = shapes.wrapped(outcome, shapes.mono_columns(room, BOX_FONT), lines_max=OUTCOME_LINES_MAX)
        wide = columns(first) * BOX_FONT * shapes.MONO_WIDTH + (SEAL_WIDTH if seal else 0)
        wide = max([wide, *(columns(other) * BOX_FONT * shapes.MONO_WIDTH for other in others)])
        width = max(min(wide, room) + 20, BOX_WIDTH_MIN)
        height = 12 + LINE_HEIGHT * (1 + len(others))
        left = x - width / 2
        yield shapes.group(
            tooltip,
            shapes.box(left, y, width, height, kind),
            shapes.text(left + 10, y + 17, first, "fact mono"),
            *(
                shapes.text(left + 10, y + 17 + LINE_HEIGHT * number, other, f"fact mono {style}")
                for number, other in enumerate(others, start=1)
            ),
            seal(left + width - 14, y + 13) if seal else "",
        )
        self._y += height + BOX_GAP

    def _arrow(self, row: Arrow) -> Iterator[str]:
        hop, wording = row.hops[0], self._wording
        y = self._y + 24
        yield self._time(hop.known_at_ms, y + 4)
        what = ", ".join(purposes(row, wording))
        label = f"for {what}" if what else "sent on"
        tooltip = "\n".join(_whole(one) for one in row.hops)
        if not hop.to:
            yield self._stub(hop, y, tooltip)
        elif row.lost is None:
            yield self._line(hop.peer, hop.to, y, ("hop", "tip"), label, tooltip)
        else:
            label = f"✗ not delivered: {wording.text(row.lost.error, REASON_CHARACTERS_MAX) or 'not tried yet'}"
            tooltip += f"\nnot delivered: {not_delivered(row.lost, wording)}"
            yield self._line(hop.peer, hop.to, y, ("lost", ""), label, tooltip)
        self._y += ARROW_HEIGHT

    def _handed(self, event: Event) -> Iterator[str]:
        y = self._y + 24
        yield self._time(event.known_at_ms, y + 4)
        yield self._line(event.peer, event.to, y, ("handed", "handed-tip"), f"arrived, hop {event.hop}", _whole(event))
        self._y += ARROW_HEIGHT

    def _line(self, peer: str, to: str, y: float, classes: tuple[str, str], label: str, tooltip: str) -> str:
        """An arrow from lane to lane with its label above; without a class for the tip it ends in a cross."""
        start, end = self._x(peer), self._x(to)
        stroke, tip = classes
        lost = " red" if not tip else ""
        if start == end:
            parts = [shapes.loop(start, y, stroke), shapes.head(start, y + 10, -1, tip) if tip else shapes.cross(start, y)]
            where, room = start + 40, self._pitch / 2 - 44
            shown = cut(label, shapes.mono_columns(room, 11))
            return shapes.group(tooltip, *parts, shapes.text(where, y + 6, shown, f"mono{lost}", anchor="start"))
        way = 1 if end > start else -1
        room = abs(end - start) - 24
        shown = cut(label, shapes.mono_columns(room, 11))
        if tip:
            body = [shapes.line(start, y, end - way * shapes.ARROW_HEAD, y, stroke), shapes.head(end - way, y, way, tip)]
        else:
            body = [shapes.line(start, y, end - way * 12, y, stroke), shapes.cross(end - way * 8, y)]
        over = shapes.text((start + end) / 2, y - 7, shown, f"over mono{lost}")
        return shapes.group(tooltip, *body, over)

    def _stub(self, hop: Event, y: float, tooltip: str) -> str:
        """A hop to nobody knows where."""
        start = self._x(hop.peer)
        end = start + STUB_WIDTH
        return shapes.group(
            tooltip,
            shapes.line(start, y, end - shapes.ARROW_HEAD, y, "hop"),
            shapes.head(end, y, 1, "tip"),
            shapes.text(end + 5, y + 4, "?", "label"),
        )

    def _x(self, peer: str) -> float:
        return self._lanes[self._index[peer]].x


def _whole(event: Event) -> str:
    """All that is known of an event, for the tooltip; long texts are cut there."""
    lines = [event.kind + (f" {event.service}.{event.function}" if event.service or event.function else "")]
    lines.append(f"by {event.peer}" + (f"\nto {event.to}" if event.to else ""))
    if event.instruction:
        lines.append(f"{event.instruction.strip()} at {event.at}")
    if event.arguments is not None:
        lines.append(f"arguments {json_text(event.arguments)}")
    if event.kind in ("call", "canon"):
        lines.append(f"value {json_text(event.value)}")
    lines += [f"error {event.error}"] if event.error else []
    lines += [f"hop {event.hop}"] if event.hop else []
    return "\n".join([*lines, moment(event.known_at_ms), *([f"signature {event.signed}"] if event.signed else [])])
