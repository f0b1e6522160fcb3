"""What is worked out once per script is kept by the script itself, and goes with it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from fluvial.air.syntax.tree import Script

AnalysisT = TypeVar("AnalysisT")


def once_per_script(analyse: Callable[[Script], AnalysisT]) -> Callable[[Script], AnalysisT]:
    """Decorate an analysis: its result is kept by the script. It must not refer to the script, or it would keep it alive."""

    @wraps(analyse)
    def kept(script: Script) -> AnalysisT:
        found: AnalysisT | None = script.analyses.get(analyse)
        if found is None:
            found = script.analyses[analyse] = analyse(script)
        return found

    return kept
