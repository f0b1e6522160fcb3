"""Ways to call a function of a guest from a program of the host, for ``bench/fce.py``: stock wasmtime-py, extism, Marine in Node."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final

from wasmtime import Config, Engine, Store, component, wat2wasm

HERE: Final = Path(__file__).resolve().parent
WAT: Final = HERE.parent / "tests" / "conformance" / "fce"
RESULTS: Final[dict[str, Any]] = {"add": 5, "echo": "x" * 1024, "sum-points": 498_500}
"""What the calls of the benchmark must give."""
EXTISM: Final = """(module
  (import "extism:host/env" "input_length" (func $length (result i64)))
  (import "extism:host/env" "input_load_u64" (func $load (param i64) (result i64)))
  (import "extism:host/env" "alloc" (func $alloc (param i64) (result i64)))
  (import "extism:host/env" "store_u64" (func $store (param i64 i64)))
  (import "extism:host/env" "output_set" (func $output (param i64 i64)))
  (memory (export "memory") 2)
  (func $take (result i32) (local $n i64) (local $k i64)
    (local.set $n (call $length))
    (block $done (loop $next (br_if $done (i64.ge_u (local.get $k) (local.get $n)))
      (i64.store (i32.wrap_i64 (local.get $k)) (call $load (local.get $k)))
      (local.set $k (i64.add (local.get $k) (i64.const 8))) (br $next)))
    (i32.wrap_i64 (local.get $n)))
  (func $give (param $n i32) (local $to i64) (local $k i32)
    (local.set $to (call $alloc (i64.extend_i32_u (local.get $n))))
    (block $done (loop $next (br_if $done (i32.ge_u (local.get $k) (local.get $n)))
      (call $store (i64.add (local.get $to) (i64.extend_i32_u (local.get $k))) (i64.load (local.get $k)))
      (local.set $k (i32.add (local.get $k) (i32.const 8))) (br $next)))
    (call $output (local.get $to) (i64.extend_i32_u (local.get $n))))
  (func (export "add") (result i32)
    (drop (call $take))
    (i64.store (i32.const 0) (i64.extend_i32_s (i32.add (i32.load (i32.const 0)) (i32.load (i32.const 4)))))
    (call $give (i32.const 8)) (i32.const 0))
  (func (export "echo") (result i32) (call $give (call $take)) (i32.const 0)))"""
"""Its functions have bytes for arguments, eight of which are copied at a time, as its libraries for guests do."""


class Way(ABC):
    """One way to call.

    Attributes:
        name: for the table.
    """

    name: str

    @abstractmethod
    def seconds(self, call: str, arguments: list[Any], times: int) -> float | None:
        """What a call takes, of so many; None if this way has no such call. Raises AssertionError: the result is wrong."""

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """End it."""


def timed(work: Callable[[], Any], call: str, times: int) -> float:
    """Seconds of a call, whose result is looked at once."""
    assert work() == RESULTS[call], f"{call} gives a wrong result"
    began = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - began) / times


class Stock(Way):
    """wasmtime-py's own codec, with the interruption that every host needs."""

    name = "stock wasmtime-py"

    def __init__(self) -> None:
        config = Config()
        config.epoch_interruption = True
        engine = Engine(config)
        linker = component.Linker(engine)
        module = component.Component(engine, bytes(wat2wasm((WAT / "kit.wat").read_text())))
        with linker.root() as root, root.add_instance("fluvial:probe/env") as env:
            env.add_func("note", lambda store, text: None)
            env.add_func("twice", lambda store, n: 2 * n)
        self._store = Store(engine)
        self._store.set_epoch_deadline(10**9)
        self._instance = linker.instantiate(self._store, module)

    def seconds(self, call: str, arguments: list[Any], times: int) -> float | None:
        """As in the base class."""
        function = self._instance.get_func(self._store, call)
        assert function is not None
        given = [[_record(point) for point in arguments[0]]] if call == "sum-points" else arguments
        return timed(lambda: function(self._store, *given), call, times)


def _record(values: dict[str, Any]) -> component.Record:
    made = component.Record()
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Extism(Way):
    """extism from PyPI. It passes bytes only, so records would be a matter of the codec that one chooses."""

    name = "extism"

    def __init__(self) -> None:
        import extism

        self._plugin = extism.Plugin({"wasm": [{"data": bytes(wat2wasm(EXTISM))}]}, wasi=False)

    def seconds(self, call: str, arguments: list[Any], times: int) -> float | None:
        """As in the base class."""
        if call == "add":
            return timed(
                lambda: struct.unpack("<q", self._plugin.call("add", struct.pack("<ii", *arguments)))[0], call, times
            )
        if call == "echo":
            return timed(lambda: self._plugin.call("echo", arguments[0].encode()).decode(), call, times)
        return None


class Marine(Way):
    """Marine in Node: the engine of Fluence, called from JavaScript.

    Args:
        folder: has ``node_modules/@fluencelabs/marine-js``.
        scratch: for the module.
    """

    name = "Marine in Node"

    def __init__(self, folder: Path, scratch: Path) -> None:
        from _marine import marine_module

        module = scratch / "marine.wasm"
        module.write_bytes(marine_module())
        command = ["node", str(HERE / "_marine.mjs"), str(folder), str(module)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def seconds(self, call: str, arguments: list[Any], times: int) -> float | None:
        """As in the base class."""
        order = {"name": call.replace("-", "_"), "arguments": arguments, "times": times}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        assert answer["result"] == RESULTS[call], f"{call} gives a wrong result"
        return float(answer["us"]) / 1e6

    def _read(self) -> dict[str, Any]:
        output: IO[str] | None = self._process.stdout
        assert output is not None
        line = output.readline()
        if not line:
            raise RuntimeError(f"Marine in Node ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End Node."""
        self._process.kill()
        self._process.wait()


def others(scratch: Path) -> list[Way]:
    """Those ways of others that are installed; what is left out is told."""
    found: list[Way] = [Stock()]
    if find_spec("extism"):
        found.append(Extism())
    else:
        print("extism is left out: pip install extism", file=sys.stderr)
    folder = Path(os.environ.get("MARINE_JS", HERE.parent))
    if shutil.which("node") and (folder / "node_modules" / "@fluencelabs" / "marine-js").is_dir():
        found.append(Marine(folder, scratch))
    else:
        print(
            f"Marine in Node is left out: npm install @fluencelabs/marine-js in {folder}, or in a folder that MARINE_JS names",
            file=sys.stderr,
        )
    return found
