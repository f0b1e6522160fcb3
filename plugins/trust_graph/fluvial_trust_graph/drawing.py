"""The neighbourhood of a peer as a drawing: Mermaid, or an SVG that needs nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal
from xml.sax.saxutils import escape

from fluvial.identity import PeerId

from fluvial_trust_graph.graph import TrustGraph
from fluvial_trust_graph.live import LiveTrust

PEERS_MAX: Final = 80
"""Peers that are drawn; more would be unreadable."""
LINKS_MAX: Final = 400
COLUMN: Final = 190
ROW: Final = 58
BOX: Final = (132, 38)
MARGIN: Final = 24
_CSS: Final = (
    "svg{background:#fff;color:#1b1f24;font:12px system-ui,sans-serif}"
    "rect{fill:#eef4fb;stroke:#6b8cae}rect.root{fill:#fdf1d0;stroke:#b58900}rect.zero{fill:#f2f2f2;stroke:#aaa}rect.asked{stroke-width:3}"
    "text{fill:currentColor;text-anchor:middle}path{fill:none;stroke:#6b8cae}path.ban{stroke:#c0392b;stroke-dasharray:5 3}"
    "@media(prefers-color-scheme:dark){svg{background:#15181c;color:#e6e6e6}rect{fill:#1f2a36}rect.root{fill:#3a3216}rect.zero{fill:#24262a}}"
)


@dataclass(frozen=True, slots=True)
class DrawnPeer:
    """A peer of a drawing: in which column, and what is written on it."""

    peer: PeerId
    column: int
    weight: int
    is_root: bool
    is_asked: bool

    @property
    def label(self) -> str:
        """The end of its id, where ids differ."""
        return f"…{self.peer[-8:]}"


@dataclass(frozen=True, slots=True)
class DrawnLink:
    """An arrow from an issuer to a subject."""

    issuer: PeerId
    subject: PeerId
    kind: Literal["trust", "ban"]


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """What is drawn.

    Args:
        peers: by column, then by id.
        links: between them.
        cut: whether there was more than fits.
    """

    peers: Sequence[DrawnPeer]
    links: Sequence[DrawnLink]
    cut: bool


def neighbourhood(trust: LiveTrust, peer: PeerId, *, hops: int, scope: str) -> Neighbourhood:
    """The peers within so many links of one, in both directions: who trusts it to the left, whom it trusts to the right."""
    graph = trust.evaluation(scope).graph
    columns = _columns(graph, peer, hops)
    drawn = [
        DrawnPeer(one, column, trust.weight_for(one, scope), one in trust.roots, one == peer)
        for one, column in sorted(columns.items(), key=lambda item: (item[1], item[0]))
    ]
    links = [
        DrawnLink(issuer, subject, "trust")
        for issuer in columns
        for subject in graph.following.get(issuer, {})
        if subject in columns
    ]
    links += [
        DrawnLink(issuer, subject, "ban")
        for subject in columns
        for issuer in graph.banners.get(subject, ())
        if issuer in columns
    ]
    links.sort(key=lambda link: (link.issuer, link.subject))
    return Neighbourhood(drawn, links[:LINKS_MAX], len(columns) >= PEERS_MAX or len(links) > LINKS_MAX)


def _columns(graph: TrustGraph, peer: PeerId, hops: int) -> dict[PeerId, int]:
    columns = {peer: 0}
    for side, links in ((-1, graph.preceding), (1, graph.following)):
        edge = [peer]
        for distance in range(1, hops + 1):
            near = (other for one in edge for other in sorted(_others(graph, links, one, side)))
            edge = []
            for other in near:
                if other not in columns and len(columns) < PEERS_MAX:
                    columns[other] = side * distance
                    edge.append(other)
    return columns


def _others(graph: TrustGraph, links: Mapping[PeerId, Mapping[PeerId, int]], peer: PeerId, side: int) -> set[PeerId]:
    found = set(links.get(peer, {}))
    return found | set(graph.banners.get(peer, ())) if side < 0 else found


def mermaid(found: Neighbourhood) -> str:
    """The drawing as Mermaid text."""
    names = {one.peer: f"p{number}" for number, one in enumerate(found.peers)}
    lines = ["graph LR"]
    for one in found.peers:
        left, right = ("([", "])") if one.is_root else ("[", "]")
        lines.append(f'    {names[one.peer]}{left}"{one.label}<br/>weight {one.weight}"{right}')
    for link in found.links:
        arrow = "-->" if link.kind == "trust" else "-. bans .->"
        lines.append(f"    {names[link.issuer]} {arrow} {names[link.subject]}")
    lines += [f"    style {names[one.peer]} stroke-width:3px" for one in found.peers if one.is_asked]
    lines += ["    %% there is more than is drawn here"] if found.cut else []
    return "\n".join(lines) + "\n"


def svg(found: Neighbourhood) -> str:
    """The drawing as an SVG document."""
    columns = sorted({one.column for one in found.peers})
    rows: dict[int, int] = dict.fromkeys(columns, 0)
    places: dict[PeerId, tuple[int, int]] = {}
    boxes = []
    for one in found.peers:
        x, y = MARGIN + columns.index(one.column) * COLUMN, MARGIN + rows[one.column] * ROW
        rows[one.column] += 1
        places[one.peer] = x, y
        boxes.append(_box(one, x, y))
    width = 2 * MARGIN + (len(columns) - 1) * COLUMN + BOX[0]
    height = 2 * MARGIN + max(rows.values()) * ROW - (ROW - BOX[1]) + (18 if found.cut else 0)
    arrows = [_arrow(link, places) for link in found.links]
    more = f'<text x="{width / 2:.0f}" y="{height - 8}">there is more than is drawn here</text>' if found.cut else ""
    head = (
        '<defs><marker id="a" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0L8 4L0 8z" style="fill:#6b8cae;stroke:none"/></marker></defs>'
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
            f"<style>{_CSS}</style>{head}",
            *arrows,
            *boxes,
            *([more] if more else []),
            "</svg>\n",
        ]
    )


def _box(one: DrawnPeer, x: int, y: int) -> str:
    kind = "root" if one.is_root else "" if one.weight else "zero"
    classes = f"{kind} asked".strip() if one.is_asked else kind
    middle = x + BOX[0] // 2
    return (
        f'<g><title>{escape(one.peer)}</title><rect class="{classes}" x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="6"/>'
        f'<text x="{middle}" y="{y + 16}">{escape(one.label)}</text><text x="{middle}" y="{y + 31}">weight {one.weight}</text></g>'
    )


def _arrow(link: DrawnLink, places: Mapping[PeerId, tuple[int, int]]) -> str:
    (x1, y1), (x2, y2) = places[link.issuer], places[link.subject]
    half = BOX[1] // 2
    kind = ' class="ban"' if link.kind == "ban" else ""
    what = "bans" if link.kind == "ban" else "trusts"
    title = f"<title>{escape(link.issuer)} {what} {escape(link.subject)}</title>"
    if x2 > x1:
        start, end, bend = x1 + BOX[0], x2, 60
    elif x2 < x1:
        start, end, bend = x1, x2 + BOX[0], -60
    else:
        start, end, bend = x1 + BOX[0], x2 + BOX[0], 46
        return f'<path{kind} marker-end="url(#a)" d="M{start} {y1 + half}C{start + bend} {y1 + half} {end + bend} {y2 + half} {end} {y2 + half}">{title}</path>'
    return (
        f'<path{kind} marker-end="url(#a)" d="M{start} {y1 + half}C{start + bend} {y1 + half} {end - bend} {y2 + half} {end} {y2 + half}">'
        f"{title}</path>"
    )
