"""Where lines break: nested brackets to well-set text.

The rules:

- What fits into 100 columns stays on one line.
- A longer instruction keeps its name and its first operands on the first line, as many as fit; each further part stands on a line
  of its own, two columns further in; the closing bracket stands alone below the opening one.
- A chain of ``seq``, each the last part of the one before, does not move to the right. All of it is broken, each ``seq`` stands below
  the one before, and the closing brackets share one line::

    (seq
      (call "relay" ("app" "resolve") [] backend)
    (seq
      (call backend ("app" "list") [] peers)
      (call %init_peer_id% ("app" "done") [peers])
    ))

- Comments stay where they are: behind what they stood behind, or on lines of their own. One empty line between two lines is kept.
- Words, strings and comments are never changed; brackets and blanks around them are all that moves.

Set text is set to itself.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from fluvial.air.syntax.reader import Comment, Group, Node, Word
from fluvial.air.syntax.words import INSTRUCTIONS

COLUMNS_MAX = 100
INDENT = 2

LEVELS_INDENTED_MAX = 30
"""Deeper levels are not moved further in, which keeps the size of the text in proportion to the script."""

_COLUMNS_MIN = 40  # so much may stand on a line however far in it begins
_NEVER_FITS = 10**9
_CLOSING = {"(": ")", "[": "]"}


class _LayoutNode(msgspec.Struct, frozen=True):
    """A node to be set.

    Attributes:
        node: the node.
        level: how far in.
        newlines: how many line breaks stood before it.
        chained: whether it is a ``seq`` that goes on the chain before it.
    """

    node: Node
    level: int
    newlines: int
    chained: bool = False


class _Close(msgspec.Struct, frozen=True):
    """A closing bracket to be set."""

    bracket: str
    level: int


_Task: TypeAlias = _LayoutNode | _Close


def set_nodes(nodes: list[Node], source_text: str = "") -> str:
    """Text with line breaks; ends without one.

    Args:
        nodes: what to set, the outermost first.
        source_text: the text that the nodes were read from, which tells where its lines ended; empty for nodes made by hand.
    """
    return _Layout(nodes, source_text).text()


class _Layout:
    def __init__(self, nodes: list[Node], source_text: str) -> None:
        self._source = source_text
        self._widths = _widths(nodes)
        self._lines: list[str] = []
        self._closing_level: int | None = None  # of the last line, if it is closing brackets and nothing else
        self._tasks: list[_Task] = []
        self._plan(nodes, 0, 0)

    def text(self) -> str:
        while self._tasks:
            task = self._tasks.pop()
            if isinstance(task, _Close):
                self._close(task)
            elif isinstance(task.node, Comment):
                self._comment(task)
            else:
                self._node(task)
        return "\n".join(self._lines)

    def _plan(self, nodes: list[Node], previous_end: int, level: int, *, chain_level: int | None = None) -> None:
        """Set nodes one below the other; the last one at ``chain_level`` if there is one."""
        tasks: list[_Task] = []
        for node in nodes:
            chained = chain_level is not None and node is nodes[-1]
            own_level = chain_level if chained and chain_level is not None else level
            tasks.append(_LayoutNode(node, own_level, self._newlines(previous_end, node), chained))
            previous_end = _end(node)
        self._tasks += reversed(tasks)

    def _newlines(self, previous_end: int, node: Node) -> int:
        return self._source.count("\n", previous_end, node.start) if self._source else 1

    def _line(self, text: str, level: int) -> None:
        self._lines.append(" " * (INDENT * min(level, LEVELS_INDENTED_MAX)) + text)
        self._closing_level = None

    def _fits(self, width: int, column: int) -> bool:
        return column + width <= COLUMNS_MAX or (width <= _COLUMNS_MIN and column <= COLUMNS_MAX)

    def _comment(self, task: _LayoutNode) -> None:
        text = _flat(task.node)
        if task.newlines == 0 and self._lines:
            self._lines[-1] += "  " + text
            self._closing_level = None
        else:
            self._blank(task)
            self._line(text, task.level)

    def _node(self, task: _LayoutNode) -> None:
        self._blank(task)
        column = INDENT * min(task.level, LEVELS_INDENTED_MAX)
        node = task.node
        if not isinstance(node, Group) or (not task.chained and self._fits(self._widths[id(node)], column)):
            self._line(_flat(node), task.level)
            return
        first, count = self._first_line(node, column)
        self._line(first, task.level)
        self._tasks.append(_Close(_CLOSING[node.bracket], task.level))
        items = node.items[count:]
        chain_level = task.level if items and _is_seq(node) and _is_seq(items[-1]) else None
        end = _end(node.items[count - 1]) if count else node.start + 1
        self._plan(items, end, task.level + 1, chain_level=chain_level)

    def _blank(self, task: _LayoutNode) -> None:
        if task.newlines > 1 and self._lines:
            self._lines.append("")

    def _first_line(self, group: Group, column: int) -> tuple[str, int]:
        """The opening bracket with the operands beside it, and how many they are."""
        text = group.bracket
        count = 0
        for item in group.items:
            if isinstance(item, Comment) or _is_instruction(item) or group.bracket == "[":
                break
            width = self._widths[id(item)]
            if count and not self._fits(width, column + len(text) + 1):
                break
            if width >= _NEVER_FITS:
                break
            text += (" " if count else "") + _flat(item)
            count += 1
        return text, count

    def _close(self, task: _Close) -> None:
        if self._closing_level == task.level:
            self._lines[-1] += task.bracket
            return
        self._line(task.bracket, task.level)
        self._closing_level = task.level


def _end(node: Node) -> int:
    return node.end if isinstance(node, Group) else node.start + len(node.text)


def _is_instruction(node: Node) -> bool:
    if not isinstance(node, Group) or node.bracket != "(" or not node.items:
        return False
    head = node.items[0]
    return isinstance(head, Word) and head.text in INSTRUCTIONS


def _is_seq(node: Node) -> bool:
    return isinstance(node, Group) and _is_instruction(node) and _flat(node.items[0]) == "seq"


def _widths(nodes: list[Node]) -> dict[int, int]:
    """How wide each node is on one line, by the node's ``id``."""
    widths: dict[int, int] = {}
    waiting: list[tuple[Node, bool]] = [(node, False) for node in nodes]
    while waiting:
        node, measured = waiting.pop()
        if not isinstance(node, Group):
            breaks = isinstance(node, Comment) or "\n" in node.text
            widths[id(node)] = _NEVER_FITS if breaks else len(node.text)
        elif measured:
            inside = sum([widths[id(item)] for item in node.items]) + max(0, len(node.items) - 1)
            widths[id(node)] = min(_NEVER_FITS, inside + 2)
        else:
            waiting.append((node, True))
            waiting += [(item, False) for item in node.items]
    return widths


def _flat(node: Node) -> str:
    """A node on one line."""
    if not isinstance(node, Group):
        return node.text.rstrip() if isinstance(node, Comment) else node.text
    pieces: list[str] = []
    waiting: list[Node | str] = [node]
    glue = False
    while waiting:
        piece = waiting.pop()
        if isinstance(piece, Group):
            pieces.append(" " * glue + piece.bracket)
            waiting.append(_CLOSING[piece.bracket])
            waiting += reversed(piece.items)
            glue = False
        elif isinstance(piece, str):
            pieces.append(piece)
            glue = True
        else:
            pieces.append(" " * glue + piece.text)
            glue = True
    return "".join(pieces)
