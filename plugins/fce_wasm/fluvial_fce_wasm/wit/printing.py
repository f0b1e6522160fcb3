"""Types, functions and interfaces as WIT text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from fluvial_fce_wasm.wit.types import (
    WitEnum,
    WitFlags,
    WitFunction,
    WitInterface,
    WitList,
    WitOpaque,
    WitOption,
    WitPrimitive,
    WitRecord,
    WitResult,
    WitTuple,
    WitType,
    WitVariant,
)

KEYWORDS: Final = frozenset(
    [
        "as",
        "async",
        "bool",
        "borrow",
        "char",
        "constructor",
        "enum",
        "export",
        "f32",
        "f64",
        "flags",
        "from",
        "func",
        "future",
        "import",
        "include",
        "interface",
        "list",
        "option",
        "own",
        "package",
        "record",
        "resource",
        "result",
        "s16",
        "s32",
        "s64",
        "s8",
        "static",
        "stream",
        "string",
        "tuple",
        "type",
        "u16",
        "u32",
        "u64",
        "u8",
        "use",
        "variant",
        "with",
        "world",
    ]
)
"""Words that stand with a ``%`` before them where they are names."""
_ID: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*")


class TypeNames:
    """The names of types, of several for one type the first.

    Args:
        types: by name.
    """

    def __init__(self, types: Mapping[str, WitType]) -> None:
        self._names: dict[WitType, str] = {}
        for name, kind in types.items():
            if not isinstance(kind, WitPrimitive):
                self._names.setdefault(kind, name)

    def of(self, kind: WitType) -> str | None:
        """The name of a type; None if it has none."""
        return self._names.get(kind)


_NONE: Final = TypeNames({})


def type_text(kind: WitType, names: TypeNames = _NONE) -> str:
    """A type as text.

    Args:
        kind: the type.
        names: of types, for which they then stand. One without a name that has no text in WIT, such as a record, is
            written as it would be declared, in one line.
    """
    name = names.of(kind)
    return _structure(kind, names) if name is None else _id(name)


def _structure(kind: WitType, names: TypeNames) -> str:
    match kind:
        case WitPrimitive(name):
            return name
        case WitList(element):
            return f"list<{type_text(element, names)}>"
        case WitOption(payload):
            return f"option<{type_text(payload, names)}>"
        case WitResult(None, None):
            return "result"
        case WitResult(ok, None) if ok is not None:
            return f"result<{type_text(ok, names)}>"
        case WitResult(ok, error) if error is not None:
            return f"result<{'_' if ok is None else type_text(ok, names)}, {type_text(error, names)}>"
        case WitTuple(elements):
            return f"tuple<{', '.join(type_text(one, names) for one in elements)}>"
        case WitOpaque(text):
            return text
        case _:
            return f"{_keyword(kind)} {{ {', '.join(_members(kind, names))} }}"


def _keyword(kind: WitType) -> str:
    return {WitRecord: "record", WitVariant: "variant", WitEnum: "enum", WitFlags: "flags"}[type(kind)]


def _members(kind: WitType, names: TypeNames) -> Iterable[str]:
    match kind:
        case WitRecord(fields):
            return [f"{_id(name)}: {type_text(part, names)}" for name, part in fields]
        case WitVariant(cases):
            return [_id(name) if part is None else f"{_id(name)}({type_text(part, names)})" for name, part in cases]
        case WitEnum(members) | WitFlags(members):
            return [_id(name) for name in members]
    raise AssertionError(f"{kind} has no members")


def function_text(function: WitFunction, names: TypeNames = _NONE) -> str:
    """A function's type as text: ``func(a: s32) -> string``."""
    parameters = ", ".join(f"{_id(name)}: {type_text(kind, names)}" for name, kind in function.parameters)
    return f"func({parameters})" + (f" -> {type_text(function.result, names)}" if function.result is not None else "")


def declaration_lines(name: str, kind: WitType, names: TypeNames) -> list[str]:
    """The lines that declare a named type."""
    if isinstance(kind, WitRecord | WitVariant | WitEnum | WitFlags):
        return [f"{_keyword(kind)} {_id(name)} {{", *(f"  {one}," for one in _members(kind, names)), "}"]
    return [f"type {_id(name)} = {_structure(kind, names)};"]


def interface_text(name: str, interface: WitInterface) -> str:
    """An interface as a WIT declaration; ``name`` is its short name, or its full one for people."""
    lines, names = [f"interface {name} {{"], TypeNames(interface.types)
    for each in interface.resources:
        lines.append(f"  resource {_id(each)};")
    for each, kind in interface.types.items():
        lines += [f"  {line}" for line in declaration_lines(each, kind, names)]
    for each, function in interface.functions.items():
        lines.append(f"  {each if each.startswith('[') else _id(each)}: {function_text(function, names)};")
    return "\n".join([*lines, "}"])


def _id(name: str) -> str:
    return f"%{name}" if name in KEYWORDS or not _ID.fullmatch(name) else name
