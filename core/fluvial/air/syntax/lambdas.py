"""Lambdas: what hangs on a value, as text and as tree.

``.length`` alone, or ``.$`` followed by accessors: ``.name``, ``.[3]``, ``.[x]``; the dot before a bracket may be left out, and each
accessor may end in ``!``, which means nothing.
"""

from __future__ import annotations

import re
import unicodedata

from fluvial.air.syntax.tree import Accessor, ByName, Field, Index, Lambda, Length, Path

INDEX_MAX = 2**32 - 1

NAME_CHAR = r"[^\x00-,./:-@\[-\^`{-\x7f]"
"""A letter, a digit, ``_`` or ``-``; written as what it is not, since a range beyond ASCII takes long to compile. Letters there are looked at by ``is_name``."""

_ENCLOSED_LETTERS = frozenset(
    chr(code)
    for first, last in ((0x24B6, 0x24E9), (0x1F130, 0x1F149), (0x1F150, 0x1F169), (0x1F170, 0x1F189))
    for code in range(first, last + 1)
)
"""Letters in circles and squares: symbols to Python, alphabetic to Unicode and AquaVM."""

_ACCESSOR = re.compile(
    rf"(?: \.?\[ (?: ([0-9]+) | ((?![0-9]){NAME_CHAR}+) ) \] | \.((?![0-9]){NAME_CHAR}+) ) !?", re.VERBOSE
)
_INDEX, _BY_NAME, _FIELD = range(1, 4)


class LambdaError(ValueError):
    """A text that is no lambda.

    Args:
        problem: what is wrong.
        offset: where in the text.
        hint: what to write instead.
    """

    def __init__(self, problem: str, offset: int, hint: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.offset = offset
        self.hint = hint


def parse_lambda(text: str) -> Lambda:
    """The lambda that a text is, from its first dot on.

    Raises:
        LambdaError: it is none.
    """
    if text == ".length":
        return Length()
    if not text.startswith(".$"):
        hint = f"did you mean `.${text}`?" if _ACCESSOR.match(text) else "write `.$.name`, `.$.[0]` or `.length`"
        raise LambdaError("a lambda begins with `.$`", 0, hint)
    accessors: list[Accessor] = []
    offset, plain = 2, text.isascii()
    while offset < len(text):
        found = _ACCESSOR.match(text, offset)
        if found is None or not (plain or is_name(found[0])):
            raise LambdaError(f"`{text[offset:][:20]}` is no accessor", offset, _accessor_hint(text[offset:]))
        accessors.append(_accessor(found, offset))
        offset = found.end()
    if not accessors:
        raise LambdaError("nothing follows `.$`", 0, "leave `.$` away for the whole value, or name a part: `.$.name`")
    return Path(tuple(accessors))


def lambda_text(path: Lambda | None) -> str:
    """The normalised text of a lambda, such as ``.$.a.[0].b`` or ``.length``; empty for none."""
    if path is None:
        return ""
    if isinstance(path, Length):
        return ".length"
    return ".$." + ".".join(map(_accessor_text, path.accessors))


def is_name(text: str) -> bool:
    """Whether the characters beyond ASCII in a text may stand in names: letters, digits and marks of any script.

    Deviation: AquaVM takes the vowel signs of a script, but not its other combining marks; here all may stand in names.
    """
    return text.isascii() or all(c.isascii() or c.isalnum() or _is_mark(c) or c in _ENCLOSED_LETTERS for c in text)


def _is_mark(character: str) -> bool:
    return unicodedata.category(character)[0] == "M"


def _accessor(found: re.Match[str], offset: int) -> Accessor:
    kind = found.lastindex
    if kind == _FIELD:
        return Field(found[_FIELD])
    if kind == _BY_NAME:
        return ByName(found[_BY_NAME])
    digits = found[_INDEX].lstrip("0") or "0"
    if len(digits) > len(str(INDEX_MAX)) or int(digits) > INDEX_MAX:
        raise LambdaError("the index is too large", offset, f"the largest index is {INDEX_MAX}")
    return Index(int(digits))


def _accessor_text(accessor: Accessor) -> str:
    match accessor:
        case Field(name):
            return name
        case Index(index):
            return f"[{index}]"
        case ByName(name):
            return f"[{name}]"


def _accessor_hint(rest: str) -> str:
    number = re.match(r"\.([0-9]+)", rest)
    if number:
        return f"an index is written `.[{number[1]}]`"
    return "accessors are `.name`, `.[0]` and `.[name]`"
