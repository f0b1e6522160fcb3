"""Values of Python to and from JSON, checked against Aqua's types."""

from __future__ import annotations

from typing import Any

import msgspec
from fluvial.errors import FluvialError

from fluvial_aqua.checking.types import (
    AquaType,
    ArrayType,
    DataType,
    OptionType,
    ScalarType,
    StreamType,
    type_text,
    values_of,
)


class AquaValueError(FluvialError):
    """A value given to a flow, or returned by it, is not of the type that the program says."""

    code = "F802"


def to_json(value: Any, kind: AquaType, where: str) -> Any:
    """A value of Python as the JSON that a flow reads.

    An option is the value itself or None; a list of at most one is taken as well. Records are dictionaries, Structs or dataclasses.

    Args:
        value: the value.
        kind: the type that is wanted.
        where: what it is, for errors.

    Raises:
        AquaValueError: it is not of the type.
    """
    if isinstance(kind, OptionType):
        if value is None:
            return []
        if isinstance(value, list | tuple) and len(value) <= 1 and not isinstance(kind.element, ArrayType):
            return [to_json(one, kind.element, where) for one in value]
        return [to_json(value, kind.element, where)]
    if isinstance(kind, DataType):
        return _record(value, kind, where)
    if isinstance(kind, ArrayType | StreamType):
        if isinstance(value, bytes | bytearray):
            value = list(value)
        if not isinstance(value, list | tuple):
            raise _wrong(value, kind, where)
        return [to_json(one, kind.element, f"{where}[{index}]") for index, one in enumerate(value)]
    _check_scalar(value, kind, where)
    return value if isinstance(value, str | int | float) else msgspec.to_builtins(value)


def from_json(value: Any, kind: AquaType, where: str) -> Any:
    """What a flow returned as a value of Python: an option is the value or None.

    Raises:
        AquaValueError: it is not of the type that the program says.
    """
    if isinstance(kind, OptionType):
        if not isinstance(value, list | tuple):
            raise _wrong(value, kind, where)
        return from_json(value[0], kind.element, where) if value else None
    if isinstance(kind, ArrayType | StreamType):
        if not isinstance(value, list | tuple):
            raise _wrong(value, kind, where)
        return [from_json(one, kind.element, f"{where}[{index}]") for index, one in enumerate(value)]
    if isinstance(kind, DataType):
        if not isinstance(value, dict):
            raise _wrong(value, kind, where)
        if missing := [name for name, _ in kind.fields if name not in value]:
            raise AquaValueError(f"{where}: `{kind.name}` lacks {', '.join(missing)}")
        inner = {name: from_json(value[name], one, f"{where}.{name}") for name, one in kind.fields}
        return {**value, **inner}
    _check_scalar(value, kind, where)
    return value


def _record(value: Any, kind: DataType, where: str) -> dict[str, Any]:
    try:
        given = msgspec.to_builtins(value)
    except TypeError as error:
        raise _wrong(value, kind, where) from error
    if not isinstance(given, dict):
        raise _wrong(value, kind, where)
    names = [name for name, _ in kind.fields]
    if unknown := [name for name in given if name not in names]:
        raise AquaValueError(
            f"{where}: `{kind.name}` has no {', '.join(map(str, unknown))}", hint=f"it has {', '.join(names)}"
        )
    missing = [name for name, one in kind.fields if name not in given and not isinstance(one, OptionType)]
    if missing:
        raise AquaValueError(f"{where}: `{kind.name}` lacks {', '.join(missing)}")
    return {name: to_json(given.get(name), one, f"{where}.{name}") for name, one in kind.fields}


def _check_scalar(value: Any, kind: AquaType, where: str) -> None:
    if not isinstance(kind, ScalarType):
        return  # ⊤ and the like: anything will do
    name = kind.name
    if name == "string":
        good = isinstance(value, str)
    elif name == "bool":
        good = isinstance(value, bool)
    elif (limits := values_of(kind)) is None:
        good = isinstance(value, int | float) and not isinstance(value, bool)
    else:
        good = type(value) is int and limits[0] <= value <= limits[1]
    if not good:
        raise _wrong(value, kind, where)


def _wrong(value: Any, kind: AquaType, where: str) -> AquaValueError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "…"
    return AquaValueError(f"{where} is `{type_text(kind)}`, {shown} is not")
