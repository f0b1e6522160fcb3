"""The instances of a service's modules, linked: made, called, and thrown away together.

Each module has a store of its own, so that its share of the memory is its own limit. A call from module to module hands wasmtime's values through
as they are: no Python value is made of them. The types were compared before (``linking.py``).

A call is made in steps, each of which ends when the call is over, when the guest's time slice is, or when the host is asked something
(``imports.py``). Between steps the guest waits on a stack of its own, so any thread may make the next one.

Rules of wasmtime that are kept here; each was paid for:

- After a trap, an illegal result or an exception of the host an instance must not be entered again: all of them are thrown away.
- A function of the host never lets a Python exception out; it returns an error.
- Deadline, fuel and limits are set before instances are made: a start function can loop, too.
- A store that is linked with WASI has a WASI config, or wasmtime ends the process.
- One thread at a time; whoever calls sees to that.
"""

from __future__ import annotations

import ctypes
import sys
import time
from collections.abc import Callable, Sequence
from ctypes import addressof
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

from wasmtime import Store, WasiConfig, component
from wasmtime import _ffi as ffi

from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.guest import native
from fluvial_fce_wasm.guest.arena import Arena, Budget, BudgetExceeded, Misfit
from fluvial_fce_wasm.guest.classify import classify
from fluvial_fce_wasm.guest.codec import FunctionPlan
from fluvial_fce_wasm.guest.engine import CompiledCode, GuestEngine
from fluvial_fce_wasm.guest.imports import (
    CallState,
    HostImport,
    ModuleImport,
    Unit,
    add_import,
    drop_error,
    text_of,
)
from fluvial_fce_wasm.guest.scalars import VALUE_BYTES, BoolPlan, CharPlan, FloatPlan, IntegerPlan, ValuePlan
from fluvial_fce_wasm.limits import MIB, GuestLimits
from fluvial_fce_wasm.linking import LinkedImport, LinkPlan
from fluvial_fce_wasm.process.messages import HostAnswer, HostQuestion
from fluvial_fce_wasm.wit.types import ModuleShape, WitFunction, WitInterface

MEMORIES_MAX: Final = 32
INSTANCES_MAX: Final = 256
TABLES_MAX: Final = 64
ARGUMENTS_BYTES_MAX: Final = 34 * MIB
"""What the arguments of a call take as wasmtime has them, 32 bytes for each value: several times as much is needed on its way into the guest."""
STATE_FOLDER: Final = "/state"
"""Where a guest sees its state directory."""
FUEL_MAX: Final = 2**62

CALLS_BACK: Final = sys.version_info < (3, 14)
"""Whether Python may run on the stack of a guest, as imports from other modules and from the host need; later versions take that for an overflow."""

_NOTHING: Final = bytes(VALUE_BYTES)
_SCALARS: Final = (IntegerPlan, FloatPlan, BoolPlan, CharPlan)
"""Their values own no memory."""
_LATE: Final = "it was stopped at its deadline"


class GuestStep(Enum):
    """How a step of a call has ended."""

    DONE = "the result is there"
    YIELDED = "the time slice is over"
    ASKS = "the guest waits for an answer of the host"


@dataclass(slots=True)
class LoadedModule:
    """A compiled module.

    Attributes:
        name: for people.
        code: compiled by the engine that will run it.
        shape: what it imports and exports.
        share_bytes: its part of the service's memory.
        memories: how many linear memories it makes; found out when it is first instantiated.
    """

    name: str
    code: CompiledCode
    shape: ModuleShape
    share_bytes: int
    memories: int = 1


class LinkedInstances:
    """The instances of one service.

    Args:
        engine: compiled the modules.
        modules: in the order of the blueprint; the last is the facade.
        plan: how they are linked.
        limits: of the service.
        state: the state directory, for services that may use WASI and have one.

    Attributes:
        dead: whether it must be thrown away.
        fuel_used: by the last call.
        runs: whether a call is in progress.
    """

    def __init__(
        self,
        engine: GuestEngine,
        modules: Sequence[LoadedModule],
        plan: LinkPlan,
        limits: GuestLimits,
        *,
        state: Path | None = None,
    ) -> None:
        self._engine = engine
        self._modules = modules
        self._plan = plan
        self._limits = limits
        self._folder = state
        self._units: dict[int, Unit] = {}
        self._facade: Unit
        self._contexts: list[int] = []
        self._functions: dict[tuple[str, str], tuple[Any, int, FunctionPlan]] = {}
        self._arena = Arena(ARGUMENTS_BYTES_MAX)
        self._result = (ctypes.c_char * VALUE_BYTES)()
        self._result_at = addressof(self._result)
        self._call = CallState()
        self._plan_of_result: ValuePlan | None = None
        self._until = 0.0
        self._sliced = -1
        self.runs = False
        self.dead = False
        self.fuel_used = 0

    def start(self, seconds: float) -> None:
        """Make the instances, providers first.

        Raises:
            GuestError: it is impossible, or took too long.
        """
        self._engine.begin(self)
        self._until = time.monotonic() + seconds
        try:
            for place in self._plan.order:
                self._units[place] = self._make(place)
        except GuestError:
            self.close()
            raise
        finally:
            self._engine.end(self)
        self._facade = self._units[len(self._modules) - 1]
        self._contexts = [unit.context for unit in self._units.values()]

    def close(self) -> None:
        """Throw them away."""
        self.dead = True
        self._functions.clear()
        if self.runs:
            self._give_up()
        for unit in self._units.values():
            unit.close()
        self._units.clear()

    # --- making -------------------------------------------------------------------------------------------------------

    def _make(self, place: int) -> Unit:
        module = self._modules[place]
        while True:
            unit = self._unit(module, place)
            self._call.begin()
            text = self._instantiated(unit, module)
            if not text:
                return unit
            unit.close()
            if "memory count too high" in text and module.memories < MEMORIES_MAX:
                module.memories += 1  # the share is divided among its memories
                continue
            kind, short = (FailureKind.TIMEOUT, _LATE) if text == _LATE else classify(text, at_start=True)
            raise GuestError(kind, f"module {module.name!r} cannot be started: {short}")

    def _instantiated(self, unit: Unit, module: LoadedModule) -> str:
        """Make the instance of a unit; why that is impossible, or nothing."""
        made = ffi.wasmtime_component_instance_t()
        unit.future = native.start_instance(
            *(native.address(unit.linker.ptr()), unit.context, native.address(module.code.component.ptr())),
            *(addressof(made), unit.error_at),
        )
        while not native.poll(unit.future):
            if self._call.question is not None:
                return "the host cannot be asked anything while instances are made"
            if self._call.failure:
                return self._call.first_error
            if time.monotonic() >= self._until:
                return _LATE
        unit.drop_future()
        if error := unit.taken_error():
            text = self._call.first_error or text_of(error)
            drop_error(error)
            return text
        unit.instance = component.Instance._from_raw(made)
        return ""

    def _unit(self, module: LoadedModule, place: int) -> Unit:
        linker, callbacks = self._linker(place)
        store = self._store(module, place)
        unit = Unit(module.name, store, linker, native.address(store._context()), callbacks=callbacks)
        native.yield_at_deadlines(unit.context, 1)
        return unit

    def _store(self, module: LoadedModule, place: int) -> Store:
        store = Store(self._engine.native)
        store.set_epoch_deadline(1)
        if self._engine.counts_fuel:
            store.set_fuel(self._limits.fuel or FUEL_MAX)
        store.set_limits(
            memory_size=module.share_bytes // module.memories,
            table_elements=self._limits.table_elements,
            instances=INSTANCES_MAX,
            tables=TABLES_MAX,
            memories=module.memories,
        )
        if self._uses_wasi(place):
            config = WasiConfig()
            if self._folder is not None:
                config.preopen_dir(str(self._folder), STATE_FOLDER)
            store.set_wasi(config)
        return store

    def _uses_wasi(self, place: int) -> bool:
        return any(one.source == "wasi" for one in self._plan.imports[place])

    def _linker(self, place: int) -> tuple[component.Linker, list[Any]]:
        linker, callbacks = component.Linker(self._engine.native), []
        if self._uses_wasi(place):
            linker.add_wasip2()
            linker.allow_shadowing = True
        shape = self._modules[place].shape
        with linker.root() as root:
            for one in self._plan.imports[place]:
                wanted = shape.imports[one.name]
                if one.source == "wasi":
                    continue
                if not CALLS_BACK:
                    raise GuestError(FailureKind.LINK, f"import {one.name!r} needs a peer with Python 3.11 to 3.13")
                if isinstance(wanted, WitInterface):
                    with root.add_instance(one.name) as inner:
                        for name, function in wanted.functions.items():
                            callbacks.append(add_import(inner, name, self._importing(one, one.export, name, function)))
                elif isinstance(wanted, WitFunction):
                    callbacks.append(add_import(root, one.name, self._importing(one, "", one.export, wanted)))
        return linker, callbacks

    def _importing(
        self, one: LinkedImport, interface: str, name: str, function: WitFunction
    ) -> ModuleImport | HostImport:
        if one.source == "module":
            unit, counts_fuel = self._units[one.provider], self._engine.counts_fuel
            return ModuleImport(self._call, unit, interface, name, counts_fuel=counts_fuel)
        return HostImport(self._call, interface, name, function)

    # --- calling ------------------------------------------------------------------------------------------------------

    def begin(
        self, interface: str, name: str, function: WitFunction, arguments: Sequence[Any], seconds: float
    ) -> GuestStep:
        """Make the first step of a call of a function of the facade.

        Args:
            interface: its interface's name; empty for a function at the root.
            name: of the function.
            function: its type.
            arguments: JSON values.
            seconds: after which the guest is stopped.

        Raises:
            GuestError: the call failed. If :attr:`dead` is true afterwards, the instances cannot be used any more.
        """
        found = self._functions.get((interface, name))
        _, func_at, plan = found or self._function(interface, name, function)
        try:
            return self._begun(func_at, plan, plan.encode(arguments, self._arena), seconds)
        except Misfit as error:
            raise GuestError(FailureKind.ARGUMENT, str(error)) from None
        finally:
            self._arena.reset()  # the first step has read the arguments

    def _begun(self, func_at: int, plan: FunctionPlan, address: int, seconds: float) -> GuestStep:
        self._until = time.monotonic() + seconds
        self._plan_of_result = result = plan.result
        self._call.begin()
        self._engine.begin(self)
        self.runs = True
        if self._sliced != self._engine.epoch:
            self._slice()
        if self._engine.counts_fuel:
            for unit in self._units.values():
                unit.store.set_fuel((self._limits.fuel or FUEL_MAX) if unit is self._facade else 0)
        facade = self._facade
        results = 0 if result is None else 1
        facade.future = native.start_call(
            func_at, facade.context, address, plan.arity, self._result_at, results, facade.error_at
        )
        return self.go_on()

    def go_on(self) -> GuestStep:
        """Make the next step. Raises GuestError as :meth:`begin`."""
        facade, call = self._facade, self._call
        if native.poll(facade.future):
            facade.drop_future()
            self._over()
            if facade.error.value:
                raise self._failed(facade.taken_error())
            return GuestStep.DONE
        if call.failure:
            self._give_up()
            raise self._failed(0)
        if time.monotonic() >= self._until:
            raise self.stop()
        return GuestStep.YIELDED if call.question is None else GuestStep.ASKS

    def _slice(self) -> None:
        """Let guests run until the next tick."""
        self._sliced = self._engine.epoch
        for context in self._contexts:
            native.set_epoch_deadline(context, 1)

    @property
    def seconds_left(self) -> float:
        """Until the deadline of the call in progress."""
        return self._until - time.monotonic()

    @property
    def question(self) -> HostQuestion:
        """What the guest asks the host, when a step has ended with that."""
        assert self._call.question is not None
        return self._call.question

    def answer(self, answer: HostAnswer) -> None:
        """What the host answers; the next step hands it over."""
        self._call.question, self._call.answer = None, answer
        self._slice()

    def stop(self) -> GuestError:
        """Give up the call in progress, and the instances with it; the error of a late call."""
        self._give_up()
        return GuestError(FailureKind.TIMEOUT, _LATE)

    def _give_up(self) -> None:
        self.dead = True
        for unit in reversed(self._units.values()):  # whoever calls before whoever is called
            unit.drop_future()
        self._over()

    def result(self, bytes_max: int | None = None) -> Any:
        """The result of the call that is done, as JSON; to be asked for once, unless it was too large.

        Args:
            bytes_max: what it may take, if that is less than the limit of the service.

        Raises:
            BudgetExceeded: it takes more than ``bytes_max``. GuestError: it has no JSON, or takes more than the limit of the service.
        """
        plan = self._plan_of_result
        if plan is None:
            return None
        most = self._limits.result_bytes
        is_kept = isinstance(plan, _SCALARS)
        try:
            return plan.decode(self._result.raw, 0, Budget(most if bytes_max is None else min(most, bytes_max)))
        except BudgetExceeded:
            if is_kept := bytes_max is not None and bytes_max < most:
                raise
            raise GuestError(FailureKind.RESULT, f"it takes more than {most:,} bytes") from None
        except Misfit as error:
            raise GuestError(FailureKind.RESULT, str(error)) from None
        finally:
            if not is_kept:
                native.drop_value(self._result_at)
                self._result.raw = _NOTHING  # the next call drops what it finds here

    def call(
        self,
        interface: str,
        name: str,
        function: WitFunction,
        arguments: Sequence[Any],
        seconds: float,
        host: Callable[[HostQuestion], HostAnswer],
    ) -> Any:
        """The result of a call, all steps in this thread, where ``host`` answers; the other arguments and errors are those of :meth:`begin`."""
        step = self.begin(interface, name, function, arguments, seconds)
        while step is not GuestStep.DONE:
            if step is GuestStep.ASKS:
                self.answer(host(self.question))
            step = self.go_on()
        return self.result()

    def _function(self, interface: str, name: str, function: WitFunction) -> tuple[Any, int, FunctionPlan]:
        func = self._facade.function(interface, name)
        self._functions[interface, name] = found = func, addressof(func), FunctionPlan(function)
        return found

    def _over(self) -> None:
        self.runs = False
        self._engine.end(self)
        if self._engine.counts_fuel:
            self.fuel_used = (self._limits.fuel or FUEL_MAX) - self._facade.store.get_fuel()

    def _failed(self, error: int) -> GuestError:
        self.dead = True
        kind, short = classify(self._call.first_error or text_of(error))
        if error:
            drop_error(error)
        return GuestError(FailureKind.TRAP if self._call.host_failed else kind, short)
