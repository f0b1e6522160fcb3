"""Type hints as short texts, in the notation of Aqua where it has one: ``string``, ``[]u8``, ``?f64``; records by name."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache, wraps
from typing import Any, Final, TypeVar

import msgspec
from msgspec import inspect

from fluvial.errors import PluginError
from fluvial.identity import PeerId

T = TypeVar("T")

ANY: Final = "⊤"
"""Any value at all."""

_INTEGERS: Final[dict[tuple[int | None, int | None], str]] = {
    (0, None): "u64",
    (0, 255): "u8",
    (0, 2**16 - 1): "u16",
    (0, 2**32 - 1): "u32",
} | {(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1): f"i{bits}" for bits in (8, 16, 32, 64)}
_SIMPLE: Final[dict[type[inspect.Type], str]] = {
    inspect.AnyType: ANY,
    inspect.NoneType: "null",
    inspect.BoolType: "bool",
    inspect.FloatType: "f64",
    inspect.StrType: "string",
    # what msgspec reads from text and writes as text
    inspect.BytesType: "string",
    inspect.ByteArrayType: "string",
    inspect.DateTimeType: "string",
    inspect.DateType: "string",
    inspect.TimeType: "string",
    inspect.TimeDeltaType: "string",
    inspect.UUIDType: "string",
    inspect.DecimalType: "string",
}


def cached_by_hints(function: Callable[..., T]) -> Callable[..., T]:
    """Keep what a function returns for type hints: most functions of services have the same few.

    Unions with other orders of the same types are equal, but not shown alike, so the texts count as well. Hints that cannot be hashed, since
    the metadata of ``Annotated`` may be anything, are not kept.
    """

    @lru_cache(maxsize=256)
    def kept(arguments: tuple[Hashable, ...], texts: str) -> T:
        return function(*arguments)

    @wraps(function)
    def found(*arguments: Any) -> T:
        try:
            hash(arguments)
        except TypeError:
            return function(*arguments)
        return kept(arguments, repr(arguments))

    return found


class InterfaceRecord(msgspec.Struct, frozen=True):
    """An object with named fields, as it appears in an interface."""

    name: str
    fields: tuple[tuple[str, str], ...]


_type_info: Final = cached_by_hints(inspect.type_info)


class Texts:
    """Turns hints into texts and collects the records that they name."""

    def __init__(self) -> None:
        self._records: dict[type[Any], InterfaceRecord] = {}

    @property
    def records(self) -> tuple[InterfaceRecord, ...]:
        """All records met so far."""
        return tuple(self._records.values())

    def text(self, hint: Any) -> str:
        """The text of a hint.

        Raises:
            PluginError: no JSON value can have such a type.
        """
        try:
            return self._of(_type_info(hint))
        except TypeError as error:
            raise PluginError(f"cannot read or write a value of type {hint!r}: {error}") from error

    def _of(self, kind: inspect.Type) -> str:
        if (simple := _SIMPLE.get(type(kind))) is not None:
            return simple
        match kind:
            case inspect.IntType(ge=least, le=most):
                return _INTEGERS.get((least, most), "i64")
            case inspect.ListType() | inspect.VarTupleType() | inspect.SetType() | inspect.FrozenSetType():
                return f"[]{self._of(kind.item_type)}"
            case inspect.TupleType(item_types=items):
                return f"[{', '.join(self._of(item) for item in items)}]"
            case inspect.DictType(key_type=inspect.StrType(), value_type=values):
                return f"{{{self._of(values)}}}"
            case inspect.UnionType(types=members):
                texts = [self._of(member) for member in members if not isinstance(member, inspect.NoneType)]
                union = " | ".join(dict.fromkeys(texts))
                if len(texts) == len(members):
                    return union
                return f"?({union})" if len(texts) > 1 else f"?{union}"
            case inspect.LiteralType(values=values) | inspect.EnumType(cls=values):
                return " | ".join(_literal(getattr(value, "value", value)) for value in values)
            case inspect.Metadata(type=inner):
                return self._of(inner)
            case inspect.StructType() | inspect.DataclassType() | inspect.TypedDictType() | inspect.NamedTupleType():
                return self._record(kind)
            case inspect.CustomType(cls=cls) if cls is PeerId:
                return "string"
        raise PluginError(f"cannot read or write a value of type {getattr(kind, 'cls', kind)!r}")

    def _record(
        self, kind: inspect.StructType | inspect.DataclassType | inspect.TypedDictType | inspect.NamedTupleType
    ) -> str:
        if kind.cls not in self._records:
            self._records[kind.cls] = InterfaceRecord(kind.cls.__name__, ())  # a record may contain itself
            fields = tuple((field.encode_name, self._of(field.type)) for field in kind.fields)
            self._records[kind.cls] = InterfaceRecord(kind.cls.__name__, fields)
        return kind.cls.__name__


def _literal(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()
