"""Aqua, the language people write flows in: a compiler to AIR, commands, and flows to run from Python.

::

    flows = fluvial_aqua.load("chat.aqua")
    await client.run(flows.send_message, chat_id="c1", message="hi")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluvial_aqua.compiler import Compilation, CompiledFunction, CompilerOptions, compile_text
    from fluvial_aqua.conversion import AquaValueError
    from fluvial_aqua.diagnostics import AquaError, Diagnostic
    from fluvial_aqua.flows import AquaFlow, AquaFlows, load, load_text

__all__ = [
    "AquaError",
    "AquaFlow",
    "AquaFlows",
    "AquaValueError",
    "Compilation",
    "CompiledFunction",
    "CompilerOptions",
    "Diagnostic",
    "compile_text",
    "load",
    "load_text",
]

_WHERE = {
    "AquaError": "diagnostics",
    "AquaFlow": "flows",
    "AquaFlows": "flows",
    "AquaValueError": "conversion",
    "Compilation": "compiler",
    "CompiledFunction": "compiler",
    "CompilerOptions": "compiler",
    "Diagnostic": "diagnostics",
    "compile_text": "compiler",
    "load": "flows",
    "load_text": "flows",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: commands start faster that way."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
