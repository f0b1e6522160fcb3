"""Aqua declarations of a service from the description of its interface. Pure.

The description is JSON, as ``fluvial service show NAME --json`` and ``fluvial module inspect FILE --json`` print it: ``functions`` with a ``name`` and a
``signature``, and ``types`` by interface. It may come from a stranger, so no text of it gets into a program that is not the name of something.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from fluvial.errors import ConfigError

DEPTH_MAX: Final = 64
"""Of types in types."""
ANYTHING: Final = "⊤"
"""For types that Aqua has no word for: options, which are null or the value, results, variants, tuples."""
_NUMBERS: Final = {"s8": "i8", "s16": "i16", "s32": "i32", "s64": "i64", "char": "string"}
_SAME: Final = frozenset(["bool", "u8", "u16", "u32", "u64", "f32", "f64", "string"])
_NAME: Final = re.compile(r"[a-z][A-Za-z0-9_]*")


class DescribedArrow(msgspec.Struct, frozen=True):
    """The type of a function: parameters with their names, in order, and a result or none."""

    parameters: tuple[tuple[str, dict[str, Any]], ...] = ()
    result: dict[str, Any] | None = None


class DescribedFunction(msgspec.Struct, frozen=True):
    """A function under the name by which it is called, and the interface whose types it uses."""

    name: str
    signature: DescribedArrow
    interface: str = ""


class ServiceDescription(msgspec.Struct, frozen=True):
    """What is read of a description; it may have more."""

    functions: tuple[DescribedFunction, ...]
    types: dict[str, dict[str, dict[str, Any]]] = {}


def declarations(description: bytes, *, service: str, service_id: str = "") -> str:
    """An Aqua file that declares a service and the records that it uses.

    Args:
        description: JSON.
        service: the service's name in Aqua, such as ``Counter``.
        service_id: by which it is called; without it programs have to say it.

    Raises:
        ConfigError: the description is none, or the name or the id cannot stand in a program.
    """
    if not re.fullmatch(r"[A-Z][A-Za-z0-9_]*", service):
        raise ConfigError(
            f"{service!r} is no name of a service in Aqua", hint="it begins with a capital letter: --name Counter"
        )
    if not re.fullmatch(r'[^"\\\x00-\x1f]*', service_id):
        raise ConfigError(f"{service_id!r} cannot be the id of a service in Aqua")
    try:
        described = msgspec.json.decode(description, type=ServiceDescription)
        return _Writer(described, service).text(service_id)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ConfigError(
            f"this describes no service: {error}", hint="`fluvial service show NAME --json` prints what does"
        ) from error


class _Writer:
    """Gathers the records that functions use, innermost first."""

    def __init__(self, described: ServiceDescription, service: str) -> None:
        self._described = described
        self._service = service
        self._records: dict[str, tuple[tuple[str, str], ...]] = {}

    def text(self, service_id: str) -> str:
        lines, left_out = [], 0
        for one in self._described.functions:
            name = one.name.replace("-", "_")
            if _NAME.fullmatch(name):
                lines.append(f"  {name}{self._arrow(one)}")
            else:
                left_out += 1
        if not lines:
            raise msgspec.ValidationError("no function has a name that can be written in Aqua")
        head = f'service {self._service}("{service_id}"):' if service_id else f"service {self._service}:"
        blocks = [
            [f"data {name}:", *(f"  {part}: {kind}" for part, kind in fields)] for name, fields in self._records.items()
        ]
        if left_out:
            lines.append(f"-- left out: {left_out} that can be called by their full names only")
        return (
            "\n\n".join(
                "\n".join(block)
                for block in [[f"aqua {self._service}Declarations declares *"], *blocks, [head, *lines]]
            )
            + "\n"
        )

    def _arrow(self, function: DescribedFunction) -> str:
        names = self._described.types.get(function.interface, {})
        parameters = []
        for place, (name, kind) in enumerate(function.signature.parameters):
            usable = name.replace("-", "_")
            parameters.append(f"{usable if _NAME.fullmatch(usable) else f'x{place}'}: {self._type(kind, names)}")
        result = function.signature.result
        return f"({', '.join(parameters)})" + ("" if result is None else f" -> {self._type(result, names)}")

    def _type(self, kind: Any, names: Mapping[str, Any], depth: int = 0) -> str:
        if depth > DEPTH_MAX:
            raise msgspec.ValidationError(f"a type that is more than {DEPTH_MAX} deep")
        match kind:
            case {"type": "primitive", "name": str(name)} if name in _SAME or name in _NUMBERS:
                return _NUMBERS.get(name, name)
            case {"type": "list", "element": element}:
                return f"[]{self._type(element, names, depth + 1)}"
            case {"type": "enum"}:
                return "string"
            case {"type": "flags"}:
                return "[]string"
            case {"type": "record", "fields": [*fields]}:
                return self._record(kind, fields, names, depth)
            case {"type": "option" | "result" | "variant" | "tuple"}:
                return ANYTHING
        raise msgspec.ValidationError(f"a type that is not known: {str(kind)[:80]}")

    def _record(self, kind: Any, fields: list[Any], names: Mapping[str, Any], depth: int) -> str:
        """The name of a record; one with fields that Aqua cannot name can be anything."""
        parts = []
        for field in fields:
            match field:
                case [str(name), part] if _NAME.fullmatch(name):
                    parts.append((name, self._type(part, names, depth + 1)))
                case _:
                    return ANYTHING
        if not parts:
            return ANYTHING
        named = next((name for name, other in names.items() if other == kind), "")
        wanted = re.sub(r"[^A-Za-z0-9]", "", named.title()) or "Record"
        base = wanted if wanted[0].isalpha() else f"Record{wanted}"
        number = 1
        while True:
            name = base if number == 1 else f"{base}{number}"
            if name != self._service and self._records.setdefault(name, tuple(parts)) == tuple(parts):
                return name
            number += 1
