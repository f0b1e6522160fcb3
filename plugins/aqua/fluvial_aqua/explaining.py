"""Why a function goes from peer to peer as it does: its calls and hops in order, each with its reason."""

from __future__ import annotations

from msgspec import Struct

from fluvial_aqua.air import AirNode


class RouteStep(Struct, frozen=True):
    """A call or hop of a function.

    Attributes:
        what: ``call`` or ``hop``.
        text: the call's AIR, or the peer that is passed and why.
        depth: how many blocks are around it.
        block: the blocks around it that matter, outermost first: ``par``, ``fold``, ``xor`` …
        line: the line of Aqua that it comes from.
        function: the Aqua function that line is in.
    """

    what: str
    text: str
    depth: int
    block: str
    line: int
    function: str


def route(root: AirNode) -> list[RouteStep]:
    """The calls and hops of a function, in the order of the text."""
    found: list[RouteStep] = []
    stack: list[tuple[AirNode, tuple[str, ...], int, str]] = [(root, (), 0, "")]
    while stack:
        node, blocks, line, function = stack.pop()
        if node.place is not None:
            line, function = node.place.line, node.function
        word = node.head.partition(" ")[0]
        if node.note:
            found.append(RouteStep("hop", node.note, len(blocks), " › ".join(blocks), line, function))
            continue
        if word == "call":
            found.append(RouteStep("call", node.head, len(blocks), " › ".join(blocks), line, function))
        inner = blocks
        if word in ("par", "fold"):
            inner = (*blocks, node.head if word == "fold" else word)
        for index in range(len(node.inner) - 1, -1, -1):
            one = node.inner[index]
            around = (*inner, "on error") if word == "xor" and index == 1 and _raises(one) else inner
            stack.append((one, around, line, function))
    return found


def _raises(node: AirNode) -> bool:
    """Whether a handler only carries an error back."""
    while node.inner:
        node = node.inner[-1]
    return node.head == "fail :error:"


def route_text(steps: list[RouteStep]) -> list[str]:
    """A route for people, one step a line."""
    lines = []
    block = ""
    for step in steps:
        if step.block != block:
            block = step.block
            if block:
                lines.append(f"      {block}:")
        indent = "  " if block else ""
        mark = "→" if step.what == "hop" else "•"
        lines.append(f"{step.line:>4}  {indent}{mark} {step.text}")
    return lines
