"""Near names for misspelt ones, worded the same wherever fluvial refuses a name."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(word: str, names: Iterable[str]) -> str:
    """``did you mean `x`?`` with the name nearest to a word, or an empty text if none is near."""
    near = get_close_matches(word, list(names), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""
