"""From module files to what a service runs: compiled, linked, composed if that is wanted, and with the memory divided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec
from fluvial.identity import PeerId

from fluvial_fce_wasm.compiling import NOBODY, CodeCache, CompiledModule
from fluvial_fce_wasm.composing import Composer
from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.linking import LinkPlan, link
from fluvial_fce_wasm.shares import shares
from fluvial_fce_wasm.wit.types import WitInterface

COMPOSED: Final = "composed"
"""The name of the one module of a composed service."""


class ServiceParts(msgspec.Struct, frozen=True, kw_only=True):
    """What a service is made of.

    Attributes:
        modules: name and file of each, in the order of the blueprint.
        limits: of the service.
        fixed_shares: bytes of memory by module's name, where they are not divided by need.
        host: the interfaces that the host gives each module; none by default.
        wasi: whether it may use WASI.
        hint: what to say of imports that nobody meets.
        owner: for whom it is compiled.
        is_text: whether the files may be WAT.
    """

    modules: Sequence[tuple[str, Path]]
    limits: GuestLimits
    fixed_shares: Mapping[str, int] = {}
    host: Sequence[Mapping[str, WitInterface]] = ()
    wasi: bool = False
    hint: str = ""
    owner: PeerId = NOBODY
    is_text: bool = False


Prepared = tuple[list[tuple[str, CompiledModule, int]], LinkPlan]
"""Name, code and bytes of memory of each module, and how they are linked."""


async def prepared(parts: ServiceParts, cache: CodeCache, composer: Composer | None = None) -> Prepared:
    """The modules of a service, ready to run. What the composer cannot compose is linked in the process.

    Raises:
        GuestError: a module cannot be compiled, they cannot be linked, or there is not enough memory for them.
    """
    names = [name for name, _ in parts.modules]
    compiled = await cache.compiled(
        parts.modules, counts_fuel=parts.limits.counts_fuel, is_text=parts.is_text, owner=parts.owner
    )
    shapes = [(name, one.shape) for name, one in zip(names, compiled, strict=True)]
    plan = link(shapes, host=parts.host, wasi=parts.wasi, hint=parts.hint)
    if composer is not None and len(names) > 1 and not parts.limits.counts_fuel and not parts.fixed_shares:
        try:
            return await _composed(parts, cache, composer, plan)
        except GuestError as error:
            if error.kind not in (FailureKind.COMPONENT, FailureKind.MEMORY, FailureKind.LINK):
                raise
    needs = [(one.shape.memories, parts.fixed_shares.get(name)) for name, one in zip(names, compiled, strict=True)]
    divided = shares(parts.limits.memory_bytes, needs)
    return list(zip(names, compiled, divided, strict=True)), plan


async def _composed(parts: ServiceParts, cache: CodeCache, composer: Composer, plan: LinkPlan) -> Prepared:
    one = await cache.composed(parts.modules, plan, composer, is_text=parts.is_text, owner=parts.owner)
    given = {name: interface for module in parts.host for name, interface in module.items()}
    alone = link([(COMPOSED, one.shape)], host=[given], wasi=parts.wasi, hint=parts.hint)
    (share,) = shares(parts.limits.memory_bytes, [(one.shape.memories, None)])
    return [(COMPOSED, one, share)], alone
