"""Reads what a compiled component imports and exports into plain values."""

from __future__ import annotations

from collections.abc import Mapping
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
    """What a component imports and exports."""
    imports = _items(component.type.imports(engine), engine)
    exports = _items(component.type.exports(engine), engine)
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


def _items(externs: Mapping[str, Any], engine: Engine) -> tuple[dict[str, WitItem], dict[str, WitType]]:
    items: dict[str, WitItem] = {}
    types: dict[str, WitType] = {}
    for name, extern in externs.items():
        match extern.ty:
            case native.FuncType():
                items[name] = _function(extern.ty)
            case native.ComponentInstanceType():
                items[name] = _interface(extern.ty.exports(engine))
            case native.ResourceType():
                items[name] = WitOpaque("resource")
            case native.ComponentType():
                items[name] = WitOpaque("component")
            case native.ModuleType():
                items[name] = WitOpaque("core module")
            case _ if isinstance(extern.ty, native.ValType):
                types[name] = _type(extern.ty)
            case other:
                items[name] = WitOpaque(type(other).__name__)
    return items, types


def _interface(exports: Mapping[str, Any]) -> WitInterface:
    functions: dict[str, WitFunction] = {}
    types: dict[str, WitType] = {}
    resources: list[str] = []
    for name, extern in exports.items():
        match extern.ty:
            case native.FuncType():
                functions[name] = _function(extern.ty)
            case native.ResourceType():
                resources.append(name)
            case _ if isinstance(extern.ty, native.ValType):
                types[name] = _type(extern.ty)
            case _:
                resources.append(name)  # instances within instances: nothing that could be linked
    return WitInterface(functions, types, tuple(resources))


def _function(function: native.FuncType) -> WitFunction:
    result = function.result
    return WitFunction(
        tuple((name, _type(kind)) for name, kind in function.params), None if result is None else _type(result)
    )


def _type(kind: Any) -> WitType:
    if (primitive := _PRIMITIVES.get(type(kind))) is not None:
        return primitive
    match kind:
        case native.ListType():
            return WitList(_type(kind.element))
        case native.OptionType():
            return WitOption(_type(kind.payload))
        case native.ResultType():
            return WitResult(_optional(kind.ok), _optional(kind.err))
        case native.TupleType():
            return WitTuple(tuple(map(_type, kind.elements)))
        case native.RecordType():
            return WitRecord(tuple((name, _type(part)) for name, part in kind.fields))
        case native.VariantType():
            return WitVariant(tuple((name, _optional(part)) for name, part in kind.cases))
        case native.EnumType():
            return WitEnum(tuple(kind.names))
        case native.FlagsType():
            return WitFlags(tuple(kind.names))
        case native.OwnType():
            return WitOpaque("own<resource>")
        case native.BorrowType():
            return WitOpaque("borrow<resource>")
    return WitOpaque(type(kind).__name__.removesuffix("Type").lower())


def _optional(kind: Any) -> WitType | None:
    return None if kind is None else _type(kind)
