"""The types of Aqua and how they relate: what is accepted where, unions and intersections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct


class AquaType(Struct, frozen=True):
    """A type; the classes below are all there are."""


class TopType(AquaType, frozen=True):
    """``⊤``: anything will do."""


class BottomType(AquaType, frozen=True):
    """``⊥``: fits everywhere."""


class UnknownType(AquaType, frozen=True):
    """Of something that was in error: matches everything, so that one mistake is reported once."""


class ScalarType(AquaType, frozen=True):
    """``u8`` … ``string``."""

    name: str


class LiteralType(AquaType, frozen=True):
    """The type of a literal: any of several scalars. ``name`` is ``unsigned``, ``signed`` or ``decimal``."""

    name: str
    members: tuple[str, ...]
    value: int | float | None = None


class ArrayType(AquaType, frozen=True):
    """``[]T``."""

    element: AquaType


class OptionType(AquaType, frozen=True):
    """``?T``."""

    element: AquaType


class StreamType(AquaType, frozen=True):
    """``*T``."""

    element: AquaType


class StreamMapType(AquaType, frozen=True):
    """``%T``: a stream map from strings to T."""

    element: AquaType


class DataType(AquaType, frozen=True):
    """A ``data``; its name is for messages, its fields count."""

    name: str
    fields: tuple[tuple[str, AquaType], ...]

    def field(self, name: str) -> AquaType | None:
        """The type of a field."""
        return next((kind for field, kind in self.fields if field == name), None)


class AbilityType(AquaType, frozen=True):
    """An ``ability`` or a ``service``: values and arrows under names."""

    name: str
    fields: tuple[tuple[str, AquaType], ...]
    service: bool = False

    def field(self, name: str) -> AquaType | None:
        """The type of a field or arrow."""
        return next((kind for field, kind in self.fields if field == name), None)


class ArrowType(AquaType, frozen=True):
    """A function: parameters, the first ``abilities`` of which stand in braces, and results."""

    parameters: tuple[tuple[str, AquaType], ...]
    results: tuple[AquaType, ...]
    abilities: int = 0


TOP: Final = TopType()
BOTTOM: Final = BottomType()
UNKNOWN: Final = UnknownType()
STRING: Final = ScalarType("string")
BOOL: Final = ScalarType("bool")
U32: Final = ScalarType("u32")
U64: Final = ScalarType("u64")
I64: Final = ScalarType("i64")

SIGNED: Final = ("i8", "i16", "i32", "i64")
UNSIGNED: Final = ("u8", "u16", "u32", "u64")
FLOATS: Final = ("f32", "f64")
SCALARS: Final = frozenset((*SIGNED, *UNSIGNED, *FLOATS, "bool", "string"))

ERROR_RECORD: Final = DataType(
    "Error", (("message", STRING), ("error_code", I64), ("instruction", STRING), ("peer_id", STRING))
)
"""What ``LAST_ERROR`` and the name behind ``catch`` hold."""


def _wider() -> dict[str, frozenset[str]]:
    """For each number type those that its values fit into, itself included."""
    wider: dict[str, set[str]] = {name: {name} for name in SCALARS}
    for index in range(4):
        wider[SIGNED[index]] |= set(SIGNED[index:])
        wider[UNSIGNED[index]] |= set(UNSIGNED[index:]) | set(SIGNED[index + 1 :])
    for name in ("i8", "i16", "u8", "u16", "f32"):
        wider[name] |= set(FLOATS)
    for name in ("i32", "u32"):
        wider[name].add("f64")
    return {name: frozenset(names) for name, names in wider.items()}


WIDER: Final = _wider()
_BITS: Final = (8, 16, 32, 64)
_RANGES: Final = {
    **{name: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for name, bits in zip(SIGNED, _BITS, strict=True)},
    **{name: (0, 2**bits - 1) for name, bits in zip(UNSIGNED, _BITS, strict=True)},
}


def literal_type(value: bool | int | float | str) -> AquaType:
    """The type of a literal that stands in a program."""
    if isinstance(value, bool):
        return BOOL
    if isinstance(value, str):
        return STRING
    if isinstance(value, float):
        return LiteralType("decimal", FLOATS, value)
    members = (*SIGNED, *FLOATS) if value < 0 else (*UNSIGNED, *SIGNED, *FLOATS)
    return LiteralType("signed" if value < 0 else "unsigned", members, value)


def out_of_range(wanted: AquaType, given: AquaType) -> bool:
    """Whether a literal does not fit the integer type that is wanted of it."""
    if not (isinstance(wanted, ScalarType) and isinstance(given, LiteralType) and wanted.name in _RANGES):
        return False
    low, high = _RANGES[wanted.name]
    return isinstance(given.value, int) and not low <= given.value <= high


def values_of(kind: AquaType) -> tuple[int, int] | None:
    """The least and the greatest value of an integer type; None for other types."""
    return _RANGES.get(kind.name) if isinstance(kind, ScalarType) else None


def element_of(kind: AquaType) -> AquaType | None:
    """What a collection holds; None for anything else."""
    if isinstance(kind, ArrayType | OptionType | StreamType):
        return kind.element
    if isinstance(kind, UnknownType | BottomType):
        return UNKNOWN
    if isinstance(kind, StreamMapType):
        return DataType("Pair", (("key", STRING), ("value", kind.element)))
    return None


def frozen_value(kind: AquaType) -> AquaType:
    """The type of a value that is kept: a stream becomes an array, a literal the scalar that it most likely is."""
    match kind:
        case StreamType(element):
            return ArrayType(element)
        case _:
            return kind


def is_data(kind: AquaType) -> bool:
    """Whether values of a type can travel: no arrow, ability or stream."""
    match kind:
        case ArrowType() | AbilityType() | StreamType() | StreamMapType():
            return False
        case ArrayType(element) | OptionType(element):
            return is_data(element)
        case _:
            return True


def accepts(wanted: AquaType, given: AquaType) -> bool:
    """Whether a value of type ``given`` will do where ``wanted`` is wanted."""
    match wanted, given:
        case (UnknownType() | TopType(), _) | (_, UnknownType() | BottomType()):
            return True
        case ScalarType(one), ScalarType(other):
            return one in WIDER[other]
        case ScalarType(one), LiteralType(_, members):
            return one in members
        case LiteralType(_, members), ScalarType(other):
            return other in members
        case LiteralType(), LiteralType():
            return set(wanted.members) & set(given.members) != set()
        case ArrayType() | OptionType(), ArrayType() | OptionType() | StreamType():
            return accepts(wanted.element, given.element)
        case StreamType(), StreamType():
            return accepts(wanted.element, given.element)
        case StreamMapType(), StreamMapType():
            return accepts(wanted.element, given.element)
        case DataType(), DataType():
            return _accepts_fields(dict(wanted.fields), dict(given.fields))
        case AbilityType(), AbilityType():
            return _accepts_fields(dict(wanted.fields), dict(given.fields))
        case ArrowType(), ArrowType():
            return _accepts_arrow(wanted, given)
        case _:
            return False


def _accepts_fields(wanted: Mapping[str, AquaType], given: Mapping[str, AquaType]) -> bool:
    return all(name in given and accepts(kind, given[name]) for name, kind in wanted.items())


def _accepts_arrow(wanted: ArrowType, given: ArrowType) -> bool:
    """Whoever calls may give more than is taken, and may drop results."""
    if len(wanted.parameters) < len(given.parameters) or len(wanted.results) > len(given.results):
        return False
    inner = zip(given.parameters, wanted.parameters, strict=False)
    return all(accepts(mine[1], theirs[1]) for mine, theirs in inner) and all(
        accepts(mine, theirs) for mine, theirs in zip(wanted.results, given.results, strict=False)
    )


def comparable(one: AquaType, other: AquaType) -> bool:
    """Whether ``==`` makes sense between values of two types."""
    match one, other:
        case (AbilityType() | ArrowType(), _) | (_, AbilityType() | ArrowType()):
            return False
        case (UnknownType() | BottomType() | TopType(), _) | (_, UnknownType() | BottomType() | TopType()):
            return True
        case (ScalarType() | LiteralType(), ScalarType() | LiteralType()):
            return one == other or (is_number(one) and is_number(other))
        case (ArrayType() | OptionType() | StreamType(), ArrayType() | OptionType() | StreamType()):
            return comparable(one.element, other.element)
        case DataType(), DataType():
            mine, theirs = dict(one.fields), dict(other.fields)
            return mine.keys() == theirs.keys() and all(comparable(mine[name], theirs[name]) for name in mine)
        case _:
            return False


def is_number(kind: AquaType) -> bool:
    """Whether a type is of numbers."""
    return isinstance(kind, LiteralType) or (isinstance(kind, ScalarType) and kind.name not in ("bool", "string"))


def is_integer(kind: AquaType) -> bool:
    """Whether a type is of integers."""
    match kind:
        case ScalarType(name):
            return name in SIGNED or name in UNSIGNED
        case LiteralType(name):
            return name != "decimal"
        case _:
            return isinstance(kind, UnknownType | BottomType)


def is_float(kind: AquaType) -> bool:
    """Whether a type is of floats."""
    return (isinstance(kind, ScalarType) and kind.name in FLOATS) or (
        isinstance(kind, LiteralType) and kind.name == "decimal"
    )


def common_element(kinds: Iterable[AquaType]) -> AquaType:
    """The element type of a collection with such elements: ⊥ without any, ⊤ if they have nothing in common."""
    result: AquaType | None = None
    for one in kinds:
        kind = frozen_value(one)
        result = kind if result is None else _meet(result, kind)
    return BOTTOM if result is None else result


def _meet(one: AquaType, other: AquaType) -> AquaType:
    """The narrowest type that has room for both; ⊤ if nothing else has."""
    match one, other:
        case LiteralType(), LiteralType():
            members = tuple(name for name in one.members if name in other.members)
            return LiteralType(one.name if one.name == other.name else "signed", members) if members else TOP
        case DataType(), DataType() if one != other:
            theirs = dict(other.fields)
            shared = tuple((name, _meet(kind, theirs[name])) for name, kind in one.fields if name in theirs)
            return DataType(one.name, shared) if shared else TOP
    if accepts(one, other):
        return one
    if accepts(other, one):
        return other
    if isinstance(one, ArrayType | OptionType) and type(one) is type(other):
        return type(one)(_meet(one.element, other.element))
    return TOP


def number_union(one: AquaType, other: AquaType) -> AquaType | None:
    """The type of a sum: the narrowest number type that both fit into; None if there is none."""
    if isinstance(one, LiteralType) and isinstance(other, LiteralType):
        name = "unsigned" if one.name == other.name == "unsigned" else "signed"
        return LiteralType(name, tuple(each for each in one.members if each in other.members))
    if isinstance(one, UnknownType | BottomType) or isinstance(other, UnknownType | BottomType):
        return UNKNOWN
    if isinstance(one, LiteralType):
        one, other = other, one
    if isinstance(other, LiteralType):
        return one
    if isinstance(one, ScalarType) and isinstance(other, ScalarType):
        order = (*UNSIGNED, *SIGNED, *FLOATS)
        shared = [name for name in order if name in WIDER[one.name] & WIDER[other.name]]
        return ScalarType(shared[0]) if shared else None
    return None


def type_text(kind: AquaType, *, fields: bool = False) -> str:
    """A type as Aqua writes it; with ``fields`` records are spelt out, their fields in alphabetical order."""
    match kind:
        case TopType():
            return "⊤"
        case BottomType():
            return "⊥"
        case UnknownType():
            return "?unknown"
        case ScalarType(name):
            return name
        case LiteralType(name):
            return {"decimal": "a decimal number"}.get(name, "an integer")
        case ArrayType(element):
            return "[]" + type_text(element, fields=fields)
        case OptionType(element):
            return "?" + type_text(element, fields=fields)
        case StreamType(element):
            return ("[]" if fields else "*") + type_text(element, fields=fields)
        case StreamMapType(element):
            return "%" + type_text(element, fields=fields)
        case DataType(name, inner) if fields:
            listed = ", ".join(f"{key}: {type_text(of, fields=True)}" for key, of in sorted(inner))
            return f"{name}{{{listed}}}"
        case ArrowType():
            return arrow_text(kind, fields=fields)
        case DataType() | AbilityType():
            return kind.name
    raise AssertionError(f"no such type: {kind}")


def arrow_text(arrow: ArrowType, *, fields: bool = False, names: bool = False) -> str:
    """``(A, B) -> R``, with ``names`` ``(a: A, b: B) -> R``."""
    parts = []
    for name, kind in arrow.parameters:
        text = type_text(kind, fields=fields)
        parts.append(f"{name}: {text}" if names and name else text)
    results = ", ".join(type_text(one, fields=fields) for one in arrow.results) or "()"
    return f"({', '.join(parts)}) -> {results}"
