"""The story as a picture: a self-contained SVG sequence diagram, light and dark, without scripts and without anything from elsewhere.

One lane for each peer, one row for each event, times at the left. Every part is drawn around an origin of its own, then all are set one
below the other. Widths of texts are estimated from the widest common fonts, since nothing here knows the fonts of the reader.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from fluvial.story import shapes
from fluvial.story.diagram import lanes, rows
from fluvial.story.frame import HEAD_HEIGHT, MARGIN, Block, Lanes, banner, legend
from fluvial.story.painting import Painter
from fluvial.story.story import Story
from fluvial.story.style import CSS
from fluvial.story.text import NO_NAMES, describe
from fluvial.story.wording import TOOLTIP_CHARACTERS_MAX, Wording, cut, figures, first_lines, title

FEET_FROM_ROWS: Final = 10
"""Drawings with more rows show the names at the bottom, too."""


def render(story: Story, *, names: Mapping[str, str] = NO_NAMES) -> str:
    """The story as an SVG document, the last line ended as well.

    Args:
        story: what to draw.
        names: peer id to the name that people use; others are called by the end of their id.
    """
    wording, drawn = Wording(story, names), rows(story)
    places = Lanes(lanes(story, drawn), wording)
    y = MARGIN
    parts: list[str] = []

    def place(block: Block) -> None:
        nonlocal y
        parts.append(shapes.moved(0, y, block.markup))
        y += block.height

    place(banner(story, wording, places.width))
    top, lifelines_at = y + HEAD_HEIGHT, len(parts)
    place(places.heads())
    painter = Painter(places, wording)
    for row in drawn:
        place(painter.paint(row))
    if not drawn:
        place(Block(shapes.text(MARGIN, 20, "Nothing has happened yet.", "label"), 32))
    parts.insert(lifelines_at, places.lifelines(top, y + 4))
    y += 4
    if len(drawn) > FEET_FROM_ROWS:
        place(places.feet())
    place(legend(story, drawn))
    return _document(story, wording, places.width, y + MARGIN - 8, parts)


def _document(story: Story, wording: Wording, width: float, height: float, parts: list[str]) -> str:
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    text = cut(first_lines(_told(story, wording), TOOLTIP_CHARACTERS_MAX), TOOLTIP_CHARACTERS_MAX)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="fs" {size} role="img" aria-labelledby="fs-t fs-d">',
            f'<title id="fs-t">{shapes.safe(title(story))}</title>',
            f'<desc id="fs-d">{shapes.safe(text)}</desc>',
            f"<style>{CSS}</style>",
            shapes.box(0, 0, width, height, "page", round_by=0),
            *parts,
            "</svg>\n",
        ]
    )


def _told(story: Story, wording: Wording) -> Iterator[str]:
    """What the picture shows, line by line."""
    yield f"Sequence diagram of particle {story.particle_id}, begun by {wording.peer(story.initiator)}."
    yield ", ".join(f"{name} {figure}" for name, figure in figures(story).items()) + "."
    for event in story.events:
        yield f"{wording.peer(event.peer)}: {describe(event, wording)}"
    for waiting in story.waits:
        yield f"waits: {waiting.instruction}: {waiting.reason}"
