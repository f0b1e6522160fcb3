"""JSON values to component values and back, by plans that are made once per type.

Every value is checked before the guest is entered, and errors name the path of what is wrong. wasmtime's own Python codec truncates integers,
finds wrong names only after it has entered the guest, and is slower by a factor of two to ten.

==================  ==========================================================
WIT                 JSON
==================  ==========================================================
integers, floats    numbers (a float may be written as an integer)
char, string        strings
list, tuple         arrays
record              object with exactly its fields
enum                string
flags               array of strings
option              null or the value; where that could be null itself, {"some": value}
result              {"ok": value} or {"err": value}; null where there is no value
variant             {"case": value}; null, or the bare string, where there is no value
==================  ==========================================================

Arguments are laid out in buffers that
Python owns, since wasmtime only reads them. Results are read from wasmtime's memory, counted against a budget before they are copied.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable
from contextlib import suppress
from ctypes import addressof, string_at
from typing import Any, Final

from fluvial_fce_wasm.guest.arena import Arena, Budget, Misfit
from fluvial_fce_wasm.guest.scalars import (
    ENTRY_BYTES,
    PAIR,
    TAGGED,
    VALUE_BYTES,
    VALUE_KINDS,
    WORD,
    BoolPlan,
    CharPlan,
    FloatPlan,
    IntegerPlan,
    StringPlan,
    ValuePlan,
    read_text,
    shown,
)
from fluvial_fce_wasm.wit.types import (
    INTEGERS,
    WitEnum,
    WitFlags,
    WitFunction,
    WitList,
    WitOption,
    WitPrimitive,
    WitRecord,
    WitResult,
    WitTuple,
    WitType,
    WitVariant,
)

_U8: Final = bytes([VALUE_KINDS["u8"]])
_PIECE_BYTES: Final = 2_048 * VALUE_BYTES


class _List(ValuePlan):
    __slots__ = ("_decode", "_encode")

    def __init__(self, element: ValuePlan) -> None:
        self._encode, self._decode = element.encode, element.decode

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        if type(value) is not list and type(value) is not tuple:
            raise Misfit(f"{shown(value)} is no list")
        inner, place, address = arena.reserve(len(value) * VALUE_BYTES) if value else (view, 0, 0)
        encode, first = self._encode, place
        try:
            for one in value:
                encode(one, arena, inner, place)
                place += VALUE_BYTES
        except Misfit as error:
            raise error.within(f"[{(place - first) // VALUE_BYTES}]") from None
        TAGGED.pack_into(view, at, VALUE_KINDS["list"], len(value), address)

    def decode(self, raw: bytes, at: int, budget: Budget) -> list[Any]:
        count, pointer = PAIR.unpack_from(raw, at + 8)
        budget.take(count * VALUE_BYTES)
        if not count:
            return []
        inner, decode = string_at(pointer, count * VALUE_BYTES), self._decode
        return [decode(inner, place, budget) for place in range(0, count * VALUE_BYTES, VALUE_BYTES)]


class _Bytes(ValuePlan):
    """``list<u8>``: JSON arrays of numbers, or bytes of the host, laid out at once."""

    __slots__ = ()

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        if type(value) is not list and type(value) is not tuple and type(value) is not bytes:
            raise Misfit(f"{shown(value)} is no list")
        if not value:
            TAGGED.pack_into(view, at, VALUE_KINDS["list"], 0, 0)
            return
        arena.take(len(value) * VALUE_BYTES)
        data = value if isinstance(value, bytes) else _bytes_of(value)
        laid = bytearray(len(data) * VALUE_BYTES)
        laid[0::VALUE_BYTES] = _U8 * len(data)
        laid[8::VALUE_BYTES] = data
        address = arena.keep((ctypes.c_char * len(laid)).from_buffer(laid))
        TAGGED.pack_into(view, at, VALUE_KINDS["list"], len(data), address)

    def decode(self, raw: bytes, at: int, budget: Budget) -> list[int]:
        count, pointer = PAIR.unpack_from(raw, at + 8)
        budget.take(count * 4)  # as numbers of a JSON array
        total = count * VALUE_BYTES
        pieces = range(
            0, total, _PIECE_BYTES
        )  # a copy of all at once would take new memory, which costs more than all the rest
        return list(b"".join(string_at(pointer + at, min(_PIECE_BYTES, total - at))[8::VALUE_BYTES] for at in pieces))


def _bytes_of(value: list[Any] | tuple[Any, ...]) -> bytes:
    """A JSON array as bytes; raises Misfit with the place of what is no u8."""
    if set(map(type, value)) == {int}:
        with suppress(ValueError):  # one is too large or negative
            return bytes(value)
    place = next(place for place, one in enumerate(value) if type(one) is not int or not 0 <= one <= 255)
    raise Misfit(f"{shown(value[place])} is no u8, which goes from 0 to 255", f"[{place}]")


class _Tuple(ValuePlan):
    __slots__ = ("_elements",)

    def __init__(self, elements: list[ValuePlan]) -> None:
        self._elements = elements

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        if type(value) is not list and type(value) is not tuple:
            raise Misfit(f"{shown(value)} is no tuple")
        if len(value) != len(self._elements):
            raise Misfit(f"{shown(value)} is no tuple of {len(self._elements)}")
        inner, place, address = arena.reserve(len(value) * VALUE_BYTES)
        for number, (element, one) in enumerate(zip(self._elements, value, strict=True)):
            try:
                element.encode(one, arena, inner, place)
            except Misfit as error:
                raise error.within(f"[{number}]") from None
            place += VALUE_BYTES
        TAGGED.pack_into(view, at, VALUE_KINDS["tuple"], len(value), address)

    def decode(self, raw: bytes, at: int, budget: Budget) -> list[Any]:
        count, pointer = PAIR.unpack_from(raw, at + 8)
        inner = string_at(pointer, count * VALUE_BYTES)
        return [one.decode(inner, place * VALUE_BYTES, budget) for place, one in enumerate(self._elements)]


class _Record(ValuePlan):
    __slots__ = ("_encoding", "_kept", "_names", "_reading")

    def __init__(self, fields: list[tuple[str, ValuePlan]]) -> None:
        self._names = frozenset(name for name, _ in fields)
        encoded = [name.encode() for name, _ in fields]
        self._kept = [ctypes.create_string_buffer(name, len(name)) for name in encoded]
        headers = [PAIR.pack(len(kept), addressof(kept)) for kept in self._kept]
        self._encoding = [(name, plan.encode, header) for (name, plan), header in zip(fields, headers, strict=True)]
        self._reading = [(name, plan.decode, place * ENTRY_BYTES + 16) for place, (name, plan) in enumerate(fields)]

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        if type(value) is not dict:
            raise Misfit(f"{shown(value)} is no record of {', '.join(sorted(self._names))}")
        if value.keys() != self._names:
            raise self._wrong_fields(value)
        inner, place, address = arena.reserve(len(self._encoding) * ENTRY_BYTES)
        for name, encode, header in self._encoding:
            inner[place : place + 16] = header
            try:
                encode(value[name], arena, inner, place + 16)
            except Misfit as error:
                raise error.within(f".{name}") from None
            place += ENTRY_BYTES
        TAGGED.pack_into(view, at, VALUE_KINDS["record"], len(self._encoding), address)

    def _wrong_fields(self, value: dict[Any, Any]) -> Misfit:
        if missing := self._names - value.keys():
            return Misfit(f"the field {sorted(missing)[0]!r} is missing")
        (unknown, *_) = [name for name in value if name not in self._names]
        return Misfit(f"there is no field {shown(unknown)}; fields are {', '.join(sorted(self._names))}")

    def decode(self, raw: bytes, at: int, budget: Budget) -> dict[str, Any]:
        count, pointer = PAIR.unpack_from(raw, at + 8)
        inner = string_at(pointer, count * ENTRY_BYTES)
        budget.take(count * 16)
        return {name: decode(inner, place, budget) for name, decode, place in self._reading}


class _Enum(ValuePlan):
    __slots__ = ("_names",)

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = frozenset(names)

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        if type(value) is not str or value not in self._names:
            raise Misfit(f"{shown(value)} is none of {', '.join(sorted(self._names))}")
        data = value.encode()
        TAGGED.pack_into(view, at, VALUE_KINDS["enum"], len(data), arena.text(data))

    def decode(self, raw: bytes, at: int, budget: Budget) -> str:
        return read_text(raw, at + 8, budget)


class _Flags(ValuePlan):
    __slots__ = ("_names",)

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = frozenset(names)

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        if type(value) is not list and type(value) is not tuple:
            raise Misfit(f"{shown(value)} is no list of flags")
        for place, one in enumerate(value):
            if type(one) is not str or one not in self._names:
                raise Misfit(f"{shown(one)} is none of {', '.join(sorted(self._names))}", f"[{place}]")
        names = list(dict.fromkeys(value))
        inner, place, address = arena.reserve(len(names) * 16) if names else (view, 0, 0)
        for name in names:
            data = name.encode()
            PAIR.pack_into(inner, place, len(data), arena.text(data))
            place += 16
        TAGGED.pack_into(view, at, VALUE_KINDS["flags"], len(names), address)

    def decode(self, raw: bytes, at: int, budget: Budget) -> list[str]:
        count, pointer = PAIR.unpack_from(raw, at + 8)
        inner = string_at(pointer, count * 16) if count else b""
        return [read_text(inner, place, budget) for place in range(0, count * 16, 16)]


def _boxed(plan: ValuePlan, value: Any, arena: Arena) -> int:
    inner, place, address = arena.reserve(VALUE_BYTES)
    plan.encode(value, arena, inner, place)
    return address


def _unboxed(plan: ValuePlan, pointer: int, budget: Budget) -> Any:
    return plan.decode(string_at(pointer, VALUE_BYTES), 0, budget)


class _Option(ValuePlan):
    __slots__ = ("_payload", "_wrapped")

    def __init__(self, payload: ValuePlan) -> None:
        self._payload = payload
        self._wrapped = isinstance(payload, _Option)

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        address = 0
        if value is not None:
            if self._wrapped:
                if type(value) is not dict or value.keys() != {"some"}:
                    raise Misfit(f'{shown(value)} is neither null nor {{"some": value}}')
                value = value["some"]
            address = _boxed(self._payload, value, arena)
        TAGGED.pack_into(view, at, VALUE_KINDS["option"], address, 0)

    def decode(self, raw: bytes, at: int, budget: Budget) -> Any:
        (pointer,) = WORD.unpack_from(raw, at + 8)
        if not pointer:
            return None
        value = _unboxed(self._payload, pointer, budget)
        return {"some": value} if self._wrapped else value


class _Result(ValuePlan):
    __slots__ = ("_cases",)

    def __init__(self, ok: ValuePlan | None, error: ValuePlan | None) -> None:
        self._cases = {"ok": ok, "err": error}

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        if type(value) is not dict or len(value) != 1 or (case := next(iter(value))) not in self._cases:
            raise Misfit(f'{shown(value)} is neither {{"ok": value}} nor {{"err": value}}')
        address = _case(self._cases[case], case, value[case], arena)
        TAGGED.pack_into(view, at, VALUE_KINDS["result"], case == "ok", address)

    def decode(self, raw: bytes, at: int, budget: Budget) -> dict[str, Any]:
        (pointer,) = WORD.unpack_from(raw, at + 16)
        case = "ok" if raw[at + 8] else "err"
        plan = self._cases[case]
        return {case: None if plan is None else _unboxed(plan, pointer, budget)}


class _Variant(ValuePlan):
    __slots__ = ("_cases",)
    _STRUCT: Final = struct.Struct("<B7xQQQ")

    def __init__(self, cases: list[tuple[str, ValuePlan | None]]) -> None:
        self._cases = dict(cases)

    def encode(self, value: Any, arena: Arena, view: memoryview, at: int) -> None:
        if type(value) is str:
            value = {value: None}
        if type(value) is not dict or len(value) != 1 or (case := next(iter(value))) not in self._cases:
            raise Misfit(f"{shown(value)} is no {{case: value}} with one of the cases {', '.join(self._cases)}")
        data, address = case.encode(), _case(self._cases[case], case, value[case], arena)
        self._STRUCT.pack_into(view, at, VALUE_KINDS["variant"], len(data), arena.text(data), address)

    def decode(self, raw: bytes, at: int, budget: Budget) -> dict[str, Any]:
        case = read_text(raw, at + 8, budget)
        (pointer,) = WORD.unpack_from(raw, at + 24)
        plan = self._cases[case]
        return {case: None if plan is None else _unboxed(plan, pointer, budget)}


def _case(plan: ValuePlan | None, case: str, value: Any, arena: Arena) -> int:
    try:
        if plan is not None:
            return _boxed(plan, value, arena)
        if value is not None:
            raise Misfit(f"{shown(value)} stands where there is no value: write null")
    except Misfit as error:
        raise error.within(f".{case}") from None
    return 0


_MAKERS: Final[dict[str, Callable[[], ValuePlan]]] = {"bool": BoolPlan, "char": CharPlan, "string": StringPlan}


def plan_of(kind: WitType) -> ValuePlan:
    """The plan of a type whose values can leave their component (:func:`~fluvial_fce_wasm.wit.types.is_transferable`)."""
    match kind:
        case WitPrimitive(name):
            if name in INTEGERS:
                return IntegerPlan(name)
            return FloatPlan(name) if name in ("f32", "f64") else _MAKERS[name]()
        case WitList(WitPrimitive("u8")):
            return _Bytes()
        case WitList(element):
            return _List(plan_of(element))
        case WitOption(payload):
            return _Option(plan_of(payload))
        case WitResult(ok, error):
            return _Result(None if ok is None else plan_of(ok), None if error is None else plan_of(error))
        case WitTuple(elements):
            return _Tuple([plan_of(one) for one in elements])
        case WitRecord(fields):
            return _Record([(name, plan_of(part)) for name, part in fields])
        case WitVariant(cases):
            return _Variant([(name, None if part is None else plan_of(part)) for name, part in cases])
        case WitEnum(names):
            return _Enum(names)
        case WitFlags(names):
            return _Flags(names)
    raise TypeError(f"values of {kind} cannot leave their component")


class FunctionPlan:
    """How calls of one function are written and read.

    Args:
        function: its type; one that :func:`~fluvial_fce_wasm.wit.types.is_callable`.

    Attributes:
        arity: how many parameters there are.
        result: the plan of the result, if there is one.
    """

    __slots__ = ("_parameters", "arity", "result")

    def __init__(self, function: WitFunction) -> None:
        self.arity = len(function.parameters)
        self._parameters = [(name, plan_of(kind).encode) for name, kind in function.parameters]
        self.result = None if function.result is None else plan_of(function.result)

    def encode(self, arguments: Any, arena: Arena) -> int:
        """Check arguments and lay them out.

        Returns:
            The address of the first of as many values as there are parameters.

        Raises:
            Misfit: they do not fit; the text begins with the path of the wrong part.
        """
        count = self.arity
        if len(arguments) != count:
            names = ", ".join(name for name, _ in self._parameters) or "none"
            raise Misfit(f"there must be {count} ({names}), not {len(arguments)}", "arguments")
        view, place, address = arena.reserve(max(count, 1) * VALUE_BYTES)
        for (name, encode), value in zip(self._parameters, arguments, strict=True):
            try:
                encode(value, arena, view, place)
            except Misfit as error:
                raise error.within(name) from None
            place += VALUE_BYTES
        return address


def readers_of(function: WitFunction) -> list[ValuePlan]:
    """The plans of a function's parameters, in order."""
    return [plan_of(kind) for _, kind in function.parameters]
