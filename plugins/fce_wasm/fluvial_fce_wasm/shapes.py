"""The public functions of a service: those of its facade, under the names by which scripts call them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from fluvial_fce_wasm.wit.printing import TypeNames, function_text, type_text
from fluvial_fce_wasm.wit.types import (
    ModuleShape,
    WitFunction,
    WitInterface,
    WitOption,
    WitType,
    is_callable,
    is_transferable,
)


class PublicFunction(msgspec.Struct, frozen=True):
    """A function that scripts can call: where it is, and its type."""

    interface: str
    name: str
    type: WitFunction

    @property
    def full_name(self) -> str:
        """``ns:package/interface@version#name``; the bare name for a function at the root."""
        return f"{self.interface}#{self.name}" if self.interface else self.name


def completed(function: WitFunction, arguments: Sequence[Any]) -> Sequence[Any]:
    """The arguments of a script for a function: options at the end that it has left out are none."""
    missing = function.parameters[len(arguments) :]
    if missing and all(isinstance(kind, WitOption) for _, kind in missing):
        return [*arguments, *[None] * len(missing)]
    return arguments


def public_functions(facade: ModuleShape) -> dict[str, PublicFunction]:
    """The functions of a facade by every name that scripts may use.

    Each has its full name; its bare name too if no other function has the same, also with ``_`` for ``-``, for languages whose names have no dash.
    Functions whose values cannot leave their component, such as methods
    of resources, are left out.
    """
    found: list[PublicFunction] = []
    for name, item in facade.exports.items():
        if isinstance(item, WitInterface):
            found += [PublicFunction(name, each, type_) for each, type_ in item.functions.items() if is_callable(type_)]
        elif isinstance(item, WitFunction) and is_callable(item):
            found.append(PublicFunction("", name, item))
    bare = Counter(one.name for one in found)
    named = {one.full_name: one for one in found}
    unique = [one for one in found if bare[one.name] == 1]
    return {**named, **{one.name.replace("-", "_"): one for one in unique}, **{one.name: one for one in unique}}


def function_of(shape: ModuleShape, interface: str, name: str) -> WitFunction:
    """The type of an exported function; KeyError if it is not there."""
    item = shape.exports[interface or name]
    if isinstance(item, WitInterface):
        return item.functions[name]
    if not isinstance(item, WitFunction):
        raise KeyError(name)
    return item


def listed_names(facade: ModuleShape) -> list[str]:
    """One name of each public function: the bare one where it is unique."""
    by_function: dict[str, str] = {}
    functions = public_functions(facade)
    for name, one in functions.items():
        kept = by_function.get(one.full_name)
        if kept is None or len(name) < len(kept) or name == functions[name].name:
            by_function[one.full_name] = name
    return list(by_function.values())


def described(facade: ModuleShape) -> list[dict[str, object]]:
    """The public functions as JSON, with WIT texts for types, and with the types themselves as ``signature``."""
    functions = public_functions(facade)
    lines: list[dict[str, object]] = []
    interfaces = dict.fromkeys(one.interface for one in functions.values())
    names_in = {interface: TypeNames(_named_types(facade, interface)) for interface in interfaces}
    for name in listed_names(facade):
        one = functions[name]
        names = names_in[one.interface]
        lines.append(
            {
                "name": name,
                "interface": one.interface,
                "parameters": [
                    {"name": parameter, "type": type_text(kind, names)} for parameter, kind in one.type.parameters
                ],
                "result": None if one.type.result is None else type_text(one.type.result, names),
                "text": f"{one.name}: {function_text(one.type, names)}",
                "signature": msgspec.to_builtins(one.type),
            }
        )
    return lines


def named_types(facade: ModuleShape) -> dict[str, dict[str, object]]:
    """The types to which the interfaces of the public functions give names, as JSON by interface; those at the root under the empty text."""
    interfaces = dict.fromkeys(one.interface for one in public_functions(facade).values())
    return {
        interface: {
            name: msgspec.to_builtins(kind)
            for name, kind in _named_types(facade, interface).items()
            if is_transferable(kind)
        }
        for interface in interfaces
    }


def _named_types(shape: ModuleShape, interface: str) -> Mapping[str, WitType]:
    item = shape.exports.get(interface)
    return item.types if isinstance(item, WitInterface) else shape.types
