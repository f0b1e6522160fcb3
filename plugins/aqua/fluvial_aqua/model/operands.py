"""What instructions read: literals, and names with a path into their value."""

from __future__ import annotations

from typing import Final, TypeAlias

from msgspec import Struct


class Constant(Struct, frozen=True, gc=False):
    """A literal; ``[]`` is the empty tuple."""

    value: bool | int | float | str | tuple[()]

    @property
    def text(self) -> str:
        """As AIR writes it."""
        value = self.value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, str):
            return f'"{value}"'
        if isinstance(value, tuple):
            return "[]"
        return decimal_text(value) if isinstance(value, float) else str(value)


class Reference(Struct, frozen=True, gc=False):
    """A name, with sigil, and what is taken of its value: ``.field``, ``.[2]``, ``.[i]``, or ``.length`` alone."""

    name: str
    path: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """As AIR writes it."""
        if not self.path:
            return self.name
        if self.path == (LENGTH,):
            return self.name + LENGTH
        return f"{self.name}.${''.join(self.path)}"

    def part(self, accessor: str) -> Reference:
        """A part of it."""
        return Reference(self.name, (*self.path, accessor))


Operand: TypeAlias = Constant | Reference

LENGTH: Final = ".length"
INIT_PEER: Final = Reference("%init_peer_id%")
TTL: Final = Reference("%ttl%")
TIMESTAMP: Final = Reference("%timestamp%")
ERROR: Final = Reference(":error:")
NOTHING: Final = Constant(())
TRUE: Final = Constant(True)
FALSE: Final = Constant(False)

DECIMAL_CHARS_MAX: Final = 11
"""Longest number with a dot that AIR reads; sign and dot count."""


def decimal_text(value: float) -> str:
    """A number with a dot, in as many digits as AIR reads."""
    text = f"{value:.10f}".rstrip("0")
    text = text + "0" if text.endswith(".") else text
    return text[:DECIMAL_CHARS_MAX].rstrip(".") if len(text) > DECIMAL_CHARS_MAX else text


def is_plain(operand: Operand) -> bool:
    """Whether reading it cannot fail: a literal or a whole value."""
    return isinstance(operand, Constant) or not operand.path
