"""What errors show of values.

Deviation: of a text that is longer than an error may hold, the beginning. The reference shows all of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from fluvial.air.data.content import Json

_text = msgspec.json.Encoder(order="deterministic")

TEXT_BYTES_MAX: Final = 65_536
"""Longest text of a value inside an error: texts of errors about errors double with every step, and each failure makes its own."""
SHOWN_CHARACTERS: Final = 1_000
"""How much of a longer text an error shows."""
TOO_LONG: Final = f"… (more than {TEXT_BYTES_MAX:,} bytes)"
"""How it ends then."""
FIELDS_SORTED_MAX: Final = 400
"""Of an object in a longer text; of one with more nothing is shown."""


def json_text(value: Json) -> str:
    """Compact JSON with sorted keys, numbers written as the reference writes them.

    However large the value, no more of it is looked at than an error may hold.
    """
    if not _is_long(value) and len(text := _text.encode(value)) <= TEXT_BYTES_MAX:
        return text.decode()
    return _beginning(value) + TOO_LONG


def _is_long(value: Json) -> bool:
    """Whether it is seen without writing it that the text is too long; a text that is not is at most some times as long as allowed."""
    size, waiting = 0, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            size += len(one)
        elif isinstance(one, list | dict):
            size += 2 * len(one)
            if size <= TEXT_BYTES_MAX:
                waiting.extend(one)
                if isinstance(one, dict):
                    waiting.extend(one.values())
        if size > TEXT_BYTES_MAX:
            return True
    return False


def _beginning(value: Json) -> str:
    text = ""
    rest = [_pieces(value)]
    while rest and len(text) < SHOWN_CHARACTERS:
        piece = next(rest[-1], None)
        if piece is None:
            rest.pop()
        elif isinstance(piece, str):
            text += piece
        else:
            rest.append(_pieces(piece[0]))
    return text[:SHOWN_CHARACTERS]


def _pieces(value: Json) -> Iterator[str | tuple[Json]]:
    """The text of a value in pieces: texts, and what is in it, to be taken to pieces itself."""
    if isinstance(value, list):
        yield "["
        for place, element in enumerate(value):
            if place:
                yield ","
            yield (element,)
        yield "]"
    elif isinstance(value, dict):
        yield "{"
        for place, name in enumerate(sorted(value) if len(value) <= FIELDS_SORTED_MAX else ()):
            yield ("," if place else "") + _written(name) + ":"
            yield (value[name],)
        yield "}"
    else:
        yield _written(value)


def _written(value: Json) -> str:
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS:
        return _text.encode(value[:SHOWN_CHARACTERS]).decode().removesuffix('"')
    return _text.encode(value).decode()
