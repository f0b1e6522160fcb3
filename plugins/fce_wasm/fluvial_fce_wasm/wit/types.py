"""The types of WIT as immutable values that compare by structure, and what a component imports and exports.

Names of types are not part of a type (two records with equal fields are one type); an interface keeps them beside its functions, for people.

Source: the Component Model's binary format and WIT, as of WASI 0.2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import msgspec

PrimitiveName: TypeAlias = Literal[
    "bool", "s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64", "f32", "f64", "char", "string"
]

INTEGERS: Final[dict[str, tuple[int, int]]] = {
    f"{sign}{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if sign == "s" else (0, 2**bits - 1)
    for sign in "su"
    for bits in (8, 16, 32, 64)
}
"""The least and the greatest value of each integer type."""


class WitPrimitive(msgspec.Struct, frozen=True, tag="primitive"):
    """A number, a bool, a char or a string."""

    name: PrimitiveName


class WitList(msgspec.Struct, frozen=True, tag="list"):
    """Any number of values of one type."""

    element: WitType


class WitOption(msgspec.Struct, frozen=True, tag="option"):
    """A value or none."""

    payload: WitType


class WitResult(msgspec.Struct, frozen=True, tag="result"):
    """A success or an error, each with or without a value."""

    ok: WitType | None = None
    error: WitType | None = None


class WitTuple(msgspec.Struct, frozen=True, tag="tuple"):
    """Values by place."""

    elements: tuple[WitType, ...]


class WitRecord(msgspec.Struct, frozen=True, tag="record"):
    """Values by name."""

    fields: tuple[tuple[str, WitType], ...]


class WitVariant(msgspec.Struct, frozen=True, tag="variant"):
    """One of several cases, each with or without a value."""

    cases: tuple[tuple[str, WitType | None], ...]


class WitEnum(msgspec.Struct, frozen=True, tag="enum"):
    """One of several names."""

    names: tuple[str, ...]


class WitFlags(msgspec.Struct, frozen=True, tag="flags"):
    """Any of several names."""

    names: tuple[str, ...]


class WitOpaque(msgspec.Struct, frozen=True, tag="opaque"):
    """What cannot leave its component here: handles of resources, futures, streams and the like. It equals nothing, itself included, in linking."""

    text: str


WitType: TypeAlias = (
    WitPrimitive | WitList | WitOption | WitResult | WitTuple | WitRecord | WitVariant | WitEnum | WitFlags | WitOpaque
)


class WitFunction(msgspec.Struct, frozen=True, tag="function"):
    """The type of a function: parameters in order, with their names, and a result or none."""

    parameters: tuple[tuple[str, WitType], ...] = ()
    result: WitType | None = None


class WitInterface(msgspec.Struct, frozen=True, tag="interface"):
    """Functions by name, the types that the interface gives names to, and the names of its resources."""

    functions: dict[str, WitFunction] = {}
    types: dict[str, WitType] = {}
    resources: tuple[str, ...] = ()


WitItem: TypeAlias = WitFunction | WitInterface | WitOpaque
"""What a component may import or export here: a function, an interface, or something else that only has a name for us."""


class ModuleShape(msgspec.Struct, frozen=True):
    """What a component imports and exports, by name: interfaces as ``ns:package/interface@version``, and functions at its root.

    Attributes:
        imports: what others must give it.
        exports: what it gives.
        types: names of types at its root, for people.
        memories: what each linear memory that the component declares has at least, in bytes.
    """

    imports: dict[str, WitInterface | WitFunction | WitOpaque] = {}
    exports: dict[str, WitInterface | WitFunction | WitOpaque] = {}
    types: dict[str, WitType] = {}
    memories: tuple[int, ...] = ()


def is_transferable(kind: WitType | None) -> bool:
    """Whether values of a type can leave their component: no part of it is opaque."""
    if kind is None:
        return True
    if isinstance(kind, WitOpaque):
        return False
    return all(is_transferable(part) for part in parts_of(kind))


def is_callable(function: WitFunction) -> bool:
    """Whether values of all its parameters and of its result can leave their component."""
    return all(is_transferable(kind) for kind in (*(kind for _, kind in function.parameters), function.result))


def parts_of(kind: WitType) -> Iterator[WitType]:
    """The types from which a type is made."""
    match kind:
        case WitList(element):
            yield element
        case WitOption(payload):
            yield payload
        case WitResult(ok, error):
            yield from (part for part in (ok, error) if part is not None)
        case WitTuple(elements):
            yield from elements
        case WitRecord(fields):
            yield from (part for _, part in fields)
        case WitVariant(cases):
            yield from (part for _, part in cases if part is not None)
