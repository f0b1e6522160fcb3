"""What a check found: for ``fluvial doctor`` and for the health of a running peer."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, TypeGuard, get_args

import msgspec

FindingLevel: TypeAlias = Literal["ok", "warn", "fail"]
LEVELS: Final[tuple[FindingLevel, ...]] = get_args(FindingLevel)


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

    level: FindingLevel
    text: str
    subject: str = ""
    hint: str = ""
    code: str = ""
    fix: str = ""


def is_finding(value: object) -> TypeGuard[Finding]:
    """Whether something that foreign code gave is a finding, with a level and texts: nobody looks at these when one is made."""
    if not isinstance(value, Finding) or value.level not in LEVELS:
        return False
    return all(isinstance(text, str) for text in (value.text, value.subject, value.hint, value.code, value.fix))
