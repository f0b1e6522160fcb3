"""Offers the execution ``wasm``."""

from __future__ import annotations

from typing import Any

from fluvial import hookimpl
from fluvial.offers import Registry
from fluvial.ports import Context
from fluvial.seats import Execution
from fluvial.tables import Tables

from fluvial_fce_wasm.seat.options import WasmOptions


def _wasm(context: Context, options: Any) -> Execution:
    """Imports wasmtime only in a peer that needs it."""
    from fluvial_fce_wasm.seat.seat import WasmExecution

    return WasmExecution(context, options)


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the execution."""
    from pathlib import Path

    tables = Tables(name="fce", migrations=Path(__file__).parent / "migrations")
    registry.execution("wasm", _wasm, options=WasmOptions, tables=tables)
