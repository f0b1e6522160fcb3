"""Elements of SVG as text: the few that a sequence diagram needs, everything escaped, numbers short."""

from __future__ import annotations

from html import escape
from typing import Final

from fluvial.story.wording import TOOLTIP_CHARACTERS_MAX, columns, cut
from fluvial.strangers import printable

MONO_WIDTH: Final = 0.603
"""Width of a column of the widest common fixed-width font (DejaVu Sans Mono), in units of its size."""

SANS_WIDTH: Final = 0.6
"""The same for the mean character of a proportional font, with a margin."""

ARROW_HEAD: Final = 8.0

BLANK_FROM: Final = 0.6
"""A line is broken at a blank that lies behind this part of it."""


def text(x: float, y: float, content: str, classes: str) -> str:
    """One line of text; ``y`` is its baseline."""
    return f'<text x="{_n(x)}" y="{_n(y)}" class="{classes}">{safe(content)}</text>'


def box(x: float, y: float, width: float, height: float, classes: str, *, round_by: float = 6) -> str:
    """A rectangle with round corners."""
    return f'<rect x="{_n(x)}" y="{_n(y)}" width="{_n(width)}" height="{_n(height)}" rx="{_n(round_by)}" class="{classes}"/>'


def line(x: float, y: float, to_x: float, to_y: float, classes: str) -> str:
    """A straight line."""
    return f'<line x1="{_n(x)}" y1="{_n(y)}" x2="{_n(to_x)}" y2="{_n(to_y)}" class="{classes}"/>'


def head(x: float, y: float, direction: int, classes: str) -> str:
    """The head of an arrow whose tip is at (x, y); ``direction`` is 1 to the right and -1 to the left."""
    back = x - direction * ARROW_HEAD
    return f'<path d="M{_n(x)} {_n(y)}L{_n(back)} {_n(y - 4.5)}V{_n(y + 4.5)}Z" class="{classes}"/>'


def cross(x: float, y: float) -> str:
    """Where something got lost."""
    return f'<path d="M{_n(x - 5)} {_n(y - 5)}l10 10m0 -10l-10 10" class="cross"/>'


def loop(x: float, y: float, classes: str) -> str:
    """An arrow from a lane to itself, without its head, which belongs to (x, y + 10)."""
    return f'<path d="M{_n(x)} {_n(y - 4)}h36v14h-{_n(36 - ARROW_HEAD)}" class="{classes}"/>'


def seal(x: float, y: float) -> str:
    """The mark of a verified signature, around (x, y)."""
    return (
        f'<circle cx="{_n(x)}" cy="{_n(y)}" r="6.5" class="seal"/>'
        f'<path d="M{_n(x - 3)} {_n(y + 0.2)}l2.2 2.4l4 -4.8" class="verified"/>'
    )


def small_seal(x: float, y: float) -> str:
    """The same mark at the beginning of an arrow."""
    return f'<g transform="translate({_n(x)} {_n(y)}) scale(0.72)">{seal(0, 0)}</g>'


def ring(x: float, y: float) -> str:
    """The mark of a fact of the teller's own."""
    return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="5.5" class="own"/>'


def group(tooltip: str, *parts: str) -> str:
    """Elements that belong together, with a text that appears when pointed at."""
    return f"<g><title>{safe(cut(tooltip, TOOLTIP_CHARACTERS_MAX))}</title>{''.join(parts)}</g>"


def labelled(x: float, y: float, label: str, content: str) -> str:
    """A text with a paler one before it."""
    return f'<text x="{_n(x)}" y="{_n(y)}"><tspan class="label">{safe(label)}</tspan> {safe(content)}</text>'


def moved(x: float, y: float, markup: str) -> str:
    """Markup whose origin comes to lie at (x, y)."""
    return f'<g transform="translate({_n(x)} {_n(y)})">\n{markup}\n</g>'


def safe(content: str) -> str:
    """A text for XML: control characters as visible escapes, line ends kept, markup escaped."""
    return escape("\n".join(map(printable, content.split("\n"))))


def wrapped(content: str, columns_max: int, *, lines_max: int) -> list[str]:
    """A text as at most so many lines, broken at a blank near the end of a line, else anywhere; an ellipsis stands for the rest."""
    lines: list[str] = []
    while content and len(lines) < lines_max - 1 and columns(content) > columns_max:
        full = cut(content, columns_max + 1).removesuffix("…")
        blank = full.rfind(" ")
        end = blank if blank > len(full) * BLANK_FROM else len(full)
        lines.append(content[:end].rstrip())
        content = content[end:].lstrip()
    return [*lines, cut(content, columns_max)] if content or not lines else lines


def mono_columns(width: float, size: float) -> int:
    """How many columns of the fixed-width font fit into a width."""
    return max(int(width / (size * MONO_WIDTH)), 1)


def sans_columns(width: float, size: float) -> int:
    """How many characters of a proportional font fit into a width, as an estimate."""
    return max(int(width / (size * SANS_WIDTH)), 1)


def sans_width(content: str, size: float) -> float:
    """How wide a text is in a proportional font, as an estimate."""
    return columns(content) * size * SANS_WIDTH


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
