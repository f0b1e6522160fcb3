"""Operators on values that the compiler knows: what the result is, or why there is none."""

from __future__ import annotations

from typing import Final, TypeAlias

KnownValue: TypeAlias = bool | int | float | str

INTEGER_MIN: Final = -(2**63)
INTEGER_MAX: Final = 2**63 - 1
"""What AIR can write; the compiler's arithmetic has these 64 bits."""
POWER_MAX: Final = 64
"""Greater exponents of anything but 0, 1 and -1 do not fit 64 bits."""


class DoesNotFit(Exception):
    """A result is outside of 64 bits."""


def fold(operator: str, left: KnownValue, right: KnownValue) -> KnownValue | None:
    """The value of ``left operator right``; None if it is for run time: division by 0, and the like.

    Raises:
        DoesNotFit: the result does not fit 64 bits.
    """
    if operator in ("==", "!="):
        equal = _key(left) == _key(right)
        return equal if operator == "==" else not equal
    if isinstance(left, str) or isinstance(right, str) or isinstance(left, float) or isinstance(right, float):
        return None
    if operator in ("<", "<=", ">", ">="):
        return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]
    return _arithmetic(operator, int(left), int(right))


def _key(value: KnownValue) -> tuple[str, KnownValue]:
    """What makes two literals equal: ``1`` and ``true`` are not."""
    return type(value).__name__, value


def _arithmetic(operator: str, left: int, right: int) -> int | None:
    if operator in ("/", "%"):
        if right == 0:
            return None
        quotient = abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)
        return quotient if operator == "/" else left - quotient * right
    if operator == "**":
        if right < 0:
            return None
        if abs(left) > 1 and right > POWER_MAX:
            raise DoesNotFit
        result = int(left**right)
    else:
        result = {"+": left + right, "-": left - right, "*": left * right}[operator]
    if not INTEGER_MIN <= result <= INTEGER_MAX:
        raise DoesNotFit
    return result
