"""Text to nested brackets: the first half of reading a script.

A script is words, strings and comments in round and square brackets. Reading keeps every piece as it is written, with its offset,
so that the formatter can work without knowing instructions. One regular expression finds the pieces; an explicit stack nests
them, so that depth costs memory only.

A word ends at white space or at a bracket that closes more than the word itself opened: ``x.$.[0]`` and ``acc[]`` are one word.
There are no escapes in strings. What can only be a missing blank (``seq(call``, ``x;note``, ``x"y"``) is refused here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TypeAlias

from fluvial.air.syntax.errors import (
    AirSyntaxError,
    BadWord,
    Source,
    TooLarge,
    UnbalancedBrackets,
    UnclosedString,
    UnreadableText,
    shown,
)

SCRIPT_BYTES_MAX = 16 * 1024 * 1024
"""The longest script; AquaVM's default too."""

PARTS_MAX = 500_000
"""The most words, strings and brackets in a script: some 70,000 lines, 100 MB of memory while it is read."""

WHITE_SPACE = "\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Unicode's White_Space property as the inside of a character class (``\\s`` has four control characters more)."""


# Not frozen, for speed: scripts have many of them.


@dataclass(slots=True)
class Word:
    """A name, number or reserved word, with all that hangs on it."""

    text: str
    start: int


@dataclass(slots=True)
class Quoted:
    """A string literal; ``text`` has its quotes."""

    text: str
    start: int


@dataclass(slots=True)
class Comment:
    """From ``;`` to the end of the line."""

    text: str
    start: int


@dataclass(slots=True)
class Group:
    """A pair of brackets with what is in it.

    Attributes:
        bracket: ``(`` or ``[``.
        start: offset of the opening bracket.
        end: offset behind the closing one.
        items: the parts in text order.
    """

    bracket: str
    start: int
    end: int = -1
    items: list[Node] = field(default_factory=list)


Node: TypeAlias = Word | Quoted | Comment | Group

_PIECE = re.compile(
    rf"""
    [{WHITE_SPACE}]*+
    (?: ([(\[])
    | ([)\]])
    | ("[^"]*")
    | (;[^\n]*)
    | ((?>[^{WHITE_SPACE}()\[\]";]+(?:\[[^{WHITE_SPACE}()\[\]";]*\][^{WHITE_SPACE}()\[\]";]*)*) (?=[{WHITE_SPACE})\]]|\Z))
    | (.)
    | \Z )
    """,
    re.VERBOSE | re.DOTALL,
)
_OPEN, _CLOSE, _QUOTED, _COMMENT, _WORD, _BAD = range(1, 7)
_CLOSING = {"(": ")", "[": "]"}


def read(source: Source, *, comments: bool = False) -> list[Node]:
    """The outermost parts of a script.

    Args:
        source: the script.
        comments: whether comments are kept among the items of their brackets; without, they are dropped.

    Raises:
        AirSyntaxError: the text is too long, has characters that no script may have, or its brackets do not match.
    """
    _check_text(source)
    top: list[Node] = []
    items = top
    around: list[Group] = []
    for parts, found in enumerate(_PIECE.finditer(source.text), 1):
        kind = found.lastindex
        if kind is None:
            continue
        piece, start = found[kind], found.start(kind)
        if kind == _WORD:
            items.append(Word(piece, start))
        elif kind == _CLOSE:
            if not around or piece != _CLOSING[around[-1].bracket]:
                raise _closing_error(source, around, start)
            around.pop().end = start + 1
            items = around[-1].items if around else top
        elif kind == _OPEN:
            group = Group(piece, start, -1, [])
            items.append(group)
            around.append(group)
            items = group.items
        elif kind == _QUOTED:
            items.append(Quoted(piece, start))
        elif kind == _BAD:
            raise _piece_error(source, start)
        elif comments:
            items.append(Comment(piece, start))
        if parts > PARTS_MAX:
            hint = "split the flow into several scripts, or load data instead of writing it as literals"
            raise source.error(TooLarge, f"the script has more than {PARTS_MAX:,} parts", start, hint=hint)
    if around:
        raise _unclosed_error(source, top, around)
    return top


def _closing_error(source: Source, around: list[Group], offset: int) -> AirSyntaxError:
    """Say why a bracket cannot close anything."""
    closing = source.text[offset]
    if not around:
        hint = "take it away, or look for a bracket that was closed too early before it"
        return source.error(UnbalancedBrackets, f"`{closing}` closes nothing", offset, hint=hint)
    group = around[-1]
    problem = f"`{closing}` cannot close the `{group.bracket}` of {source.position(group.start)}"
    hint = f"close {_opening(group)} with `{_CLOSING[group.bracket]}` first"
    return source.error(UnbalancedBrackets, problem, offset, hint=hint)


def _opening(group: Group) -> str:
    first = group.items[0] if group.items else None
    return f"`{group.bracket}{first.text[:20] if isinstance(first, Word) else '…'}`"


def _unclosed_error(source: Source, top: list[Node], around: list[Group]) -> AirSyntaxError:
    inner = around[-1]
    hint = f"add `{_CLOSING[inner.bracket]}` where it ends"
    if len(around) > 1:
        outer = source.position(around[0].start)
        hint = f"{len(around):,} brackets are open at the end of the text, the outermost since {outer}"
    suspect = _outdented(source, top)
    if suspect is not None:
        group, offset = suspect
        before, begin = source.position(offset), source.position(group.start)
        hint += f"; by the indentation, {_opening(group)} of {begin} should be closed before {before}"
    return source.error(UnbalancedBrackets, f"{_opening(inner)} is never closed", inner.start, hint=hint)


def _outdented(source: Source, top: list[Node]) -> tuple[Group, int] | None:
    """The last group that goes on, or ends, further out than it began; with the offset where it does."""
    found: tuple[Group, int] | None = None
    waiting: list[Node] = list(top)
    while waiting:
        group = waiting.pop()
        if not isinstance(group, Group):
            continue
        waiting += group.items
        at = source.position(group.start)
        chain = _opening(group) == "`(seq`"
        for item in group.items[1:]:
            inside = source.position(item.start)
            goes_on = inside.column < at.column or (inside.column == at.column and not chain)
            if inside.line > at.line and goes_on and (found is None or group.start > found[0].start):
                found = (group, item.start)
                break
        end = source.position(max(group.start, group.end - 1))
        if end.line > at.line and end.column < at.column and (found is None or group.start > found[0].start):
            found = (group, group.end - 1)
    return found


def _piece_error(source: Source, offset: int) -> AirSyntaxError:
    """What does not read as any piece: an open string, or a word with something stuck to it."""
    text = source.text
    if text[offset] == '"':
        at = source.position(offset)
        hint = 'close it with `"`; if it should not begin here, a `"` is missing before'
        return source.error(UnclosedString, f"the string that begins at {at} is never closed", offset, hint=hint)
    if text[offset] == "\ufeff":
        hint = "save the file as UTF-8 without one"
        return source.error(UnreadableText, "the text begins with a byte order mark", offset, hint=hint)
    word = re.compile(rf"[^{WHITE_SPACE}]*").match(text, offset)
    run = word[0] if word else text[offset]
    stuck = re.search(r'[(";]', run)
    if stuck:
        problem = f"a blank is missing before `{stuck[0]}`"
        return source.error(BadWord, problem, offset, stuck.start(), hint=f"`{stuck[0]}` cannot be part of a word")
    hint = "an index is written `[0]` or `[name]`, without blanks"
    return source.error(BadWord, f"the brackets inside {shown(run)} do not match", offset, len(run), hint=hint)


def _check_text(source: Source) -> None:
    text = source.text
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        problem = "half of a surrogate pair is no character"
        raise source.error(UnreadableText, problem, error.start, hint="save the file as UTF-8") from error
    if size > SCRIPT_BYTES_MAX:
        raise source.error(TooLarge, f"the script has {size:,} bytes; at most {SCRIPT_BYTES_MAX:,} are allowed", 0)
    if "\0" in text:
        raise source.error(
            UnreadableText, "a script may not contain the character NUL", text.index("\0"), hint="take it out"
        )
