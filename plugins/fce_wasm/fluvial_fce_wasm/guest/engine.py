"""The engine: how guests are compiled, and the clock that interrupts them."""

from __future__ import annotations

import math
import threading
import time
import weakref
from pathlib import Path
from typing import Final

from wasmtime import Config, Engine, component

from fluvial_fce_wasm.limits import DETERMINISTIC, PLAIN

STACK_BYTES: Final = 512 * 1024
"""Stack of a guest. Threads must have more than that, or a deep recursion ends the process: glibc's have 8 MiB."""
TICK_S: Final = 0.005
"""How exact deadlines are, in seconds."""


class GuestEngine:
    """Compiles components and runs them with deadlines. One serves any number of services and threads.

    Args:
        counts_fuel: whether calls have a price that is the same everywhere. Results are then the same everywhere, too: not-a-number has one
            form, and no relaxed SIMD depends on the machine. Calls are slower by up to a half.
    """

    def __init__(self, *, counts_fuel: bool = False) -> None:
        config = Config()
        config.epoch_interruption = True
        config.max_wasm_stack = STACK_BYTES
        config.wasm_threads = False
        if counts_fuel:
            config.consume_fuel = True
            config.cranelift_nan_canonicalization = True
            config.wasm_relaxed_simd_deterministic = True
        self.native: Final = Engine(config)
        self.counts_fuel: Final = counts_fuel
        self.profile: Final = DETERMINISTIC if counts_fuel else PLAIN
        self._loaded: weakref.WeakValueDictionary[Path, component.Component] = weakref.WeakValueDictionary()
        self._changed = threading.Condition()
        self._running = 0
        self._ticker: threading.Thread | None = None

    def load(self, compiled: Path) -> component.Component:
        """Compiled code from a file whose seal was checked (``compiling.py``); services that use the same code share it."""
        with self._changed:
            if (found := self._loaded.get(compiled)) is None:
                found = self._loaded[compiled] = component.Component.deserialize_file(self.native, str(compiled))
            return found

    def begin(self) -> None:
        """Let time pass for guests until :meth:`end`; without it no deadline ever comes."""
        with self._changed:
            self._running += 1
            if self._ticker is None:
                self._ticker = threading.Thread(target=self._tick, name="fluvial-fce-ticker", daemon=True)
                self._ticker.start()
            elif self._running == 1:
                self._changed.notify()

    def end(self) -> None:
        """The call that began has ended."""
        with self._changed:
            self._running -= 1

    @staticmethod
    def ticks(seconds: float) -> int:
        """The deadline that lies ``seconds`` ahead, as ticks from now."""
        return max(1, math.ceil(seconds / TICK_S) + 1)

    def _tick(self) -> None:
        """Tick as often as time has passed, also when this thread wakes late; sleep while nobody runs, and end after a while."""
        while True:
            with self._changed:
                if not self._running and not self._changed.wait_for(lambda: self._running > 0, timeout=IDLE_S):
                    self._ticker = None
                    return
            began, ticked = time.monotonic(), 0
            while self._running:
                time.sleep(TICK_S)
                due = int((time.monotonic() - began) / TICK_S)
                for _ in range(due - ticked):
                    self.native.increment_epoch()
                ticked = due


IDLE_S: Final = 5.0
"""After so many seconds without calls the ticking thread ends."""
