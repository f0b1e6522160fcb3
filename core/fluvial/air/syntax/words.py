"""A word of a script to the operand that it is: variable, number, reserved value."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

from fluvial.air.syntax.errors import AirSyntaxError, BadLambda, BadNumber, BadWord, SourceText, WrongOperand, shown
from fluvial.air.syntax.lambdas import NAME_CHAR, LambdaError, is_name, parse_lambda
from fluvial.air.syntax.reader import Word
from fluvial.air.syntax.tree import (
    CanonMap,
    CanonStream,
    Error,
    InitPeerId,
    Lambda,
    LastError,
    Literal,
    Scalar,
    Stream,
    StreamMap,
    Timestamp,
    Ttl,
)

INTEGER_MIN, INTEGER_MAX = -(2**63), 2**63 - 1

FLOAT_CHARS_MAX = 11
"""So many characters are exact on every peer, whatever its way of printing floats; AquaVM's limit."""

INSTRUCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "call": "(call PEER (SERVICE FUNCTION) [ARGUMENT …] OUTPUT), the output may be missing",
        "ap": "(ap VALUE TARGET) or (ap (KEY VALUE) %MAP)",
        "canon": "(canon PEER $STREAM #CANON), (canon PEER %MAP #%CANON) or (canon PEER %MAP SCALAR)",
        "seq": "(seq INSTRUCTION INSTRUCTION)",
        "par": "(par INSTRUCTION INSTRUCTION)",
        "xor": "(xor INSTRUCTION INSTRUCTION)",
        "match": "(match VALUE VALUE INSTRUCTION)",
        "mismatch": "(mismatch VALUE VALUE INSTRUCTION)",
        "fold": "(fold ITERABLE ITERATOR INSTRUCTION LAST-INSTRUCTION), the last one may be missing",
        "next": "(next ITERATOR)",
        "new": "(new NAME INSTRUCTION)",
        "fail": '(fail CODE "MESSAGE") or (fail ERROR-VALUE)',
        "null": "(null)",
        "never": "(never)",
    }
)
"""Every instruction with the shape that errors show."""

Operand: TypeAlias = (
    Literal | InitPeerId | Timestamp | Ttl | Error | LastError | Scalar | CanonStream | CanonMap | Stream | StreamMap
)

_RESERVED: Mapping[str, Operand] = MappingProxyType(
    {
        "%init_peer_id%": InitPeerId(),
        "%timestamp%": Timestamp(),
        "%ttl%": Ttl(),
        "true": Literal(True),
        "false": Literal(False),
    }
)
_ERRORS: tuple[tuple[str, type[Error] | type[LastError]], ...] = ((":error:", Error), ("%last_error%", LastError))

_NUMERIC_START = "+-0123456789"
_NUMERIC = re.compile(r"[+-]?[0-9]*")
_VARIABLE = re.compile(rf"([$%] | \#[$%]? | \+)? ({NAME_CHAR}+) (\..*)?", re.VERBOSE | re.DOTALL)
_WITH_PARTS: Mapping[str, type[Scalar] | type[CanonStream] | type[CanonMap]] = MappingProxyType(
    {"": Scalar, "+": Scalar, "#": CanonStream, "#$": CanonStream, "#%": CanonMap}
)
_WITHOUT_PARTS: Mapping[str, type[Stream] | type[StreamMap]] = MappingProxyType({"$": Stream, "%": StreamMap})


def operand_of(word: Word, source: SourceText) -> Operand:
    """What a word stands for.

    Raises:
        AirSyntaxError: it stands for nothing.
    """
    text = word.text
    if text in _RESERVED:
        return _RESERVED[text]
    if text in INSTRUCTIONS:
        raise source.error(WrongOperand, f"`{text}` is an instruction, not a value or name", word.start, len(text))
    if text.isidentifier() and text.isascii():  # most are plain names
        return Scalar(text)
    if text[0] in ":%":
        for prefix, kind in _ERRORS:
            if text.startswith(prefix):
                return kind(_path(text[len(prefix) :], word, source) if text != prefix else None)
    elif text[0] in _NUMERIC_START or not text.isascii():
        head, dot, _ = text.partition(".")
        if _is_numeric(head):
            return _number(text, bool(dot), word, source)
    return _variable(word, source)


def _variable(word: Word, source: SourceText) -> Operand:
    text = word.text
    found = _VARIABLE.fullmatch(text)
    if found is None or not is_name(found[2]):
        raise _name_error(word, source)
    sigil, bare, path = found.groups("")
    name = sigil + bare
    if sigil in _WITHOUT_PARTS:
        if path:
            hint = f"fix its content with `canon` and take the part of that: `#{bare}{path}`"
            raise source.error(
                WrongOperand, f"{shown(name)} has no parts, it is a stream", word.start, len(text), hint=hint
            )
        return _WITHOUT_PARTS[sigil](name)
    if path and "!" in path[:-1]:
        at = word.start + text.index("!")
        raise source.error(BadLambda, "`!` may only end a lambda", at, hint="take it away, it means nothing")
    return _WITH_PARTS[sigil](name, _path(path, word, source) if path else None)


def _path(text: str, word: Word, source: SourceText) -> Lambda:
    """The lambda at the end of a word."""
    try:
        return parse_lambda(text)
    except LambdaError as error:
        at = word.start + len(word.text) - len(text) + error.offset
        raise source.error(BadLambda, error.problem, at, max(1, len(text) - error.offset), hint=error.hint) from error


def _is_numeric(head: str) -> bool:
    """Whether a word that begins so is a number: a sign and digits of any script, at least one of both."""
    if head.isascii():
        return bool(head) and _NUMERIC.fullmatch(head) is not None
    return all(unicodedata.category(c)[0] == "N" for c in head.removeprefix("+").removeprefix("-"))


def _number(text: str, is_float: bool, word: Word, source: SourceText) -> Literal:
    length = len(text)
    sign, digits = (text[0], text[1:]) if text[0] in "+-" else ("", text)
    whole, _, fraction = digits.partition(".")
    if not (whole.isascii() and whole.isdigit() and (fraction == "" or (fraction.isascii() and fraction.isdigit()))):
        hint = "numbers are digits 0-9 with at most one dot between them; there are no exponents"
        raise source.error(BadNumber, f"{shown(text)} is neither a number nor a name", word.start, length, hint=hint)
    if is_float:
        if length > FLOAT_CHARS_MAX:
            hint = f"a number with a dot has at most {FLOAT_CHARS_MAX} characters, sign and dot included"
            raise source.error(BadNumber, f"{shown(text)} is too long for a float", word.start, length, hint=hint)
        return Literal(float(text))
    significant = whole.lstrip("0") or "0"
    value = int(sign + significant) if len(significant) <= len(str(INTEGER_MAX)) else None
    if value is None or not INTEGER_MIN <= value <= INTEGER_MAX:
        hint = f"integers lie between {INTEGER_MIN} and {INTEGER_MAX}; write a longer one as a string"
        raise source.error(BadNumber, f"{shown(text)} is out of range", word.start, length, hint=hint)
    return Literal(value)


def _name_error(word: Word, source: SourceText) -> AirSyntaxError:
    """Say which character keeps a word from being a name."""
    text = word.text
    if "[]" in text:
        hint = "`name[]` is the white paper's way to write the output of a call and stands nowhere else"
        return source.error(BadWord, f"{shown(text)} cannot stand here", word.start, len(text), hint=hint)
    if text[0] == ".":
        return source.error(BadWord, "a name is missing before the dot", word.start, len(text))
    if text in ("$", "%", "#", "#$", "#%") or text.partition(".")[0] in ("$", "%", "#", "#$", "#%"):
        return source.error(BadWord, f"a name is missing after `{text.partition('.')[0]}`", word.start, len(text))
    allowed = re.compile(rf"(?:[$%]|#[$%]?|\+)?{NAME_CHAR}*")
    stop = allowed.match(text)
    end = stop.end() if stop else 0
    if end == len(text):  # a character beyond ASCII that is no letter
        end = next(i for i, c in enumerate(text) if not is_name(c))
    hint = "names are letters, digits, `_` and `-`, with `$`, `%`, `#` or `#%` in front"
    if text[end : end + 1] == "[":
        hint = f"an index stands behind `.$`: `{text[:end]}.${text[end:]}`"
    return source.error(BadWord, f"`{text[end]}` cannot be part of the name {shown(text)}", word.start + end, hint=hint)
