"""The instances of a service's modules, linked: made, called, and thrown away together.

Each module has a store of its own, so that its share of the memory is its own limit. A call from module to module hands wasmtime's values through
as they are: no Python value is made of them. The types were compared before (``linking.py``).

Rules of wasmtime that are kept here; each was paid for:

- After a trap, an illegal result or an exception of the host an instance must not be entered again: all of them are thrown away.
- A function of the host never lets a Python exception out; it returns an error.
- Deadline, fuel and limits are set before instances are made: a start function can loop, too.
- A store that is linked with WASI has a WASI config, or wasmtime ends the process.
- One thread at a time; whoever calls sees to that.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from ctypes import byref, cast
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from wasmtime import Store, WasiConfig, WasmtimeError, component
from wasmtime import _ffi as ffi

from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.guest import native
from fluvial_fce_wasm.guest.arena import Arena, Budget, BudgetExceeded, Misfit
from fluvial_fce_wasm.guest.classify import classify
from fluvial_fce_wasm.guest.codec import FunctionPlan, plan_of, readers_of
from fluvial_fce_wasm.guest.engine import GuestEngine
from fluvial_fce_wasm.guest.scalars import VALUE_BYTES, BoolPlan, CharPlan, FloatPlan, IntegerPlan, ValuePlan
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.linking import LinkedImport, LinkPlan
from fluvial_fce_wasm.wit.types import ModuleShape, WitFunction, WitInterface

MEMORIES_MAX: Final = 32
INSTANCES_MAX: Final = 256
TABLES_MAX: Final = 64
STATE_FOLDER: Final = "/state"
"""Where a guest sees its state directory."""
ARGUMENT_BYTES_MAX: Final = 8 * 1_048_576
"""What a guest may hand to one function of the host."""

_VALUES: Final = ctypes.POINTER(ffi.wasmtime_component_val_t)
_Callback = ffi.wasmtime_component_func_callback_t
_NOTHING: Final = bytes(VALUE_BYTES)
_NO_FINALIZER: Final = cast(0, ctypes.CFUNCTYPE(None, ctypes.c_void_p))


class HostTrap(Exception):
    """A function of the host failed in a way that its WIT type has no value for: the guest is stopped. The text is for people."""


class HostDoor(Protocol):
    """How guests reach functions of the host."""

    def call(self, interface: str, function: str, arguments: list[Any]) -> Any:
        """The result, as JSON of its WIT type; called in the thread of the guest. Raises HostTrap."""
        ...


@dataclass(slots=True)
class LoadedModule:
    """A compiled module.

    Attributes:
        name: for people.
        component: compiled by the engine that will run it.
        shape: what it imports and exports.
        share_bytes: its part of the service's memory.
        memories: how many linear memories it makes; found out when it is first instantiated.
    """

    name: str
    component: component.Component
    shape: ModuleShape
    share_bytes: int
    memories: int = 1


@dataclass(slots=True)
class _Unit:
    """The instance of one module."""

    module: LoadedModule
    store: Store
    instance: component.Instance
    linker: component.Linker
    context: int
    callbacks: list[Any] = field(default_factory=list)

    def function(self, interface: str, name: str) -> Any:
        index = self.instance.get_export_index(self.store, interface) if interface else None
        found = self.instance.get_export_index(self.store, name, index)
        function = None if found is None else self.instance.get_func(self.store, found)
        assert function is not None, f"{self.module.name} has no {interface}#{name}, against its own type"
        return function._func


class LinkedInstances:
    """The instances of one service.

    Args:
        engine: compiled the modules.
        modules: in the order of the blueprint; the last is the facade.
        plan: how they are linked.
        limits: of the service.
        host: answers calls of the host's interfaces.
        state: the state directory, for services that may use WASI and have one.

    Attributes:
        dead: whether it must be thrown away.
        fuel_used: by the last call.
    """

    def __init__(
        self,
        engine: GuestEngine,
        modules: Sequence[LoadedModule],
        plan: LinkPlan,
        limits: GuestLimits,
        *,
        host: HostDoor,
        state: Path | None = None,
    ) -> None:
        self._engine = engine
        self._modules = modules
        self._plan = plan
        self._limits = limits
        self._host = host
        self._state = state
        self._units: dict[int, _Unit] = {}
        self._functions: dict[tuple[str, str], tuple[Any, FunctionPlan]] = {}
        self._arena = Arena()
        self._result = (ctypes.c_char * VALUE_BYTES)()
        self._result_at = ctypes.addressof(self._result)
        self._first_error = ""
        self._host_failed = False
        self.dead = False
        self.fuel_used = 0

    def start(self, seconds: float) -> None:
        """Make the instances, providers first.

        Raises:
            GuestError: it is impossible, or took too long.
        """
        self._engine.begin()
        try:
            for place in self._plan.order:
                self._units[place] = self._make(place, seconds)
        except GuestError:
            self.close()
            raise
        finally:
            self._engine.end()

    def close(self) -> None:
        """Throw them away."""
        self.dead = True
        self._functions.clear()
        for unit in self._units.values():
            unit.store.close()
            unit.linker.close()
            unit.callbacks.clear()
        self._units.clear()

    # --- making -------------------------------------------------------------------------------------------------------

    def _make(self, place: int, seconds: float) -> _Unit:
        module = self._modules[place]
        linker, callbacks = self._linker(place)
        while True:
            store = self._store(module, place, seconds)
            self._first_error = ""
            try:
                instance = linker.instantiate(store, module.component)
            except WasmtimeError as error:
                store.close()
                text = self._first_error or str(error)
                if "memory count too high" in text and module.memories < MEMORIES_MAX:
                    module.memories += 1  # the share is divided among its memories
                    continue
                linker.close()
                kind, short = classify(text, at_start=True)
                raise GuestError(kind, f"module {module.name!r} cannot be started: {short}") from None
            return _Unit(module, store, instance, linker, native.address(store._context()), callbacks)

    def _store(self, module: LoadedModule, place: int, seconds: float) -> Store:
        store = Store(self._engine.native)
        store.set_epoch_deadline(GuestEngine.ticks(seconds))
        if self._engine.counts_fuel:
            store.set_fuel(self._limits.fuel or 2**62)
        store.set_limits(
            memory_size=module.share_bytes // module.memories,
            table_elements=self._limits.table_elements,
            instances=INSTANCES_MAX,
            tables=TABLES_MAX,
            memories=module.memories,
        )
        if self._uses_wasi(place):
            config = WasiConfig()
            if self._state is not None:
                config.preopen_dir(str(self._state), STATE_FOLDER)
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
                if isinstance(wanted, WitInterface):
                    with root.add_instance(one.name) as inner:
                        for name, function in wanted.functions.items():
                            callbacks.append(_add(inner, name, self._importing(place, one, one.export, name, function)))
                elif isinstance(wanted, WitFunction):
                    callbacks.append(_add(root, one.name, self._importing(place, one, "", one.export, wanted)))
        return linker, callbacks

    def _importing(
        self, place: int, one: LinkedImport, interface: str, name: str, function: WitFunction
    ) -> Callable[..., int]:
        if one.source == "module":
            return self._to_module(place, one.provider, interface, name)
        return self._to_host(interface, name, function)

    def _to_module(self, place: int, provider: int, interface: str, name: str) -> Callable[..., int]:
        unit = self._units[provider]
        function, context, call = (
            unit.function(interface, name),
            unit.store._context(),
            ffi.wasmtime_component_func_call,
        )
        counts_fuel, units = self._engine.counts_fuel, self._units

        def handed(
            _data: Any, caller: Any, _type: Any, values: Any, count: int, results: Any, result_count: int
        ) -> int:
            try:
                if counts_fuel:
                    _move_fuel(caller, context)
                trapped = call(byref(function), context, values, count, results, result_count)
                if counts_fuel:
                    _move_fuel(context, caller)
                return self._failed(trapped) if trapped else 0
            except BaseException as error:  # noqa: BLE001 - nothing may pass through the guest's frames
                return self._refused(f"{units[provider].module.name}: {error}")

        return handed

    def _to_host(self, interface: str, name: str, function: WitFunction) -> Callable[..., int]:
        readers = readers_of(function)
        result = None if function.result is None else plan_of(function.result)

        def asked(_data: Any, _caller: Any, _type: Any, values: Any, _count: int, results: Any, _results: int) -> int:
            try:
                budget = Budget(ARGUMENT_BYTES_MAX)
                raw = ctypes.string_at(values, len(readers) * VALUE_BYTES) if readers else b""
                arguments = [one.decode(raw, at * VALUE_BYTES, budget) for at, one in enumerate(readers)]
                value = self._host.call(interface, name, arguments)
                if result is not None:
                    arena = Arena()
                    view, at, address = arena.reserve(VALUE_BYTES)
                    result.encode(value, arena, view, at)
                    ffi.wasmtime_component_val_clone(cast(address, _VALUES), results)
                return 0
            except BudgetExceeded:
                return self._refused(f"{interface}#{name}: arguments above {ARGUMENT_BYTES_MAX:,} bytes")
            except Misfit as error:
                return self._refused(f"{interface}#{name} of the host: {error}")
            except HostTrap as error:
                return self._refused(f"{interface}#{name} of the host: {error}")
            except BaseException as error:  # noqa: BLE001 - nothing may pass through the guest's frames
                return self._refused(f"{interface}#{name} of the host failed: {type(error).__name__}")

        return asked

    def _refused(self, text: str) -> int:
        """An error of the host's own, which stops the guest."""
        self._host_failed = not self._first_error
        return self._failed(_error(text))

    def _failed(self, error: Any) -> int:
        """Keep the text of the innermost error, and hand it on."""
        if not self._first_error:
            self._first_error = _text_of(error)
        return cast(error, ctypes.c_void_p).value or 0

    # --- calling ------------------------------------------------------------------------------------------------------

    def call(
        self,
        interface: str,
        name: str,
        function: WitFunction,
        arguments: Sequence[Any],
        seconds: float,
        *,
        result_bytes: int | None = None,
    ) -> Any:
        """The result of a function of the facade, as JSON.

        Args:
            interface: its interface's name; empty for a function at the root.
            name: of the function.
            function: its type.
            arguments: JSON values.
            seconds: after which the guest is stopped.
            result_bytes: what the result may take, if that is less than the limit of the service.

        Raises:
            GuestError: the call failed. If :attr:`dead` is true afterwards, the instances cannot be used any more.
        """
        func, plan = self._function(interface, name, function)
        arena = self._arena
        arena.reset()
        try:
            address = plan.encode(arguments, arena)
        except Misfit as error:
            raise GuestError(FailureKind.ARGUMENT, str(error)) from None
        wanted = 0 if plan.result is None else 1
        context = self._prepared(seconds)
        self._engine.begin()
        try:
            failed = native.call(
                ctypes.addressof(func), context, address, plan.arity, self._result_at if wanted else None, wanted
            )
        finally:
            self._engine.end()
        if self._engine.counts_fuel:
            self.fuel_used = (self._limits.fuel or 2**62) - self._units[len(self._modules) - 1].store.get_fuel()
        if failed:
            raise self._dead(failed)
        most = min(self._limits.result_bytes, result_bytes or self._limits.result_bytes)
        return None if plan.result is None else self._decoded(plan.result, most)

    def _prepared(self, seconds: float) -> int:
        """The facade's context, when all stores have their deadline and their fuel for a call."""
        facade, ticks = self._units[len(self._modules) - 1], GuestEngine.ticks(seconds)
        for unit in self._units.values():
            native.set_epoch_deadline(unit.context, ticks)
        if self._engine.counts_fuel:
            for unit in self._units.values():
                unit.store.set_fuel((self._limits.fuel or 2**62) if unit is facade else 0)
        self._first_error, self._host_failed = "", False
        return facade.context

    def _function(self, interface: str, name: str, function: WitFunction) -> tuple[Any, FunctionPlan]:
        key = (interface, name)
        if key not in self._functions:
            facade = self._units[len(self._modules) - 1]
            self._functions[key] = (facade.function(interface, name), FunctionPlan(function))
        return self._functions[key]

    def _decoded(self, plan: ValuePlan, most: int) -> Any:
        try:
            return plan.decode(self._result.raw, 0, Budget(most))
        except BudgetExceeded:
            reason = f"it takes more than {most:,} bytes"
            raise GuestError(FailureKind.RESULT, reason) from None
        except Misfit as error:
            raise GuestError(FailureKind.RESULT, str(error)) from None
        finally:
            if not isinstance(plan, IntegerPlan | FloatPlan | BoolPlan | CharPlan):  # those own nothing
                native.drop_value(self._result_at)
                self._result.raw = _NOTHING  # the next call drops what it finds here

    def _dead(self, error: int) -> GuestError:
        self.dead = True
        kind, short = classify(self._first_error or str(native.error_at(error)))
        return GuestError(FailureKind.TRAP if self._host_failed else kind, short)


def _add(where: component.LinkerInstance, name: str, work: Callable[..., int]) -> Any:
    """Define a function of the host; the callback that is returned must live as long as the linker."""
    callback, data = _Callback(work), name.encode()
    error = ffi.wasmtime_component_linker_instance_add_func(
        where.ptr(), ctypes.create_string_buffer(data, len(data)), len(data), callback, None, _NO_FINALIZER
    )
    if error:
        raise WasmtimeError._from_ptr(error)
    return callback


def _error(text: str) -> Any:
    return ffi.wasmtime_error_new(text[:500].replace("\0", "").encode(errors="replace"))


def _text_of(error: Any) -> str:
    message = ffi.wasm_byte_vec_t()
    ffi.wasmtime_error_message(error, byref(message))
    text = ffi.to_str(message)
    ffi.wasm_byte_vec_delete(byref(message))
    return str(text)


def _move_fuel(source: Any, target: Any) -> None:
    left = ctypes.c_uint64(0)
    ffi.wasmtime_context_get_fuel(source, byref(left))
    ffi.wasmtime_context_set_fuel(target, left.value)
