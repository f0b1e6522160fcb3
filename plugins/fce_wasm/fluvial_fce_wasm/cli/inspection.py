"""What there is to know of a component in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import msgspec
from fluvial.commands import blob_id_of

from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.linking import NEVER, WASI
from fluvial_fce_wasm.seat.hosting import CONTEXT_WIT
from fluvial_fce_wasm.seat.interface_printer import interfaces_of
from fluvial_fce_wasm.seat.vault_access import VAULT_WIT
from fluvial_fce_wasm.shapes import described, named_types
from fluvial_fce_wasm.wit.parsing import parse_interface

ALWAYS = frozenset(parse_interface(text)[0] for text in (CONTEXT_WIT, VAULT_WIT))
"""Interfaces that every peer gives."""


def inspected(
    file: Path, *, effectors: Mapping[str, str] | None = None, limits: GuestLimits | None = None
) -> dict[str, Any]:
    """Id, size, functions, exports and imports of a component; WAT is taken, too.

    Args:
        file: of the component.
        effectors: by interface, those of the peer at hand; None if there is no peer to ask.
        limits: of its services, if they are known.

    Raises:
        GuestError: it is none.
    """

    async def compiled() -> Any:
        with tempfile.TemporaryDirectory(prefix="fluvial-inspect-") as folder:
            (one,) = await CodeCache(Path(folder)).compiled([(file.stem, file)], counts_fuel=False, is_text=True)
            return one.shape

    shape = anyio.run(compiled)
    interfaces = interfaces_of(shape)
    return {
        "id": str(blob_id_of(file)),
        "bytes": file.stat().st_size,
        "memory_bytes": sum(shape.memories),
        "functions": described(shape),
        "types": named_types(shape),
        "exports": interfaces["exports"],
        "imports": [
            {"name": name, "from": _provider(name, effectors), "wit": text}
            for name, text in interfaces["imports"].items()
        ],
        "limits": None if limits is None else msgspec.to_builtins(limits),
    }


def _provider(name: str, effectors: Mapping[str, str] | None) -> str:
    if name in ALWAYS:
        return "the peer, always"
    if name.startswith(NEVER[0]):
        return "nobody: no module gets HTTP"
    if name.startswith(WASI):
        return "WASI, if the service says `wasi = true`"
    if effectors is None:
        return "another module of the service, or an effector that is granted"
    if name in effectors:
        return f"another module of the service, or the effector {effectors[name]!r}, which this peer can grant"
    return "another module of the service; no effector of this peer has it"


def inspection_lines(about: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [f"{about['id']}  {about['bytes']:,} bytes, memory {about['memory_bytes']:,} bytes from the start", ""]
    lines += ["functions:", *(f"  {one['text']}" for one in about["functions"] or [{"text": "none"}])]
    lines += ["", "imports:" if about["imports"] else "imports: nothing"]
    for one in about["imports"]:
        lines.append(f"  {one['name']}  (from {one['from']})")
    if about["limits"]:
        stated = ", ".join(f"{name} {value:,}" for name, value in about["limits"].items())
        lines += ["", f"limits of this peer's services: {stated}"]
    return lines
