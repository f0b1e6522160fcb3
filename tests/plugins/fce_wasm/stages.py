"""A service of five modules as in the white paper's picture: facade, logic, storage, a connector to an effector, and a library that two of them share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from wasmtime import wat2wasm

LIBC: Final = """(core module $libc (memory (export "m") 2) (global $b (mut i32) (i32.const 4096))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32) (local $p i32)
      (local.set $p (i32.and (i32.add (global.get $b) (i32.const 7)) (i32.const -8)))
      (global.set $b (i32.add (local.get $p) (local.get 3))) (local.get $p))
    (func (export "reset") (global.set $b (i32.const 4096))))
  (core instance $l (instantiate $libc))"""

LIBRARY: Final = """(component (core module $m (global $n (mut i64) (i64.const 0))
    (func (export "next") (result i64) (global.set $n (i64.add (global.get $n) (i64.const 1))) (global.get $n)))
  (core instance $i (instantiate $m)) (func $next (result s64) (canon lift (core func $i "next")))
  (instance (export "paper:lib/counter@0.1.0") (export "next" (func $next))))"""

CONNECTOR: Final = f"""(component
  (import "fluvial:kv/store@0.1.0" (instance $kv
    (export "set" (func (param "key" string) (param "value" string) (result (result (error string)))))))
  {LIBC}
  (core func $set (canon lower (func $kv "set") (memory (core memory $l "m")) (realloc (core func $l "realloc"))))
  (core module $m (import "l" "m" (memory 2)) (import "l" "reset" (func $reset)) (import "h" "set" (func $set (param i32 i32 i32 i32 i32)))
    (func (export "put") (param i32 i32) (result i64)
      (call $set (local.get 0) (local.get 1) (local.get 0) (local.get 1) (i32.const 16)) (call $reset)
      (i64.extend_i32_u (i32.load8_u (i32.const 16)))))
  (core instance $i (instantiate $m (with "l" (instance $l)) (with "h" (instance (export "set" (func $set))))))
  (func $put (param "text" string) (result s64) (canon lift (core func $i "put") (memory (core memory $l "m")) (realloc (core func $l "realloc"))))
  (instance (export "paper:app/notes@0.1.0") (export "put" (func $put))))"""


def stage(takes: str, gives: str, then: str, *, counts: bool = False) -> str:
    """A module that hands a text on to the function of an interface, and does something with the number that comes back.

    Args:
        takes, gives: ``interface function``, without version.
        then: core instructions from ``(local.get 2)``, the number, to the result; ``(call $next)`` counts if ``counts``.
    """
    (from_, imported), (to, exported) = takes.split(), gives.split()
    library = '(import "paper:lib/counter@0.1.0" (instance $lib (export "next" (func (result s64)))))' if counts else ""
    lowered = '(core func $next (canon lower (func $lib "next")))' if counts else ""
    given = '(export "next" (func $next))' if counts else ""
    wanted = '(import "h" "next" (func $next (result i64)))' if counts else ""
    return f"""(component
  (import "{from_}@0.1.0" (instance $x (export "{imported}" (func (param "text" string) (result s64))))) {library}
  {LIBC}
  (core func $do (canon lower (func $x "{imported}") (memory (core memory $l "m")))) {lowered}
  (core module $m (import "l" "reset" (func $reset)) (import "h" "do" (func $do (param i32 i32) (result i64))) {wanted}
    (func (export "f") (param i32 i32) (result i64) (local i64)
      (local.set 2 (call $do (local.get 0) (local.get 1))) (call $reset) {then}))
  (core instance $i (instantiate $m (with "l" (instance $l)) (with "h" (instance (export "do" (func $do)) {given}))))
  (func $f (param "text" string) (result s64) (canon lift (core func $i "f") (memory (core memory $l "m")) (realloc (core func $l "realloc"))))
  (instance (export "{to}@0.1.0") (export "{exported}" (func $f))))"""


STORAGE: Final = stage(
    "paper:app/notes put",
    "paper:app/storage keep",
    "(i64.add (i64.mul (local.get 2) (i64.const 1000000)) (call $next))",
    counts=True,
)
LOGIC: Final = stage(
    "paper:app/storage keep", "paper:app/logic handle", "(i64.add (local.get 2) (call $next))", counts=True
)
LOGIC_2: Final = stage(
    "paper:app/storage keep",
    "paper:app/logic handle",
    "(i64.sub (i64.const 0) (i64.add (local.get 2) (call $next)))",
    counts=True,
)
FACADE: Final = stage("paper:app/logic handle", "paper:app/api send", "(local.get 2)")
NAMES: Final = ("library", "connector", "storage", "logic", "facade")


def write_service(folder: Path, *, logic: str = LOGIC) -> Path:
    """Write the five modules and their manifest; the manifest's path."""
    folder.mkdir(exist_ok=True)
    texts: Sequence[str] = (LIBRARY, CONNECTOR, STORAGE, logic, FACADE)
    lines = ['name = "paper"', 'alias = "notes"', ""]
    for name, text in zip(NAMES, texts, strict=True):
        (folder / f"{name}.wasm").write_bytes(wat2wasm(text))
        lines += ["[[module]]", f'name = "{name}"', f'file = "{name}.wasm"', ""]
    manifest = folder / "service.toml"
    manifest.write_text("\n".join(lines))
    return manifest
