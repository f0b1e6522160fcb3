"""The functions of wasmtime's C interface that every call uses, bound with plain addresses.

wasmtime-py binds them with typed pointers, which ctypes checks and converts anew in each call, and lets go of the interpreter's lock around each of
them. Only a guest may take long; the others are over before another thread could take the lock, so they keep it.
"""

from __future__ import annotations

import ctypes
from ctypes import c_bool, c_size_t, c_uint64, c_void_p
from typing import Any, Final

from wasmtime import WasmtimeError
from wasmtime import _ffi as ffi

_keeping: Final = ctypes.PyDLL(ffi.dll._name, handle=ffi.dll._handle)
_letting_go: Final = ctypes.CDLL(ffi.dll._name, handle=ffi.dll._handle)


def _bound(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


start_call: Final = _bound(
    _keeping,
    "wasmtime_component_func_call_async",
    c_void_p,
    *(c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p),
)
"""(function, context, arguments, their number, results, their number, place of an error) -> future. The arguments are read by the first poll."""
start_instance: Final = _bound(
    _keeping, "wasmtime_component_linker_instantiate_async", c_void_p, c_void_p, c_void_p, c_void_p, c_void_p, c_void_p
)
"""(linker, context, component, place of the instance, place of an error) -> future"""
poll: Final = _bound(_letting_go, "wasmtime_call_future_poll", c_bool, c_void_p)
"""(future) -> whether it is over. Runs the guest, on a stack of its own, until it is done, yields, or waits for the host."""
drop_future: Final = _bound(_keeping, "wasmtime_call_future_delete", None, c_void_p)
"""(future); the instance of a call that was not over is dead."""
yield_at_deadlines: Final = _bound(
    _keeping, "wasmtime_context_epoch_deadline_async_yield_and_update", None, c_void_p, c_uint64
)
"""(context, ticks from when the guest goes on to the next deadline)"""
set_epoch_deadline: Final = _bound(_keeping, "wasmtime_context_set_epoch_deadline", None, c_void_p, c_uint64)
"""(context, ticks from now)"""
drop_value: Final = _bound(_letting_go, "wasmtime_component_val_delete", None, c_void_p)
"""(value); frees what it owns."""
clone_value: Final = _bound(_keeping, "wasmtime_component_val_clone", None, c_void_p, c_void_p)
"""(value, place of the copy)"""

ImportCallback: Final = ctypes.CFUNCTYPE(
    None, *(c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t, c_void_p, c_void_p)
)
"""An imported function: (data, context, type, arguments, their number, results, their number, place of an error, place of a Continuation)."""
ContinueCallback: Final = ctypes.CFUNCTYPE(c_bool, c_void_p)
"""(data) -> whether the results are there; called by each poll."""
add_import: Final = _bound(
    _keeping,
    "wasmtime_component_linker_instance_add_func_async",
    c_void_p,
    *(c_void_p, ctypes.c_char_p, c_size_t, ImportCallback, c_void_p, c_void_p),
)
"""(part of a linker, name, its length, callback, no data, no finalizer) -> error or None"""


class Continuation(ctypes.Structure):
    """How an imported function goes on after its callback has returned.

    Attributes:
        callback: address of a ContinueCallback; wasmtime ends the process if there is none.
    """

    _fields_ = (("callback", c_void_p), ("data", c_void_p), ("finalizer", c_void_p))
    callback: int


def address(pointer: Any) -> int:
    """Where a pointer of wasmtime-py points."""
    return ctypes.cast(pointer, c_void_p).value or 0


def error_at(place: int) -> WasmtimeError:
    """The error that a function has returned; it is taken over."""
    made: WasmtimeError = WasmtimeError._from_ptr(ctypes.cast(place, ctypes.POINTER(ffi.wasmtime_error_t)))
    return made
