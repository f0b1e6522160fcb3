"""Compiles a component: from a file into a file."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import msgspec
from wasmtime import WasmtimeError, component, wat2wasm

from fluvial_fce_wasm.failures import FailureKind
from fluvial_fce_wasm.guest.engine import GuestEngine
from fluvial_fce_wasm.guest.introspection import shape_of
from fluvial_fce_wasm.process.confine import die_with_parent
from fluvial_fce_wasm.process.messages import Compiled, CompileOrder, ComposeOrder, OrderDone, OrderFailed
from fluvial_fce_wasm.wit.binary import declared_memories

_COMPONENT_MAGIC: Final = b"\0asm\x0d\0\1\0"
_MODULE_MAGIC: Final = b"\0asm\1\0\0\0"


def compile_component(order: CompileOrder, engine: GuestEngine) -> Compiled | OrderFailed:
    """What became of an order; ``engine`` has its profile."""
    try:
        data = Path(order.source).read_bytes()
        if order.is_text and not data.startswith(b"\0asm"):
            data = bytes(wat2wasm(data))
        if data[:8] != _COMPONENT_MAGIC:
            raise WasmtimeError(_no_component(data))
        compiled = component.Component(engine.native, data)
        shape = msgspec.structs.replace(shape_of(compiled, engine.native), memories=tuple(declared_memories(data)))
        Path(order.target).write_bytes(compiled.serialize())
    except (WasmtimeError, ValueError, MemoryError, RecursionError) as error:
        return OrderFailed(FailureKind.COMPONENT.value, _first_lines(str(error)))
    return Compiled(shape)


def compose_components(order: ComposeOrder) -> OrderDone | OrderFailed:
    """Run the tool in a process that is limited as this one is, and ends with it."""
    words = [order.tool, "compose", "-c", order.config, order.root, "-o", order.target]
    done = subprocess.run(  # noqa: S603 - the tool that the peer's owner has installed
        words,
        capture_output=True,
        check=False,
        preexec_fn=die_with_parent,
    )
    if done.returncode:
        return OrderFailed(FailureKind.COMPONENT.value, _first_lines(done.stderr.decode(errors="replace")[-2_000:]))
    return OrderDone()


def _no_component(data: bytes) -> str:
    if data[:8] == _MODULE_MAGIC:
        return "this is a core module, no component; `wasm-tools component new` makes one of it"
    return "this is no WebAssembly component"


def _first_lines(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines()[:4] if line.strip())[:400] or "it cannot be compiled"
