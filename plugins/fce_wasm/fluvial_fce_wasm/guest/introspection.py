"""Reads what a compiled component imports and exports into plain values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from wasmtime import Engine
from wasmtime import component as native

from fluvial_fce_wasm.wit.types import (
    ModuleShape,
    WitEnum,
    WitFlags,
    WitFunction,
    WitInterface,
    WitItem,
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

SHAPE_PARTS_MAX: Final = 10_000
"""Of what a component imports and exports: functions, types, types within types, names of enums. A Python component with files and sockets has about 3,500."""
_PY_INTERFACE: Final = "exports"
_QJS_INIT: Final = ("init", ("shim", "script", "entry-path", "disable-gc"))
_PRIMITIVES: Final[dict[type[Any], WitPrimitive]] = {
    native.Bool: WitPrimitive("bool"),
    native.S8: WitPrimitive("s8"),
    native.U8: WitPrimitive("u8"),
    native.S16: WitPrimitive("s16"),
    native.U16: WitPrimitive("u16"),
    native.S32: WitPrimitive("s32"),
    native.U32: WitPrimitive("u32"),
    native.S64: WitPrimitive("s64"),
    native.U64: WitPrimitive("u64"),
    native.F32: WitPrimitive("f32"),
    native.F64: WitPrimitive("f64"),
    native.Char: WitPrimitive("char"),
    native.String: WitPrimitive("string"),
}


def shape_of(component: native.Component, engine: Engine) -> ModuleShape:
    """What a component imports and exports. Raises ValueError: its interfaces are too large."""
    reader = _ShapeReader(engine)
    imports = reader.items(component.type.imports(engine))
    exports = reader.items(component.type.exports(engine))
    return ModuleShape(
        imports=imports[0],
        exports={name: item for name, item in exports[0].items() if not _is_of_a_toolchain(name, item)},
        types={**imports[1], **exports[1]},
    )


def _is_of_a_toolchain(name: str, item: WitItem) -> bool:
    """Whether a toolchain exports something for itself.

    That is componentize-py's interface ``exports``, and the function ``init`` of componentize-qjs, by which whoever calls it could give the component another
    program.
    """
    if isinstance(item, WitFunction):
        return (name, tuple(one for one, _ in item.parameters)) == _QJS_INIT
    return name == _PY_INTERFACE


class _ShapeReader:
    """Reads types where they are used, and counts: a component of a few hundred bytes can use types within types half a million times."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._left = SHAPE_PARTS_MAX

    def _count(self, parts: int = 1) -> None:
        self._left -= parts
        if self._left < 0:
            raise ValueError(
                f"what it imports and exports has more than {SHAPE_PARTS_MAX:,} parts, types within types included"
            )

    def items(self, externs: Mapping[str, Any]) -> tuple[dict[str, WitItem], dict[str, WitType]]:
        """Functions, interfaces and the like, and types, by name."""
        items: dict[str, WitItem] = {}
        types: dict[str, WitType] = {}
        for name, extern in externs.items():
            self._count()
            match extern.ty:
                case native.FuncType():
                    items[name] = self._function(extern.ty)
                case native.ComponentInstanceType():
                    items[name] = self._interface(extern.ty.exports(self._engine))
                case native.ResourceType():
                    items[name] = WitOpaque("resource")
                case native.ComponentType():
                    items[name] = WitOpaque("component")
                case native.ModuleType():
                    items[name] = WitOpaque("core module")
                case _ if isinstance(extern.ty, native.ValType):
                    types[name] = self._type(extern.ty)
                case other:
                    items[name] = WitOpaque(type(other).__name__)
        return items, types

    def _interface(self, exports: Mapping[str, Any]) -> WitInterface:
        functions: dict[str, WitFunction] = {}
        types: dict[str, WitType] = {}
        resources: list[str] = []
        for name, extern in exports.items():
            self._count()
            match extern.ty:
                case native.FuncType():
                    functions[name] = self._function(extern.ty)
                case native.ResourceType():
                    resources.append(name)
                case _ if isinstance(extern.ty, native.ValType):
                    types[name] = self._type(extern.ty)
                case _:
                    resources.append(name)  # instances within instances: nothing that could be linked
        return WitInterface(functions, types, tuple(resources))

    def _function(self, function: native.FuncType) -> WitFunction:
        return WitFunction(
            tuple((name, self._type(kind)) for name, kind in function.params), self._optional(function.result)
        )

    def _type(self, kind: Any) -> WitType:
        self._count()
        if (primitive := _PRIMITIVES.get(type(kind))) is not None:
            return primitive
        match kind:
            case native.ListType():
                return WitList(self._type(kind.element))
            case native.OptionType():
                return WitOption(self._type(kind.payload))
            case native.ResultType():
                return WitResult(self._optional(kind.ok), self._optional(kind.err))
            case native.TupleType():
                return WitTuple(tuple(map(self._type, kind.elements)))
            case native.RecordType():
                return WitRecord(tuple((name, self._type(part)) for name, part in kind.fields))
            case native.VariantType():
                return WitVariant(tuple((name, self._optional(part)) for name, part in kind.cases))
            case native.EnumType():
                return WitEnum(self._names(kind.names))
            case native.FlagsType():
                return WitFlags(self._names(kind.names))
            case native.OwnType():
                return WitOpaque("own<resource>")
            case native.BorrowType():
                return WitOpaque("borrow<resource>")
        return WitOpaque(type(kind).__name__.removesuffix("Type").lower())

    def _optional(self, kind: Any) -> WitType | None:
        if kind is None:
            self._count()
            return None
        return self._type(kind)

    def _names(self, names: Iterable[str]) -> tuple[str, ...]:
        taken = tuple(names)
        self._count(len(taken))
        return taken
