"""What a service runs, as a value: known before anything of wasmtime is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec

from fluvial_fce_wasm.compiling import CompiledModule
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.linking import LinkPlan

Isolation: TypeAlias = Literal["thread", "process"]


class ServicePlan(msgspec.Struct, frozen=True, kw_only=True):
    """All that is needed to run a service.

    Attributes:
        modules: name, compiled code, and share of the memory in bytes of each (``shares.py``).
        link: how they are linked.
        limits: of the service.
        isolation: where it runs.
        state: its state directory; None if it has none.
        stateless: whether its guests keep nothing from call to call, so that a call may be made again by new ones.
    """

    modules: Sequence[tuple[str, CompiledModule, int]]
    link: LinkPlan
    limits: GuestLimits
    isolation: Isolation
    state: Path | None = None
    stateless: bool = False
