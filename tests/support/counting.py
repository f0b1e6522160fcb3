"""How much work something is, counted, so that it is the same on every machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


def opcodes(work: Callable[[], object]) -> int:
    """How many of them a piece of work takes."""
    count = 0

    def counted(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        count += event == "opcode"
        return counted

    before = sys.gettrace()
    sys.settrace(counted)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def longest(work: Iterator[object]) -> int:
    """How many of them the longest slice of a piece of work takes."""
    most, ended = 0, object()
    now: object = None

    def advance() -> None:
        nonlocal now
        now = next(work, ended)

    while now is not ended:
        most = max(most, opcodes(advance))
    return most
