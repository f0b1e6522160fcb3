"""The rows of the drawing: boxes on lanes and arrows between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, assert_never

from fluvial.air.machine.shown import json_text
from fluvial.story import shapes
from fluvial.story.diagram import Arrow, Done, Handed, Missing, Omitted, Open, Row, purposes
from fluvial.story.frame import MARGIN, TIME_WIDTH, Block, Lanes
from fluvial.story.story import OWN, VERIFIED, Event
from fluvial.story.text import not_delivered
from fluvial.story.wording import (
    REASON_CHARACTERS_MAX,
    TOOLTIP_CHARACTERS_MAX,
    Wording,
    columns,
    cut,
    first_lines,
    moment,
)

BOX_FONT: Final = 11.5
BOX_WIDTH_MIN: Final = 110.0
BOX_GAP: Final = 10.0
LINE_HEIGHT: Final = 15.5
PART_LINES_MAX: Final = 2
"""Most lines for the subject of a box, and again for its outcome."""

SEAL_WIDTH: Final = 22.0
ARROW_HEIGHT: Final = 40.0
ARROW_Y: Final = 24.0
LABEL_FONT: Final = 11.0
STUB_WIDTH: Final = 56.0

_SEALS: Final = {VERIFIED: shapes.seal, OWN: shapes.ring}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Box:
    """What a box shows.

    Attributes:
        peer: on whose lane.
        look: its class.
        what, outcome: its two parts; each may take several lines.
        outcome_look: class of the second part.
        tooltip: the whole.
        signed: as in events.
    """

    peer: str
    look: str
    what: str
    outcome: str
    outcome_look: str
    tooltip: str
    signed: str = ""


class Painter:
    """Draws rows, each from its own upper edge on.

    Args:
        places: where the lanes are.
        wording: how peers and values are put.
    """

    def __init__(self, places: Lanes, wording: Wording) -> None:
        self._places = places
        self._wording = wording
        self._time = ""

    def paint(self, row: Row) -> Block:
        """The row; its time stands at the left unless the row before had the same."""
        match row:
            case Arrow():
                return self._timed(row.hops[0], ARROW_Y, self._arrow(row))
            case Handed(event=event):
                label = f"arrived, hop {event.hop}"
                arrow = self._line(event.peer, event.to, ("handed", "handed-tip"), label, _whole(event))
                return self._timed(event, ARROW_Y, Block(arrow, ARROW_HEIGHT))
            case Done(event=event):
                return self._timed(event, LINE_HEIGHT - 3, self._box(self._done(event)))
            case Open():
                return self._box(self._open(row))
            case Missing(undelivered=undelivered):
                text = not_delivered(undelivered, self._wording)
                box = _Box(
                    peer=undelivered.peer,
                    look="failure",
                    what="not delivered",
                    outcome=text,
                    outcome_look="red",
                    tooltip=text,
                )
                return self._box(box)
            case Omitted():
                text = f"… {row.count} more are not drawn"
                return Block(shapes.text(MARGIN + TIME_WIDTH, 14, text, "label"), 28)
            case _:
                assert_never(row)

    def _timed(self, event: Event, y: float, block: Block) -> Block:
        time = self._wording.seconds(event.known_at_ms)
        if time == self._time:
            return block
        self._time = time
        guide = shapes.line(MARGIN + TIME_WIDTH - 8, y, self._places.last_x, y, "guide")
        return Block(
            guide + shapes.text(MARGIN + TIME_WIDTH - 16, y + 4, time, "time mono") + block.markup, block.height
        )

    # --- boxes

    def _done(self, event: Event) -> _Box:
        wording = self._wording
        if event.kind == "notice":
            what, _, outcome = wording.notice(event).partition(": ")
            return _Box(
                peer=event.peer,
                look="failure",
                what=what,
                outcome=outcome,
                outcome_look="red",
                tooltip=_whole(event),
                signed=event.signed,
            )
        sign = {"canon": "=", "failure": "✗"}.get(event.kind, "→")
        return _Box(
            peer=event.peer,
            look=event.kind,
            what=wording.canon(event) if event.kind == "canon" else wording.call(event),
            outcome=f"{sign} {wording.outcome(event, REASON_CHARACTERS_MAX)}",
            outcome_look="red" if event.kind == "failure" else "outcome",
            tooltip=_whole(event),
            signed=event.signed,
        )

    def _open(self, row: Open) -> _Box:
        waiting, wording = row.waiting, self._wording
        sent = "" if row.asked_at_ms is None else f" (sent there at {wording.seconds(row.asked_at_ms)})"
        return _Box(
            peer=row.peer,
            look="open",
            what=f"waits: {wording.text(waiting.instruction, REASON_CHARACTERS_MAX)}",
            outcome=wording.text(waiting.reason, REASON_CHARACTERS_MAX) + sent,
            outcome_look="amber",
            tooltip=f"{waiting.instruction} at {waiting.at}\n{waiting.reason}",
        )

    def _box(self, box: _Box) -> Block:
        """A box as wide as it must be and as the lane allows."""
        room = self._places.pitch - 32
        seal = _SEALS.get(box.signed)
        beside = SEAL_WIDTH if seal else 0.0
        what = shapes.wrapped(box.what, shapes.mono_columns(room - beside, BOX_FONT), lines_max=PART_LINES_MAX)
        outcome = shapes.wrapped(box.outcome, shapes.mono_columns(room, BOX_FONT), lines_max=PART_LINES_MAX)
        widths = [columns(line) * BOX_FONT * shapes.MONO_WIDTH for line in (*what, *outcome)]
        width = max(min(max(widths[0] + beside, *widths), room) + 20, BOX_WIDTH_MIN)
        left = self._places.x(box.peer) - width / 2
        height = 12 + LINE_HEIGHT * len(widths)
        lines = [
            *((line, "fact mono") for line in what),
            *((line, f"fact mono {box.outcome_look}") for line in outcome),
        ]
        markup = shapes.group(
            box.tooltip,
            shapes.box(left, 0, width, height, box.look),
            *(shapes.text(left + 10, 17 + LINE_HEIGHT * row, line, look) for row, (line, look) in enumerate(lines)),
            seal(left + width - 14, 13) if seal else "",
        )
        return Block(markup, height + BOX_GAP)

    # --- arrows

    def _arrow(self, row: Arrow) -> Block:
        hop, wording = row.hops[0], self._wording
        what = ", ".join(purposes(row, wording))
        label = f"for {what}" if what else "sent on"
        told = (f"{_whole(one)}\n{wording.way(one)}".strip() for one in row.hops)
        tooltip = first_lines(told, TOOLTIP_CHARACTERS_MAX)
        if not hop.to:
            arrow = self._stub(hop, tooltip)
        elif row.lost is None:
            arrow = self._line(hop.peer, hop.to, ("hop", "tip"), label, tooltip)
        else:
            why = wording.text(row.lost.error, REASON_CHARACTERS_MAX) or "not tried yet"
            tooltip += f"\nnot delivered: {not_delivered(row.lost, wording)}"
            arrow = self._line(hop.peer, hop.to, ("lost", ""), f"✗ not delivered: {why}", tooltip)
        seal = shapes.small_seal(self._places.x(hop.peer), ARROW_Y) if hop.signed == VERIFIED else ""
        return Block(arrow + seal, ARROW_HEIGHT)

    def _line(self, peer: str, to: str, looks: tuple[str, str], label: str, tooltip: str) -> str:
        """An arrow from lane to lane with its label above; without a class for the tip it ends in a cross."""
        start, end, y = self._places.x(peer), self._places.x(to), ARROW_Y
        look, tip = looks
        colour = "mono" if tip else "mono red"
        if start == end:
            shown = cut(label, shapes.mono_columns(self._places.pitch / 2 - 48, LABEL_FONT))
            body = shapes.loop(start, y, look)
            body += shapes.head(start, y + 10, -1, tip) if tip else shapes.cross(start, y + 10)
            return shapes.group(tooltip, body, shapes.text(start + 42, y + 7, shown, f"small {colour}"))
        way = 1 if end > start else -1
        if tip:
            body = shapes.line(start, y, end - way * shapes.ARROW_HEAD, y, look) + shapes.head(end - way, y, way, tip)
        else:
            body = shapes.line(start, y, end - way * 12, y, look) + shapes.cross(end - way * 8, y)
        shown = cut(label, shapes.mono_columns(abs(end - start) - 24, LABEL_FONT))
        return shapes.group(tooltip, body, shapes.text((start + end) / 2, y - 7, shown, f"over {colour}"))

    def _stub(self, hop: Event, tooltip: str) -> str:
        """A hop to nobody knows where."""
        start = self._places.x(hop.peer)
        end = start + STUB_WIDTH
        return shapes.group(
            tooltip,
            shapes.line(start, ARROW_Y, end - shapes.ARROW_HEAD, ARROW_Y, "hop"),
            shapes.head(end, ARROW_Y, 1, "tip"),
            shapes.text(end + 5, ARROW_Y + 4, "?", "label"),
        )


def _whole(event: Event) -> str:
    """All that is known of an event, for the tooltip."""
    lines = [event.kind + (f" {event.service}.{event.function}" if event.service or event.function else "")]
    lines.append(f"by {event.peer}" + (f"\nto {event.to}" if event.to else ""))
    lines += [f"{event.instruction.strip()} at {event.at}"] if event.instruction else []
    lines += [f"arguments {json_text(event.arguments)}"] if event.arguments is not None else []
    lines += [f"value {json_text(event.value)}"] if event.kind in ("call", "canon") else []
    lines += [f"error {event.error}"] if event.error else []
    lines += [f"hop {event.hop}"] if event.hop else []
    lines += [f"signature {event.signed}"] if event.signed else []
    return "\n".join([*lines, moment(event.known_at_ms)])
