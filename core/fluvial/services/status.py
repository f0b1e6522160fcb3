"""The error numbers of failed calls; effectors may use any other number except 0 for errors of their own."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


# Deviation: the reference node fails every call with 1, so that a script cannot tell a missing service from one that said no.
class Status(IntEnum):
    """Why a call failed; scripts see it as the error's code. :data:`MEANINGS` explains each."""

    UNKNOWN_SERVICE = 1
    UNKNOWN_FUNCTION = 2
    TIMED_OUT = 3
    BAD_ARGUMENTS = 4
    FAILED = 5
    BUSY = 6
    NO_RESULT = 7
    NOT_ALLOWED = 8


MEANINGS: Final[dict[Status, str]] = {
    Status.UNKNOWN_SERVICE: "this peer has no such service; the text names those it has, as far as it tells you",
    Status.UNKNOWN_FUNCTION: "the service has no such function; the text names those it has",
    Status.TIMED_OUT: "the function took longer than its time limit; whether it had an effect is not known",
    Status.BAD_ARGUMENTS: "too few or too many arguments, or one that is not of its type or impossible; nothing was done",
    Status.FAILED: "the function broke, or its result is no JSON value or too large; the peer's log has more",
    Status.BUSY: "too many calls are in progress or waiting; nothing was done",
    Status.NO_RESULT: "there is no result for these arguments: a division by zero, an overflow, a text that cannot be decoded",
    Status.NOT_ALLOWED: "the function answers only to the peer itself, to those whom its owner chose, or only for data of its own",
}
"""The meaning of each status, for the reference page."""

STATUS_MIN: Final = -(2**31)
STATUS_MAX: Final = 2**31 - 1
"""AIR's error codes are signed 32-bit integers."""

MESSAGE_CHARACTERS_MAX: Final = 2_000
"""Longer texts of errors are cut: they become part of the particle's data and travel with it."""


def shortened(text: str, most: int = MESSAGE_CHARACTERS_MAX) -> str:
    """``text``, cut to at most ``most`` characters with an ellipsis at the end."""
    return text if len(text) <= most else text[: most - 1] + "…"


def listed(names: list[str], most: int = 12) -> str:
    """Names as a text for people: sorted, at most ``most`` of them, then the number of the others."""
    shown = ", ".join(sorted(names)[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "nothing"
