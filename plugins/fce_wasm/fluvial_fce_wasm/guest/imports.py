"""What guests import from each other and from the host, as callbacks of wasmtime.

Nothing here waits. A guest runs on a stack of its own, which wasmtime leaves when the guest's time slice is over, or when a callback says that its
results are not there yet; each poll of the call asks it again. So a callback

- to another module makes the first step of a call of that module, and where that is not enough each poll makes a further one;
- to the host leaves a question, and whoever polls puts the answer here before they go on.

Rules of wasmtime 50's C interface, each of which is kept here:

- A callback leaves its error before it returns; later ones have no place. Such a call never ends: :attr:`CallState.failure` says why, and whoever polls gives up.
- Arguments are there until the callback returns; the place of the results is, until the results are.
- A callback must leave a continuation, or wasmtime ends the process; and no Python exception may pass through.
"""

from __future__ import annotations

import ctypes
from ctypes import addressof, byref, c_void_p, cast
from dataclasses import dataclass, field
from typing import Any, Final

from wasmtime import Store, component
from wasmtime import _ffi as ffi

from fluvial_fce_wasm.guest import native
from fluvial_fce_wasm.guest.arena import Arena, Budget, BudgetExceeded, Misfit
from fluvial_fce_wasm.guest.codec import plan_of, readers_of
from fluvial_fce_wasm.guest.scalars import VALUE_BYTES
from fluvial_fce_wasm.process.messages import HostAnswer, HostQuestion
from fluvial_fce_wasm.wit.types import WitFunction

ARGUMENT_BYTES_MAX: Final = 8 * 1_048_576
"""What a guest may hand to one function of the host."""
_TEXT_CHARACTERS: Final = 500
_LATER: Final = -1
"""In place of an error: the results are not there yet."""
_at_once: Final = native.ContinueCallback(lambda _: True)
_AT_ONCE: Final = cast(_at_once, c_void_p).value or 0


@dataclass(slots=True)
class Unit:
    """The instance of one module.

    Attributes:
        name: of the module.
        context: of its store.
        future: the call in progress; 0 if there is none.
        error, error_at: where wasmtime leaves the error of that call.
        caller: the context of the module that calls it.
        callbacks: live as long as the instance.
    """

    name: str
    store: Store
    linker: component.Linker
    context: int
    instance: component.Instance | None = None
    future: int = 0
    error: c_void_p = field(default_factory=c_void_p)
    error_at: int = 0
    caller: int = 0
    callbacks: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Know where the error's place is."""
        self.error_at = addressof(self.error)

    def function(self, interface: str, name: str) -> Any:
        """An exported function, for :func:`native.start_call`."""
        assert self.instance is not None
        index = self.instance.get_export_index(self.store, interface) if interface else None
        found = self.instance.get_export_index(self.store, name, index)
        function = None if found is None else self.instance.get_func(self.store, found)
        assert function is not None, f"{self.name} has no {interface}#{name}, against its own type"
        return function._func

    def drop_future(self) -> None:
        """Forget the call in progress."""
        if self.future:
            native.drop_future(self.future)
            self.future = 0

    def taken_error(self) -> int:
        """The error that the last call has left, which is the caller's now; 0 if there is none."""
        error, self.error.value = self.error.value or 0, None
        return error

    def close(self) -> None:
        """Throw it away."""
        self.drop_future()
        self.store.close()
        self.linker.close()
        self.callbacks.clear()


@dataclass(slots=True)
class CallState:
    """What is known of the call in progress.

    Attributes:
        first_error: the text of the innermost error.
        host_failed: whether that was the host's.
        failure: whether the call cannot go on, though wasmtime does not know it.
        question: what the host is asked.
        answer: what it says.
    """

    first_error: str = ""
    host_failed: bool = False
    failure: bool = False
    question: HostQuestion | None = None
    answer: HostAnswer | None = None

    def begin(self) -> None:
        """Forget the last call."""
        self.first_error, self.host_failed, self.failure = "", False, False
        self.question = self.answer = None

    def failed(self, error: int) -> int:
        """Keep the text of an error if it is the first, and hand it on."""
        if not self.first_error:
            self.first_error = text_of(error)
        return error

    def refused(self, text: str) -> int:
        """An error of the host's own, which stops the guest."""
        self.host_failed = not self.first_error
        made = ffi.wasmtime_error_new(text[:_TEXT_CHARACTERS].replace("\0", "").encode(errors="replace"))
        return self.failed(native.address(made))

    def give_up(self, error: int) -> None:
        """End the call with an error for which wasmtime has no place any more."""
        self.failed(error)
        drop_error(error)
        self.failure = True


def text_of(error: int) -> str:
    """The text of an error, which stays."""
    message = ffi.wasm_byte_vec_t()
    ffi.wasmtime_error_message(cast(error, ctypes.POINTER(ffi.wasmtime_error_t)), byref(message))
    text = ffi.to_str(message)
    ffi.wasm_byte_vec_delete(byref(message))
    return str(text)


def drop_error(error: int) -> None:
    """Free an error."""
    ffi.wasmtime_error_delete(cast(error, ctypes.POINTER(ffi.wasmtime_error_t)))


def add_import(where: component.LinkerInstance, name: str, work: ModuleImport | HostImport) -> Any:
    """Define an imported function under a name in a part of a linker; the callbacks that are returned must live as long as that."""
    first, further = work.first, work.further
    later = native.ContinueCallback(lambda _: further())
    later_at = cast(later, c_void_p).value or 0

    def begun(
        _data: Any,
        context: int,
        _type: Any,
        values: int,
        count: int,
        results: int,
        result_count: int,
        error: int,
        then: int,
    ) -> None:
        continuation = native.Continuation.from_address(then)
        continuation.callback = _AT_ONCE
        failed = first(context, values, count, results, result_count)
        if failed == _LATER:
            continuation.callback = later_at
        elif failed:
            c_void_p.from_address(error).value = failed

    callback, data = native.ImportCallback(begun), name.encode()
    failed = native.add_import(native.address(where.ptr()), data, len(data), callback, None, None)
    if failed:
        raise native.error_at(failed)
    return callback, later


class ModuleImport:
    """A function of one module that another one imports: its arguments and results are handed through as they are.

    Args:
        state: of the call in progress.
        unit: whose function it is.
        interface, name: of the function.
        counts_fuel: whether the fuel of a call is one for all modules.
    """

    def __init__(self, state: CallState, unit: Unit, interface: str, name: str, *, counts_fuel: bool) -> None:
        self._state = state
        self._unit = unit
        self._function = unit.function(interface, name)
        self._counts_fuel = counts_fuel

    def first(self, context: int, values: int, count: int, results: int, result_count: int) -> int:
        """Begin a call; 0 if it is over, ``_LATER`` if it is not, or an error."""
        unit = self._unit
        try:
            unit.caller = context
            if self._counts_fuel:
                _move_fuel(context, unit.context)
            unit.future = native.start_call(
                addressof(self._function), unit.context, values, count, results, result_count, unit.error_at
            )
            if not native.poll(unit.future):
                return _LATER
            error = self._ended()
            return self._state.failed(error) if error else 0
        except BaseException as error:  # noqa: BLE001 - nothing may pass through the guest's frames
            return self._state.refused(f"{unit.name}: {error}")

    def further(self) -> bool:
        """Go on; whether the results are there."""
        if self._state.failure or not native.poll(self._unit.future):
            return False
        if error := self._ended():
            self._state.give_up(error)
        return not error

    def _ended(self) -> int:
        unit = self._unit
        unit.drop_future()
        if self._counts_fuel:
            _move_fuel(unit.context, unit.caller)
        return unit.taken_error()


class HostImport:
    """A function of the host that a module imports.

    Args:
        state: of the call in progress.
        interface, name: of the function.
        function: its type.
    """

    def __init__(self, state: CallState, interface: str, name: str, function: WitFunction) -> None:
        self._state = state
        self._interface, self._name = interface, name
        self._title = f"{interface}#{name}"
        self._readers = readers_of(function)
        self._result = None if function.result is None else plan_of(function.result)
        self._results = 0

    def first(self, context: int, values: int, count: int, results: int, result_count: int) -> int:
        """Leave the question."""
        readers = self._readers
        try:
            budget = Budget(ARGUMENT_BYTES_MAX)
            raw = ctypes.string_at(values, len(readers) * VALUE_BYTES) if readers else b""
            arguments = [one.decode(raw, at * VALUE_BYTES, budget) for at, one in enumerate(readers)]
            self._results = results
            self._state.question = HostQuestion(self._interface, self._name, arguments)
            return _LATER
        except BudgetExceeded:
            return self._state.refused(f"{self._title}: arguments above {ARGUMENT_BYTES_MAX:,} bytes")
        except Misfit as error:
            return self._state.refused(f"{self._title} of the host: {error}")
        except BaseException as error:  # noqa: BLE001 - nothing may pass through the guest's frames
            return self._state.refused(f"{self._title} of the host failed: {type(error).__name__}")

    def further(self) -> bool:
        """Hand the answer to the guest, if it is there."""
        state, answer = self._state, self._state.answer
        if answer is None or state.failure:
            return False
        state.answer = None
        try:
            if answer.trap:
                state.give_up(state.refused(f"{self._title} of the host: {answer.trap}"))
                return False
            if self._result is not None:
                arena = Arena()
                view, at, address = arena.reserve(VALUE_BYTES)
                self._result.encode(answer.value, arena, view, at)
                native.clone_value(address, self._results)
            return True
        except Misfit as error:
            state.give_up(state.refused(f"{self._title} of the host: {error}"))
        except BaseException as error:  # noqa: BLE001 - nothing may pass through the guest's frames
            state.give_up(state.refused(f"{self._title} of the host failed: {type(error).__name__}"))
        return False


def _move_fuel(source: int, target: int) -> None:
    left = ctypes.c_uint64(0)
    ffi.wasmtime_context_get_fuel(cast(source, ctypes.POINTER(ffi.wasmtime_context_t)), byref(left))
    ffi.wasmtime_context_set_fuel(cast(target, ctypes.POINTER(ffi.wasmtime_context_t)), left.value)
