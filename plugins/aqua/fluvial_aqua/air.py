"""AIR as a tree that is only built and printed, with the Aqua text that each instruction comes from."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from fluvial_aqua.checking.tree import TextPlace


class AirNode(Struct, eq=False, gc=False):
    """An instruction: its text up to its inner instructions, and these; a hop has a note that says why it is there."""

    head: str
    inner: tuple[AirNode, ...] = ()
    place: TextPlace | None = None
    function: str = ""
    note: str = ""


class SourceLine(Struct, frozen=True):
    """The Aqua text that a line of AIR comes from; lines and columns count from 1."""

    air_line: int
    file: str
    line: int
    column: int
    function: str


NULL = AirNode("null")
NEVER = AirNode("never")


def in_order(nodes: Sequence[AirNode]) -> AirNode:
    """Instructions one after the other, nested as evenly as can be, so that long flows are not deep."""
    if not nodes:
        return NULL
    if len(nodes) == 1:
        return nodes[0]
    middle = (len(nodes) + 1) // 2
    return AirNode("seq", (in_order(nodes[:middle]), in_order(nodes[middle:])))


def at_once(nodes: Sequence[AirNode]) -> AirNode:
    """Instructions at the same time."""
    last = nodes[-1]
    for one in reversed(nodes[:-1]):
        last = AirNode("par", (one, last))
    return last


def print_air(root: AirNode) -> tuple[str, list[SourceLine]]:
    """The text, one instruction on each line, and where the lines come from."""
    lines: list[str] = []
    sources: list[SourceLine] = []
    stack: list[tuple[AirNode, int, int]] = [(root, 0, 0)]
    while stack:
        node, depth, closing = stack.pop()
        end = "" if node.inner else ")" * (closing + 1)
        lines.append(f"{' ' * depth}({node.head}{end}")
        if node.place is not None:
            line, column = node.place.source.line_column(node.place.span.start)
            sources.append(SourceLine(len(lines), node.place.source.name, line, column, node.function))
        for index in range(len(node.inner) - 1, -1, -1):
            last = index == len(node.inner) - 1
            stack.append((node.inner[index], depth + 1, closing + 1 if last else 0))
    return "\n".join(lines) + "\n", sources
