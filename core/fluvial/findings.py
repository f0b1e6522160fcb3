"""What a check found: for ``fluvial doctor`` and for the health of a running peer."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that a check looked at.

    Attributes:
        level: ``ok``; ``warn``, the peer works but somebody should look at it; ``fail``, something does not work.
        text: what was found, with its numbers.
        subject: what was looked at, in a word or two: ``clock``, ``trust statements``; the check's own name if empty.
        hint: what the operator can do.
        code: the error's code, for ``fluvial explain``.
        fix: the name of a repair that ``fluvial doctor --fix`` can make; empty if there is none.
    """

    level: Level
    text: str
    subject: str = ""
    hint: str = ""
    code: str = ""
    fix: str = ""
