"""Charts as SVG, drawn from numbers alone: no script, no font, no library. Colours are CSS variables of the page around them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10
from typing import Final

WIDTH: Final = 560
HEIGHT: Final = 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 42
COLOURS: Final = 6
"""The page has so many colours, ``--c0`` and so on; a dash pattern tells lines apart as well."""
_DASHES: Final = ("", "7 3", "2 3", "9 3 2 3", "4 4", "1 2")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartLine:
    """One line of a chart.

    Attributes:
        name: for the legend.
        points: (x, y).
        colour: number of its colour; None for a thin guide line in grey.
        marks: whether each point has a dot.
    """

    name: str
    points: Sequence[tuple[float, float]]
    colour: int | None = None
    marks: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """A chart of lines over numbers.

    Attributes:
        about: for who cannot see it.
        x, y: what the axes are.
        lines: what is drawn.
        logarithmic: both axes.
        bands: ranges of x that are shaded.
    """

    about: str
    x: str
    y: str
    lines: Sequence[ChartLine]
    logarithmic: bool = False
    bands: Sequence[tuple[float, float]] = ()

    def svg(self) -> str:
        """The drawing."""
        points = [point for line in self.lines for point in line.points]
        if not points:
            return "<p class=none>Nothing was measured.</p>"
        scale = _log_scale if self.logarithmic else _linear_scale
        at_x, x_ticks = scale([x for x, _ in points], _LEFT, WIDTH - _RIGHT)
        at_y, y_ticks = scale([y for _, y in points], HEIGHT - _BOTTOM, _TOP)
        parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.about)}">']
        for low, high in self.bands:
            left, right = at_x(low), max(at_x(low) + 1, at_x(high))
            parts.append(
                f'<rect class="band" x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" height="{HEIGHT - _TOP - _BOTTOM}"/>'
            )
        parts += _axes(at_x, x_ticks, at_y, y_ticks, self.x, self.y)
        parts += [text for line in self.lines for text in _drawn(line, at_x, at_y)]
        return "".join([*parts, "</svg>"])


def legend(names: Sequence[str]) -> str:
    """Names with the colours and dashes of their lines."""
    keys = "".join(
        f'<span class="key"><svg viewBox="0 0 26 8" width="26" height="8"><path class="line" d="M0 4H26" {_style(number)}/></svg>'
        f"{escape(name)}</span>"
        for number, name in enumerate(names)
    )
    return f'<p class="legend">{keys}</p>'


def number_text(value: float | None, digits: int = 1) -> str:
    """A number for people: without needless digits; a dash if there is none."""
    if value is None:
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _drawn(line: ChartLine, at_x: Callable[[float], float], at_y: Callable[[float], float]) -> list[str]:
    way = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in line.points)
    if line.colour is None:
        x, y = line.points[-1]
        label = f'<text class="guide" x="{at_x(x) - 4:.1f}" y="{at_y(y) - 4:.1f}" text-anchor="end">{escape(line.name)}</text>'
        return [f'<polyline class="guide" points="{way}"/>', label]
    parts = [f'<polyline class="line" points="{way}" {_style(line.colour)}/>']
    if line.marks:
        parts += [
            f'<circle r="3.5" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" fill="var(--c{line.colour % COLOURS})">'
            f"<title>{escape(line.name)}: {number_text(y, 2)} at {number_text(x)}</title></circle>"
            for x, y in line.points
        ]
    return parts


def _style(colour: int) -> str:
    dash = _DASHES[colour % len(_DASHES)]
    return f'stroke="var(--c{colour % COLOURS})"' + (f' stroke-dasharray="{dash}"' if dash else "")


def _axes(
    at_x: Callable[[float], float],
    x_ticks: Sequence[float],
    at_y: Callable[[float], float],
    y_ticks: Sequence[float],
    x_name: str,
    y_name: str,
) -> list[str]:
    low = HEIGHT - _BOTTOM
    parts = []
    for value in y_ticks:
        y = at_y(value)
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{number_text(value, 2)}</text>')
    for value in x_ticks:
        x = at_x(value)
        parts.append(f'<path class="tick" d="M{x:.1f} {low}v4"/>')
        parts.append(f'<text x="{x:.1f}" y="{low + 16}" text-anchor="middle">{number_text(value, 2)}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {low}H{WIDTH - _RIGHT}"/>')
    parts.append(
        f'<text class="name" x="{(WIDTH + _LEFT) / 2:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_name)}</text>'
    )
    parts.append(
        f'<text class="name" transform="translate(13 {(low + _TOP) / 2:.0f}) rotate(-90)" text-anchor="middle">{escape(y_name)}</text>'
    )
    return parts


def _linear_scale(
    values: Sequence[float], start: float, end: float
) -> tuple[Callable[[float], float], Sequence[float]]:
    low, high = min(0.0, *values), max(values)
    high = high if high > low else low + 1
    step = _round_step((high - low) / 4)
    high = ceil(high / step - 1e-9) * step

    def at(value: float) -> float:
        return start + (value - low) / (high - low) * (end - start)

    return at, [step * number for number in range(ceil(low / step), floor(high / step + 1e-9) + 1)]


def _log_scale(values: Sequence[float], start: float, end: float) -> tuple[Callable[[float], float], Sequence[float]]:
    positive = [value for value in values if value > 0] or [1.0]
    ticks = [
        digit * 10.0**power
        for power in range(floor(log10(min(positive))), ceil(log10(max(positive))) + 1)
        for digit in (1, 2, 5)
    ]
    low = max((one for one in ticks if one <= min(positive)), default=min(positive))
    high = min((one for one in ticks if one >= max(positive)), default=max(positive))
    high = high if high > low else low * 10
    width = log10(high / low)

    def at(value: float) -> float:
        return start + log10(max(value, low) / low) / width * (end - start)

    shown = [one for one in ticks if low <= one <= high]
    return at, shown if len(shown) <= 9 else [one for one in shown if log10(one) % 1 < 1e-9]


def _round_step(step: float) -> float:
    power = 10.0 ** floor(log10(step))
    return next(digit * power for digit in (1, 2, 2.5, 5, 10) if digit * power >= step * 0.999)
