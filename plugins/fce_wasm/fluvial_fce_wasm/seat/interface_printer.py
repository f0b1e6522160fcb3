"""What modules import and export, for people and programs, as the services ``dist`` and ``srv`` show it."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
from fluvial.virtual.threads import in_thread

from fluvial_fce_wasm.shapes import described, named_types
from fluvial_fce_wasm.wit.printing import TypeNames, function_text, interface_text
from fluvial_fce_wasm.wit.types import ModuleShape, WitFunction, WitInterface, WitItem


class InterfacePrinter:
    """Prints interfaces in a thread, one after another: everybody may ask, and threads of Python take their time from the event loop, each as much as it has."""

    def __init__(self) -> None:
        self._one = anyio.CapacityLimiter(1)

    async def printed(self, shape: ModuleShape) -> dict[str, Any]:
        """``imports`` and ``exports`` as WIT texts, the public ``functions``, and the named ``types`` of their interfaces."""
        return await in_thread(partial(_printed, shape), limiter=self._one)


def _printed(shape: ModuleShape) -> dict[str, Any]:
    return {"functions": described(shape), "types": named_types(shape), **interfaces_of(shape)}


def interfaces_of(shape: ModuleShape) -> dict[str, Any]:
    """The imports and exports of a module as WIT texts."""
    return {
        side: {name: _item_text(name, item, shape) for name, item in items.items()}
        for side, items in (("imports", shape.imports), ("exports", shape.exports))
    }


def _item_text(name: str, item: WitItem, shape: ModuleShape) -> str:
    match item:
        case WitInterface():
            return interface_text(name, item)
        case WitFunction():
            return f"{name}: {function_text(item, TypeNames(shape.types))};"
    return item.text
