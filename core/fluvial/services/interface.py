"""What a service offers, as data: for its reference page, for tools, and for the Aqua declaration of it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

import msgspec

from fluvial.services.hints import InterfaceRecord


class Parameter(msgspec.Struct, frozen=True):
    """One parameter of a function; a variadic one is the last and stands for any number of arguments."""

    name: str
    type: str
    optional: bool = False
    variadic: bool = False

    def __str__(self) -> str:
        """As in a declaration: ``city: string``."""
        ending = "=…" if self.optional and not self.variadic else ""
        return f"{'*' if self.variadic else ''}{self.name}: {self.type}{ending}"


class FunctionInterface(msgspec.Struct, frozen=True):
    """One function: its parameters, the type of its result, and its docstring."""

    name: str
    parameters: tuple[Parameter, ...]
    returns: str
    doc: str = ""

    def __str__(self) -> str:
        """As in a declaration: ``temperature(city: string) -> f64``."""
        arrow = "" if self.returns == "null" else f" -> {self.returns}"
        return f"{self.name}({', '.join(map(str, self.parameters))}){arrow}"


class Interface(msgspec.Struct, frozen=True):
    """One service: its functions by name, and the records that their types name."""

    service_id: str
    functions: Mapping[str, FunctionInterface]
    records: tuple[InterfaceRecord, ...] = ()
    doc: str = ""


def docstring(of: object) -> str:
    """An object's own docstring without indentation; empty if it has none."""
    return inspect.cleandoc(getattr(of, "__doc__", None) or "")
