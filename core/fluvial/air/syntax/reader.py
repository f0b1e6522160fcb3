"""Text to nested brackets: the first half of reading a script.

A script is words, strings and comments in round and square brackets. Reading keeps every piece as it is written, with its offset,
so that the formatter can work without knowing instructions. One regular expression finds the pieces; an explicit stack nests
them, so that depth costs memory only. Calls, of which most scripts mainly consist, are found as a whole, each in one step; those
with something unusual in them, and all that is wrong, are read piece by piece.

A word ends at white space or at a bracket that closes more than the word itself opened: ``x.$.[0]`` and ``acc[]`` are one word.
There are no escapes in strings. What can only be a missing blank (``seq(call``, ``x;note``, ``x"y"``) is refused here.
"""

from __future__ import annotations

import re
from functools import cache
from itertools import islice
from typing import TypeAlias, final

from msgspec import Struct

from fluvial.air.syntax.errors import (
    AirSyntaxError,
    BadWord,
    SourceText,
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


# Scripts have many nodes. They form no cycles, so the garbage collector need not know them, and they are not frozen. Their kind is
# asked for with `type`, as `isinstance` is slow with a Struct when the answer is no.


@final
class Word(Struct, gc=False):
    """A name, number or reserved word, with all that hangs on it."""

    text: str
    start: int


@final
class Quoted(Struct, gc=False):
    """A string literal; ``text`` has its quotes."""

    text: str
    start: int


@final
class Comment(Struct, gc=False):
    """From ``;`` to the end of the line."""

    text: str
    start: int


@final
class Group(Struct, gc=False):
    """A pair of brackets with what is in it.

    Attributes:
        bracket: ``(`` or ``[``.
        start: offset of the opening bracket.
        end: offset behind the closing one.
        call: its parts, if it was found as a whole.
    """

    bracket: str
    start: int
    end: int
    _items: list[Node] | None
    call: PlainCall | None = None

    @property
    def items(self) -> list[Node]:
        """The parts in text order."""
        if self._items is None:
            assert self.call is not None, "only of calls found as a whole"
            self._items = _nested(self.call.source, self.start + 1, self.end - 1)
        return self._items


@final
class PlainCall(Struct, gc=False):
    """A call found as a whole: ``(call PEER (SERVICE FUNCTION) [ARGUMENT …] OUTPUT)`` with words and strings, no comments.

    Its brackets have ``Group.items`` like all others, but these are made only when something asks for them.
    """

    source: SourceText
    peer: Atom
    service: Atom
    function: Atom
    arguments: list[Atom]
    output: Word | None


Atom: TypeAlias = Word | Quoted
Node: TypeAlias = Atom | Comment | Group

_STRING = '"[^"]*"'
_INSIDE = rf'[^{WHITE_SPACE}()\[\]";]'
_BARE = rf"(?>{_INSIDE}+(?:\[{_INSIDE}*\]{_INSIDE}*)*)(?=[{WHITE_SPACE})\]]|\Z)"
_ATOM = f"(?:{_STRING}|{_BARE})"
_BLANKS = f"[{WHITE_SPACE}]*+"
_CALL = rf"""
    \( call [{WHITE_SPACE}] {_BLANKS} ({_ATOM})
    {_BLANKS} \( {_BLANKS} ({_ATOM}) {_BLANKS} ({_ATOM}) {_BLANKS} \)
    {_BLANKS} \[ {_BLANKS} ({_ATOM})? ((?:{_BLANKS} {_ATOM})*+) {_BLANKS} \]
    {_BLANKS} ({_BARE})? {_BLANKS} \)
"""


@cache
def _steps() -> re.Pattern[str]:
    """All that can stand at a place; compiled with the first script, since that takes five milliseconds."""
    return re.compile(
        rf"{_BLANKS} (?: ({_CALL}) | (([(\[]) ({_BARE})?) | ([)\]]) | ({_STRING}) | (;[^\n]*) | ({_BARE}) | (.) | \Z )",
        re.VERBOSE | re.DOTALL,
    )


_PLAIN_CALL, _PEER, _SERVICE, _FUNCTION, _ARGUMENT, _ARGUMENTS, _OUTPUT = range(1, 8)
_OPEN, _BRACKET, _HEAD, _CLOSE, _QUOTED, _COMMENT, _WORD, _BAD = range(8, 16)
_ATOMS = re.compile(_ATOM)
_PARTS = re.compile(rf"[(\[)\]] | ;[^\n]* | {_ATOM}", re.VERBOSE)
_CLOSING = {"(": ")", "[": "]"}


def read(source: SourceText, *, comments: bool = False) -> list[Node]:
    """The outermost parts of a script.

    Args:
        source: the script.
        comments: whether comments are kept among the items of their brackets; without, they are dropped.

    Raises:
        AirSyntaxError: the text is too long, has characters that no script may have, or its brackets do not match.
    """
    _check_text(source)
    return _nested(source, 0, len(source.text), comments=comments)


def _nested(source: SourceText, start: int, end: int, *, comments: bool = False) -> list[Node]:
    """The outermost parts of a stretch of a script."""
    top: list[Node] = []
    items = top
    around: list[tuple[Group, list[Node]]] = []  # what is open, with the items around it
    parts = 0
    for found in _steps().finditer(source.text, start, end):
        kind = found.lastindex
        parts += 1
        if kind == _PLAIN_CALL:
            call = _plain_call(found, source)
            items.append(Group("(", *found.span(_PLAIN_CALL), None, call))
            parts += 9 + len(call.arguments) + (call.output is not None)
        elif kind == _OPEN:
            at, head = found.start(_OPEN), found[_HEAD]
            inside: list[Node] = []
            if head:
                inside.append(Word(head, at + 1))
                parts += 1
            group = Group(found[_BRACKET], at, -1, inside)
            items.append(group)
            around.append((group, items))
            items = inside
        elif kind == _CLOSE:
            behind = found.end()
            if not around or found[_CLOSE] != _CLOSING[around[-1][0].bracket]:
                raise _closing_error(source, [group for group, _ in around], behind - 1)
            group, items = around.pop()
            group.end = behind
        elif kind == _WORD:
            items.append(Word(found[_WORD], found.start(_WORD)))
        elif kind == _QUOTED:
            items.append(Quoted(found[_QUOTED], found.start(_QUOTED)))
        elif kind == _BAD:
            raise _piece_error(source, found.start(_BAD))
        elif kind == _COMMENT:
            if comments:
                items.append(Comment(found[_COMMENT], found.start(_COMMENT)))
        else:
            parts -= 1
        if parts > PARTS_MAX:
            raise _too_many(source)
    if around:
        raise _unclosed_error(source, top, [group for group, _ in around])
    return top


def _plain_call(found: re.Match[str], source: SourceText) -> PlainCall:
    arguments: list[Atom] = []
    if found[_ARGUMENT]:
        arguments.append(_atom(found, _ARGUMENT))
        if found[_ARGUMENTS]:
            others = _ATOMS.finditer(source.text, *found.span(_ARGUMENTS))
            arguments += [_atom(other, 0) for other in others]
    output = Word(found[_OUTPUT], found.start(_OUTPUT)) if found[_OUTPUT] else None
    return PlainCall(source, _atom(found, _PEER), _atom(found, _SERVICE), _atom(found, _FUNCTION), arguments, output)


def _atom(found: re.Match[str], group: int) -> Atom:
    text = found[group]
    return (Quoted if text[0] == '"' else Word)(text, found.start(group))


def _too_many(source: SourceText) -> TooLarge:
    """Too many parts: points at the first one too many."""
    first = next(islice(_PARTS.finditer(source.text), PARTS_MAX, None))
    hint = "split the flow into several scripts, or load data instead of writing it as literals"
    return source.error(TooLarge, f"the script has more than {PARTS_MAX:,} parts", first.start(), hint=hint)


def _closing_error(source: SourceText, around: list[Group], offset: int) -> AirSyntaxError:
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


def _unclosed_error(source: SourceText, top: list[Node], around: list[Group]) -> AirSyntaxError:
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


def _outdented(source: SourceText, top: list[Node]) -> tuple[Group, int] | None:
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


def _piece_error(source: SourceText, offset: int) -> AirSyntaxError:
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


def _check_text(source: SourceText) -> None:
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
