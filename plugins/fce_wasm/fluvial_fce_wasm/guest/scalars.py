"""Plans for values without parts, and how wasmtime lays out values in memory.

A value is a ``wasmtime_component_val_t`` of 32 bytes: one byte of kind, then at offset 8 a union. Texts and lists are there as size and address.
"""

from __future__ import annotations

import ctypes
import math
import struct
from ctypes import string_at
from typing import Any, Final

from wasmtime import _ffi as ffi

from fluvial_fce_wasm.guest.arena import Arena, Budget, Misfit
from fluvial_fce_wasm.wit.types import INTEGERS

VALUE_BYTES: Final = 32
ENTRY_BYTES: Final = 48
"""A field of a record: name (size, pointer) and value."""
assert ctypes.sizeof(ffi.wasmtime_component_val_t) == VALUE_BYTES, "wasmtime's C interface has changed"
assert ctypes.sizeof(ffi.wasmtime_component_valrecord_entry_t) == ENTRY_BYTES, "wasmtime's C interface has changed"
assert ffi.wasmtime_component_val_t.of.offset == 8, "wasmtime's C interface has changed"

VALUE_KINDS: Final[dict[str, int]] = {
    name: getattr(ffi, f"WASMTIME_COMPONENT_{name.upper()}").value
    for name in (
        *(*INTEGERS, "bool", "f32", "f64", "char", "string", "list", "record"),
        *("tuple", "variant", "enum", "option", "result", "flags"),
    )
}
_FORMATS: Final = {"8": "b", "16": "h", "32": "i", "64": "q"}
PAIR: Final = struct.Struct("<QQ")
WORD: Final = struct.Struct("<Q")
TAGGED: Final = struct.Struct("<B7xQQ")
_SHOWN_CHARACTERS: Final = 40


class ValuePlan:
    """How values of one type are written and read. ``encode`` writes at an offset of a buffer, ``decode`` reads from 32 raw bytes."""

    __slots__ = ()

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        """Check a value and write it; raises Misfit."""
        raise NotImplementedError

    def decode(self, raw: bytes, at: int, budget: Budget) -> Any:
        """Read a value; raises BudgetExceeded, or Misfit for one without JSON."""
        raise NotImplementedError


def shown(value: Any) -> str:
    """A JSON value for an error message, shortened."""
    text = repr(value) if isinstance(value, str | int | float) else type(value).__name__
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, dict):
        text = f"an object with {', '.join(map(repr, list(value)[:6])) or 'no keys'}"
    elif isinstance(value, list | tuple):
        text = f"an array of {len(value)}"
    elif value is None:
        text = "null"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"


class IntegerPlan(ValuePlan):
    """Of an integer type, by its name."""

    __slots__ = ("_high", "_kind", "_low", "_name", "_pack", "_unpack")

    def __init__(self, name: str) -> None:
        letter = _FORMATS[name[1:]]
        letter = letter if name[0] == "s" else letter.upper()
        self._low, self._high = INTEGERS[name]
        self._name, self._kind = name, VALUE_KINDS[name]
        self._pack = struct.Struct(f"<B7x{letter}").pack_into
        self._unpack = struct.Struct(f"<{letter}").unpack_from

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        """As :meth:`ValuePlan.encode`."""
        if type(value) is not int:
            raise Misfit(f"{shown(value)} is no {self._name}")
        if not self._low <= value <= self._high:
            raise Misfit(f"{shown(value)} is no {self._name}, which goes from {self._low} to {self._high}")
        self._pack(view, at, self._kind, value)

    def decode(self, raw: bytes, at: int, budget: Budget) -> int:
        """As :meth:`ValuePlan.decode`."""
        value: int = self._unpack(raw, at + 8)[0]
        return value


class FloatPlan(ValuePlan):
    """Of ``f32`` or ``f64``; what is not finite has no JSON."""

    __slots__ = ("_kind", "_name", "_pack", "_unpack")

    def __init__(self, name: str) -> None:
        letter = "f" if name == "f32" else "d"
        self._name, self._kind = name, VALUE_KINDS[name]
        self._pack = struct.Struct(f"<B7x{letter}").pack_into
        self._unpack = struct.Struct(f"<{letter}").unpack_from

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        """As :meth:`ValuePlan.encode`."""
        if type(value) is not int and type(value) is not float:
            raise Misfit(f"{shown(value)} is no {self._name}")
        try:
            self._pack(view, at, self._kind, value)
        except (OverflowError, struct.error) as error:
            raise Misfit(f"{shown(value)} is too large for {self._name}") from error

    def decode(self, raw: bytes, at: int, budget: Budget) -> float:
        """As :meth:`ValuePlan.decode`."""
        value: float = self._unpack(raw, at + 8)[0]
        if not math.isfinite(value):
            raise Misfit(f"{value} is no JSON value")
        return value


class BoolPlan(ValuePlan):
    """Of ``bool``; 0 and 1 are none."""

    __slots__ = ()

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        """As :meth:`ValuePlan.encode`."""
        if value is not True and value is not False:
            raise Misfit(f"{shown(value)} is no bool")
        view[at], view[at + 8] = VALUE_KINDS["bool"], value

    def decode(self, raw: bytes, at: int, budget: Budget) -> bool:
        """As :meth:`ValuePlan.decode`."""
        return raw[at + 8] != 0


class CharPlan(ValuePlan):
    """Of ``char``: one Unicode scalar value."""

    __slots__ = ()
    _STRUCT: Final = struct.Struct("<B7xI")

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        """As :meth:`ValuePlan.encode`."""
        if type(value) is not str or len(value) != 1 or 0xD800 <= ord(value) < 0xE000:
            raise Misfit(f"{shown(value)} is no char")
        self._STRUCT.pack_into(view, at, VALUE_KINDS["char"], ord(value))

    def decode(self, raw: bytes, at: int, budget: Budget) -> str:
        """As :meth:`ValuePlan.decode`."""
        return chr(self._STRUCT.unpack_from(raw, at)[1])


def _utf8(value: Any) -> bytes:
    if type(value) is not str:
        raise Misfit(f"{shown(value)} is no string")
    try:
        return value.encode()
    except UnicodeEncodeError as error:
        raise Misfit("a string with a lone surrogate") from error


def read_text(raw: bytes, at: int, budget: Budget) -> str:
    """The text whose size and address stand at a place."""
    size, pointer = PAIR.unpack_from(raw, at)
    budget.take(size)
    return string_at(pointer, size).decode() if size else ""


class StringPlan(ValuePlan):
    """Of ``string``."""

    __slots__ = ()

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        """As :meth:`ValuePlan.encode`."""
        data = _utf8(value)
        TAGGED.pack_into(view, at, VALUE_KINDS["string"], len(data), arena.text(data))

    def decode(self, raw: bytes, at: int, budget: Budget) -> str:
        """As :meth:`ValuePlan.decode`."""
        return read_text(raw, at + 8, budget)
