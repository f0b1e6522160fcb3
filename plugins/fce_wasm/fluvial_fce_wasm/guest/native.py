"""The functions of wasmtime's C interface that every call uses, bound with plain addresses.

wasmtime-py binds them with typed pointers, which ctypes checks and converts anew in each call, and lets go of the interpreter's lock around each of
them. Only a guest may take long; the others are over before another thread could take the lock, so they keep it.
"""

from __future__ import annotations

import ctypes
from ctypes import c_size_t, c_uint64, c_void_p
from typing import Any, Final

from wasmtime import WasmtimeError
from wasmtime import _ffi as ffi

_keeping: Final = ctypes.PyDLL(ffi.dll._name, handle=ffi.dll._handle)
_letting_go: Final = ctypes.CDLL(ffi.dll._name, handle=ffi.dll._handle)


def _bound(library: ctypes.CDLL, name: str, result: Any, *arguments: Any) -> Any:
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


call: Final = _bound(
    _letting_go, "wasmtime_component_func_call", c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_size_t
)
"""(function, context, arguments, their number, results, their number) -> error or None; runs the guest."""
set_epoch_deadline: Final = _bound(_keeping, "wasmtime_context_set_epoch_deadline", None, c_void_p, c_uint64)
"""(context, ticks from now)"""
drop_value: Final = _bound(_letting_go, "wasmtime_component_val_delete", None, c_void_p)
"""(value); frees what it owns."""


def address(pointer: Any) -> int:
    """Where a pointer of wasmtime-py points."""
    return ctypes.cast(pointer, c_void_p).value or 0


def error_at(place: int) -> WasmtimeError:
    """The error that a function has returned; it is taken over."""
    made: WasmtimeError = WasmtimeError._from_ptr(ctypes.cast(place, ctypes.POINTER(ffi.wasmtime_error_t)))
    return made
