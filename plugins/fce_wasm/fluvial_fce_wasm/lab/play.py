"""Plays cases: each service is made and called, while a neighbour must answer all the time."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Final

import anyio
from anyio.abc import TaskStatus

from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.composing import Composer
from fluvial_fce_wasm.failures import FailureKind, GuestError, UnknownFunction
from fluvial_fce_wasm.guest.engine import GuestEngine
from fluvial_fce_wasm.lab.cases import CaseCall, EngineCase
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.parts import ServiceParts, prepared
from fluvial_fce_wasm.running import RunningService
from fluvial_fce_wasm.service_plan import ServicePlan
from fluvial_fce_wasm.shapes import listed_names
from fluvial_fce_wasm.threads import GuestThreads

NEIGHBOUR: Final = """(component
  (core module $m (global $n (mut i32) (i32.const 0))
    (func (export "next") (result i32) (global.set $n (i32.add (global.get $n) (i32.const 1))) (global.get $n)))
  (core instance $i (instantiate $m))
  (func (export "next") (result u32) (canon lift (core func $i "next"))))"""
"""A service that counts its calls."""
PAUSE_S: Final = 0.02


class Laboratory:
    """Makes services from files.

    Args:
        cache: compiles them.
        folder: for state directories.
        composer: makes one component of the modules of each service, if it is given.
    """

    def __init__(self, cache: CodeCache, folder: Path, composer: Composer | None = None) -> None:
        self._cache = cache
        self._composer = composer
        self._folder = folder
        self._engines: dict[bool, GuestEngine] = {}
        self._threads = GuestThreads()

    def engine(self, counts_fuel: bool) -> GuestEngine:
        """The engine of a profile, the same for all services."""
        return self._engines.setdefault(counts_fuel, GuestEngine(counts_fuel=counts_fuel))

    async def service(
        self,
        files: Sequence[Path],
        limits: GuestLimits,
        *,
        wasi: bool = False,
        has_state: bool = False,
        stateless: bool = False,
    ) -> RunningService:
        """A service, started; one with WASI in a process of its own. Raises GuestError."""
        for path in files:
            if not await anyio.Path(path).is_file():
                raise GuestError(FailureKind.COMPONENT, f"there is no file {path}")
        names = [path.stem for path in files]
        parts = ServiceParts(modules=list(zip(names, files, strict=True)), limits=limits, wasi=wasi, is_text=True)
        modules, plan = await prepared(parts, self._cache, self._composer)
        state = Path(tempfile.mkdtemp(dir=self._folder)) if has_state else None
        service = RunningService(
            ServicePlan(
                modules=modules,
                link=plan,
                limits=limits,
                isolation="process" if wasi else "thread",
                state=state,
                stateless=stateless,
            ),
            self.engine,
            threads=self._threads,
        )
        await service.start()
        return service


async def play(
    cases: Sequence[EngineCase], *, folder: Path, composer: Composer | None = None
) -> AsyncIterator[dict[str, Any]]:
    """What each case gives.

    Args:
        cases: in the order in which they are played.
        folder: where the paths of modules begin.
        composer: as for :class:`Laboratory`.
    """
    with tempfile.TemporaryDirectory(prefix="fluvial-lab-fce-") as made:
        laboratory = Laboratory(CodeCache(Path(made) / "compiled"), Path(made), composer)
        text = Path(made) / "neighbour.wat"
        text.write_text(NEIGHBOUR)
        neighbour = await laboratory.service([text], GuestLimits())
        for case in cases:
            yield await _played(case, folder, laboratory, neighbour)


async def _played(case: EngineCase, folder: Path, laboratory: Laboratory, neighbour: RunningService) -> dict[str, Any]:
    longest: list[float] = [0.0]
    began = anyio.current_time()
    async with anyio.create_task_group() as group:
        await group.start(_bother, neighbour, longest)
        created, calls = await _made_and_called(case, folder, laboratory)
        group.cancel_scope.cancel()
    return {
        "name": case.name,
        "create": created,
        "calls": calls,
        "seconds": round(anyio.current_time() - began, 3),
        "neighbour_max_seconds": round(longest[0], 3),
    }


async def _made_and_called(
    case: EngineCase, folder: Path, laboratory: Laboratory
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    config = case.config
    try:
        service = await laboratory.service(
            [folder / name for name in case.modules], config.limits, wasi=config.wasi, has_state=config.state_dir
        )
    except GuestError as error:
        return _failure(error), []
    try:
        return {"ok": True}, [await _called(service, call) for call in case.calls]
    finally:
        await service.close()


async def _called(service: RunningService, call: CaseCall) -> dict[str, Any]:
    facade = service.plan.modules[-1][1].shape
    try:
        return {"ok": await service.call(call.f, call.args, seconds=service.plan.limits.call_s)}
    except UnknownFunction:
        reason = f"there is no function {call.f!r}; there are {', '.join(listed_names(facade))}"
        return _failure(GuestError(FailureKind.ARGUMENT, reason))
    except GuestError as error:
        return _failure(error)


def _failure(error: GuestError) -> dict[str, Any]:
    return {"error": error.kind.value, "message": error.reason}


async def _bother(neighbour: RunningService, longest: list[float], *, task_status: TaskStatus[None]) -> None:
    """Call the neighbour all the time, and keep the longest that it took."""
    task_status.started()
    while True:
        began = anyio.current_time()
        try:
            await neighbour.call("next", [], seconds=60)
        finally:
            longest[0] = max(longest[0], anyio.current_time() - began)
        await anyio.sleep(PAUSE_S)
