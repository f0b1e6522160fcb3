"""A space-time diagram: a line for each node, time goes to the right, a slanted line is a message, a dot is a commit. Below it, the chain."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from fluvial.consensus.lab.charts import COLOURS
from fluvial.consensus.lab.passages import DrawnCommit, Passages

WIDTH: Final = 1120
_LEFT, _RIGHT, _TOP = 70, 16, 18
_LANE: Final = 52
_CHAIN: Final = 74
"""Room for the chain below the lanes."""
_ROWS: Final = 3


def space_time(passages: Passages, about: str) -> str:
    """The drawing of what was gathered, with a legend of the kinds of messages.

    Args:
        passages: of a short run.
        about: for who cannot see it.
    """
    kinds = list(dict.fromkeys(_kind(one.what) for one in passages.messages))
    height = _TOP + passages.nodes * _LANE + _CHAIN
    parts = [f'<svg class="wide" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(about)}">']
    parts += _lanes(passages)
    for one in passages.messages:
        colour = kinds.index(_kind(one.what)) % COLOURS
        title = f"{one.what}, {one.sender} to {one.to}, {one.sent_ms:g} to {one.arrives_ms:g} ms"
        if one.value:
            title += f", {one.value.hex()[:8]}"
        start, end = _x(passages, one.sent_ms), _x(passages, min(one.arrives_ms, passages.end_ms))
        share = (end - start) / max(1e-9, _x(passages, one.arrives_ms) - start)
        low = _y(one.sender) + (_y(one.to) - _y(one.sender)) * share
        parts.append(
            f'<path class="way" stroke="var(--c{colour})" d="M{start:.1f} {_y(one.sender)}L{end:.1f} {low:.1f}">'
            f"<title>{escape(title)}</title></path>"
        )
    for commit in passages.commits:
        parts.append(_commit(passages, commit))
    parts += _chain(passages)
    keys = "".join(
        f'<span class="key"><i style="background:var(--c{number % COLOURS})"></i>{escape(kind)}</span>'
        for number, kind in enumerate(kinds)
    )
    return f'<p class="legend">{keys}<span class="key"><b>●</b> commit, with its height</span></p>' + "".join(
        [*parts, "</svg>"]
    )


def _kind(what: str) -> str:
    """The engine's word without the slot that it is about."""
    word, _, slot = what.rpartition(" ")
    return word if word and slot.isdigit() else what


def _x(passages: Passages, ms: float) -> float:
    return _LEFT + ms / passages.end_ms * (WIDTH - _LEFT - _RIGHT)


def _y(node: int) -> int:
    return _TOP + node * _LANE + _LANE // 4


def _lanes(passages: Passages) -> Sequence[str]:
    parts = []
    step = 10 if passages.end_ms <= 200 else 50
    low = _y(passages.nodes - 1) + 12
    for ms in range(0, int(passages.end_ms) + 1, step):
        x = _x(passages, ms)
        parts.append(f'<path class="grid" d="M{x:.1f} {_TOP - 4}V{low}"/>')
        parts.append(f'<text x="{x:.1f}" y="{low + 14}" text-anchor="middle">{ms} ms</text>')
    for node in range(passages.nodes):
        parts.append(f'<path class="axis" d="M{_LEFT} {_y(node)}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{_y(node) + 4}" text-anchor="end">node {node}</text>')
    return parts


def _commit(passages: Passages, commit: DrawnCommit) -> str:
    x, y = _x(passages, commit.at_ms), _y(commit.node)
    return (
        f'<circle class="commit" r="5" cx="{x:.1f}" cy="{y}"><title>node {commit.node} commits height {commit.height} '
        f'at {commit.at_ms:g} ms, {commit.value.hex()[:8]}</title></circle><text class="height" x="{x:.1f}" y="{y - 8}" '
        f'text-anchor="middle">{commit.height}</text>'
    )


def _chain(passages: Passages) -> Sequence[str]:
    """From its first message to its first commit, a bar for each block."""
    first_sent: dict[bytes, float] = {}
    for one in passages.messages:
        if one.value:
            first_sent.setdefault(one.value, one.sent_ms)
    bars: dict[int, tuple[float, float]] = {}
    for commit in sorted(passages.commits, key=lambda one: one.at_ms):
        if commit.value in first_sent:
            bars.setdefault(commit.height, (first_sent[commit.value], commit.at_ms))
    top = _y(passages.nodes - 1) + 34
    parts = [f'<text x="{_LEFT - 8}" y="{top + 10}" text-anchor="end">chain</text>']
    for height, (start, end) in sorted(bars.items()):
        y = top + (height % _ROWS) * 15
        left, right = _x(passages, start), _x(passages, end)
        parts.append(
            f'<rect class="block" x="{left:.1f}" y="{y}" width="{max(2.0, right - left):.1f}" height="12" rx="2">'
            f"<title>block {height}: proposed at {start:g} ms, final at {end:g} ms</title></rect>"
            f'<text x="{left + 4:.1f}" y="{y + 10}">{height}</text>'
        )
    return parts
