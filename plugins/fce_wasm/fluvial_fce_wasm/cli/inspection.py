"""What there is to know of a component in a file."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import anyio
from fluvial.commands import blob_id_of

from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.linking import NEVER, WASI
from fluvial_fce_wasm.seat.builtin import interfaces_of
from fluvial_fce_wasm.seat.hosting import CONTEXT_WIT
from fluvial_fce_wasm.shapes import described, named_types
from fluvial_fce_wasm.wit.parsing import parse_interface

CONTEXT = parse_interface(CONTEXT_WIT)[0]


def inspected(file: Path) -> dict[str, Any]:
    """Id, size, functions, exports and imports of a component; WAT is taken, too. Raises GuestError if it is none."""

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
            {"name": name, "from": _provider(name), "wit": text} for name, text in interfaces["imports"].items()
        ],
    }


def _provider(name: str) -> str:
    if name == CONTEXT:
        return "the peer, always"
    if name.startswith(NEVER[0]):
        return "nobody: no module gets HTTP"
    if name.startswith(WASI):
        return "WASI, if the service says `wasi = true`"
    return "another module of the service, or an effector that is granted"


def inspection_lines(about: dict[str, Any]) -> list[str]:
    """For people."""
    lines = [f"{about['id']}  {about['bytes']:,} bytes, memory {about['memory_bytes']:,} bytes from the start", ""]
    lines += ["functions:", *(f"  {one['text']}" for one in about["functions"] or [{"text": "none"}])]
    lines += ["", "imports:" if about["imports"] else "imports: nothing"]
    for one in about["imports"]:
        lines.append(f"  {one['name']}  (from {one['from']})")
    return lines
