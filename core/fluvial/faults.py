"""Exceptions of foreign code as one harmless line."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Final

from fluvial.errors import FluvialError

CHARACTERS_MAX: Final = 500
"""How much is kept of what an exception says."""


def describe(error: BaseException) -> str:
    """An exception of a plugin, in one line, with the place where it was raised; never raises itself."""
    if isinstance(error, FluvialError):
        return _one_line(_text(error))
    text = _text(error)
    line = f"{type(error).__name__}: {text}" if text else type(error).__name__
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    if places and not isinstance(error, SyntaxError):  # its text has the place already
        return f"{_one_line(line)} ({Path(places[-1].filename).name}:{places[-1].lineno})"
    return _one_line(line)


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as second:  # noqa: BLE001 - foreign code: its __str__ may do anything
        return f"(its text cannot be had: __str__ raised {type(second).__name__})"


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= CHARACTERS_MAX else f"{line[:CHARACTERS_MAX]}…"
