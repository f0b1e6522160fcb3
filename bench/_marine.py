"""A Marine module with the functions of the benchmark: core WebAssembly, and the sections that the engine of Fluence reads.

The format as it was found out by running their engine: a custom section ``interface-types`` with blocks of a kind byte each (5 version, 0 types,
2 adapters, 3 exports, 4 implementations), and ``__fluence_sdk_version``. Lengths within a block are one byte, counts and indexes LEB128.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from wasmtime import wat2wasm

CORE: Final = """(module
  (memory (export "memory") 2)
  (global $break (mut i32) (i32.const 1024)) (global $at (mut i32) (i32.const 0)) (global $size (mut i32) (i32.const 0))
  (func (export "allocate") (param $count i32) (param $tag i32) (result i32) (local $at i32) (local $bytes i32)
    (local.set $bytes (i32.shl (local.get $count) (select (i32.const 2) (i32.const 0) (i32.eq (local.get $tag) (i32.const 3)))))
    (local.set $at (i32.and (i32.add (global.get $break) (i32.const 7)) (i32.const -8)))
    (global.set $break (i32.add (local.get $at) (local.get $bytes)))
    (block $enough (br_if $enough (i32.le_u (global.get $break) (i32.mul (memory.size) (i32.const 65536))))
      (drop (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $bytes) (i32.const 65536))))))
    (local.get $at))
  (func (export "release_objects") (global.set $break (i32.const 1024)))
  (func (export "get_result_size") (result i32) (global.get $size))
  (func (export "get_result_ptr") (result i32) (global.get $at))
  (func (export "set_result_size") (param i32) (global.set $size (local.get 0)))
  (func (export "set_result_ptr") (param i32) (global.set $at (local.get 0)))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "echo") (param i32 i32) (global.set $at (local.get 0)) (global.set $size (local.get 1)))
  (func (export "sum_points") (param $p i32) (param $count i32) (result i64) (local $sum i64) (local $q i32)
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $count)))
      (local.set $q (i32.load (local.get $p)))
      (local.set $sum (i64.add (local.get $sum)
        (i64.add (i64.extend_i32_s (i32.load (local.get $q))) (i64.extend_i32_s (i32.load offset=4 (local.get $q))))))
      (local.set $p (i32.add (local.get $p) (i32.const 4))) (local.set $count (i32.sub (local.get $count) (i32.const 1))) (br $next)))
    (global.set $break (i32.const 1024)) (local.get $sum)))"""
VERSION: Final = "0.27.0"
SDK_VERSION: Final = b"0.14.0"

S32, S64, STRING, I32 = b"\x02", b"\x03", b"\x0a", b"\x0c"
POINT: Final = 6
"""Index of the record among the types."""
POINTS: Final = b"\x36\x0e" + bytes([POINT])


def _leb(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80]) + _leb(number >> 7)


def _text(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _fields(fields: Sequence[tuple[str, bytes]]) -> bytes:
    return bytes([len(fields)]) + b"".join(_text(name) + kind for name, kind in fields)


def _function(parameters: Sequence[tuple[str, bytes]], *results: bytes) -> bytes:
    return b"\0" + _fields(parameters) + bytes([len(results)]) + b"".join(results)


def _block(kind: int, entries: Sequence[bytes]) -> bytes:
    return bytes([kind]) + _leb(len(entries)) + b"".join(entries)


def _adapter(kind: int, *instructions: bytes) -> bytes:
    return _leb(kind) + bytes([len(instructions)]) + b"".join(instructions)


def _section(name: str, data: bytes) -> bytes:
    content = _leb(len(name)) + name.encode() + data
    return b"\0" + _leb(len(content)) + content


def marine_module() -> bytes:
    """``add(s32, s32) -> s32``, ``echo(string) -> string``, ``sum_points([Point]) -> s64``."""
    add, echo, total = [("a", S32), ("b", S32)], [("s", STRING)], [("ps", POINTS)]
    types = [
        _function([("size", I32)], I32),
        _function([]),
        _function([], I32),
        _function([], I32),
        _function([("result_size", I32)]),
        _function([("result_ptr", I32)]),
        b"\1" + _text("Point") + _fields([("x", S32), ("y", S32), ("label", STRING)]),
        *[_function(add, S32)] * 2,  # of the interface, and of the core function
        *[_function(echo, STRING)] * 2,
        *[_function(total, S64)] * 2,
    ]
    names = ["allocate", "release_objects", "get_result_size", "get_result_ptr", "set_result_size", "set_result_ptr"]
    exports = [*enumerate(names), (8, "add"), (10, "echo"), (12, "sum_points")]

    def argument(place: int) -> bytes:
        return bytes([0, place])

    def call(place: int) -> bytes:
        return bytes([1, place])

    adapters = [
        _adapter(7, argument(0), b"\x0c", argument(1), b"\x0c", call(6), b"\x06"),
        _adapter(
            9,
            argument(0),
            b"\x24",
            b"\x40\x01",
            call(0),
            argument(0),
            b"\x23",
            call(7),
            call(3),
            call(2),
            b"\x22",
            call(1),
        ),
        _adapter(11, argument(0), b"\x38\x0e" + bytes([POINT]), call(8), b"\x09"),
    ]
    interface = b"\5" + _text(VERSION) + _block(0, types) + _block(2, adapters)
    interface += _block(3, [_text(name) + _leb(kind) for kind, name in exports])
    interface += _block(4, [bytes(pair) for pair in ((8, 7), (10, 9), (12, 11))])
    return (
        bytes(wat2wasm(CORE)) + _section("interface-types", interface) + _section("__fluence_sdk_version", SDK_VERSION)
    )
