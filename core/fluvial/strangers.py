"""What strangers said, on its way to people: made harmless for a terminal, and held against the shape that it should have."""

from __future__ import annotations

import unicodedata
from typing import Any, TypeVar, cast

from fluvial.errors import RemoteProtocolError

T = TypeVar("T")


def printable(text: str) -> str:
    r"""The text with everything that cannot be seen written as an escape, such as ``\n``, ``\x1b`` or ``\u202e``."""
    if text.isprintable():
        return text
    return "".join(one if _is_visible(one) else one.encode("unicode_escape").decode() for one in text)


def escaped(text: str) -> str:
    r"""Lines of text, or JSON, with whatever a terminal may take for a command written as ``\u009b``; line feeds and tabs stay.

    JSON means the same afterwards: such characters are found within its strings alone.
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(one if one in "\n\t" or _is_visible(one) else _json_escape(one) for one in text)


def as_expected(answer: Any, kind: type[T], *, what: str) -> T:
    """An answer of a peer as a value of a type; bytes are Base64 in it.

    Args:
        answer: as it came, out of JSON.
        kind: the type, as msgspec has it.
        what: the name of the answer in the error, such as ``"status of the ledger"``.

    Raises:
        RemoteProtocolError: it has another shape.
    """
    import msgspec

    try:
        return msgspec.convert(answer, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise RemoteProtocolError(f"the peer's answer is no {what}: {printable(str(error))}") from error


def shaped(answer: Any, kind: type[T], *, what: str) -> T:
    """An answer of a peer as it came, with whatever more there is in it, if it has the shape of a type of JSON values; see :func:`as_expected`."""
    as_expected(answer, kind, what=what)
    return cast("T", answer)


def from_hex(text: str, *, what: str) -> bytes:
    """Bytes that a peer wrote in hexadecimal. Raises RemoteProtocolError: it did not; ``what`` is as of :func:`as_expected`."""
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise RemoteProtocolError(
            f"the peer's answer is no {what}: {printable(text[:80])!r} is not hexadecimal"
        ) from error


def _is_visible(character: str) -> bool:
    """Whether it is seen as itself; spaces of any width are."""
    return character.isprintable() or unicodedata.category(character) == "Zs"


def _json_escape(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
