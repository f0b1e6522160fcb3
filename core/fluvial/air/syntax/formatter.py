"""``fluvial air fmt``: a script set anew, as its author wrote it."""

from __future__ import annotations

from fluvial.air.syntax.errors import SourceText
from fluvial.air.syntax.layout import set_nodes
from fluvial.air.syntax.parser import DEFAULT_NAME
from fluvial.air.syntax.reader import read


def format_text(text: str, *, name: str = DEFAULT_NAME) -> str:
    """Set an AIR file anew; every word, string and comment stays as it is (``layout`` has the rules).

    Only brackets must be right: files that do not parse for other reasons, and the white paper's older forms, are set as well.
    Formatting what was formatted changes nothing.

    Args:
        text: the file.
        name: what errors call it.

    Raises:
        AirSyntaxError: brackets or strings are not closed, or the text cannot be read at all.
    """
    formatted = set_nodes(read(SourceText(text, name), comments=True), text)
    return formatted + "\n" if formatted else ""
