"""What an error of wasmtime means. Its component API has no codes, so the text decides."""

from __future__ import annotations

import re
from typing import Final

from fluvial_fce_wasm.failures import FailureKind

_TRAPS: Final = (
    ("wasm trap: interrupt", FailureKind.TIMEOUT),
    ("all fuel consumed", FailureKind.FUEL),
    ("call stack exhausted", FailureKind.STACK),
)
_INSIDE: Final = re.compile(
    r"wasm trap: |wasm backtrace|cannot enter component instance|cannot leave component instance"
)
_LIMITS: Final = re.compile(
    r"exceeds (memory|table) limits|resource limit exceeded|(memory|table|instance) count too high"
    r"|forcing trap when growing|mmap failed|Cannot allocate memory"
)
_LINKS: Final = re.compile(
    r"implementation in the linker|type mismatch|unknown import|was not found|missing|resource implementation"
)
_NUMBER: Final = re.compile(r"^\d+: ")
_TEXT_CHARACTERS: Final = 200


def classify(text: str, *, at_start: bool = False) -> tuple[FailureKind, str]:
    """The kind of a failure, and its text in one short line.

    Args:
        text: wasmtime's.
        at_start: whether instances were being made; a missing import can show only then.
    """
    short = _short(text)
    for mark, kind in _TRAPS:
        if mark in text:
            return kind, "it was stopped at its deadline" if kind is FailureKind.TIMEOUT else short
    if _LIMITS.search(text):
        return FailureKind.MEMORY, short
    if at_start and not _INSIDE.search(text):
        return FailureKind.LINK if _LINKS.search(text) else FailureKind.TRAP, short
    return FailureKind.TRAP if _INSIDE.search(text) else FailureKind.RESULT, short


def _short(text: str) -> str:
    """The innermost cause, without the backtrace."""
    _, _, causes = text.rpartition("Caused by:")
    lines = [_NUMBER.sub("", line.strip()) for line in (causes or text).splitlines() if line.strip()]
    told = (lines[-1] if causes else lines[0]) if lines else "no text"
    told = told.removeprefix("wasm trap: ")
    return told if len(told) <= _TEXT_CHARACTERS else told[: _TEXT_CHARACTERS - 1] + "…"
