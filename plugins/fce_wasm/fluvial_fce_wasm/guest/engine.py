"""The engine: how guests are compiled, and the clock that divides their time into slices."""

from __future__ import annotations

import threading
import time
import weakref
from pathlib import Path
from typing import Final

from wasmtime import Config, Engine, component

from fluvial_fce_wasm.limits import DETERMINISTIC, PLAIN

STACK_BYTES: Final = 512 * 1024
"""What a guest may use of its stack."""
TICK_S: Final = 0.005
"""A slice of time, after which a guest leaves its thread; deadlines are as exact as that."""
IDLE_TICKS: Final = 10
"""So many are made after the last call, since waking the ticking thread costs more than they do."""
IDLE_S: Final = 5.0
"""After so many seconds without calls the ticking thread ends."""


class CompiledCode:
    """Code that services share; it is freed when the last of them lets go of it.

    The component is behind it because it frees itself in ``__del__``: a weak reference to it finds it still while that goes on.

    Attributes:
        component: the code.
    """

    __slots__ = ("__weakref__", "component")

    def __init__(self, component: component.Component) -> None:
        self.component: Final = component


class GuestEngine:
    """Compiles components and runs them in slices of time. One serves any number of services and threads.

    Args:
        counts_fuel: whether calls have a price that is the same everywhere. Results are then the same everywhere, too: not-a-number has one
            form, and no relaxed SIMD depends on the machine. Calls are slower by up to a half.

    Attributes:
        epoch: how many ticks there were.
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
        self.epoch = 0
        self.counts_fuel: Final = counts_fuel
        self.profile: Final = DETERMINISTIC if counts_fuel else PLAIN
        self._loaded: weakref.WeakValueDictionary[Path, CompiledCode] = weakref.WeakValueDictionary()
        self._loading = threading.Lock()
        self._running: set[object] = set()
        self._starting = threading.Lock()
        self._is_asleep = True
        self._awake = threading.Event()
        self._ticker: threading.Thread | None = None

    def load(self, compiled: Path) -> CompiledCode:
        """Compiled code from a file whose seal was checked (``compiling.py``); services that use the same code share it."""
        with self._loading:
            if (found := self._loaded.get(compiled)) is None:
                made = component.Component.deserialize_file(self.native, str(compiled))
                found = self._loaded[compiled] = CompiledCode(made)
            return found

    def begin(self, who: object) -> None:
        """Let time pass for a guest until :meth:`end`; without it no time slice ever ends."""
        self._running.add(who)
        if self._is_asleep:  # it is read after the guest was added, and the ticker does it the other way round: one of both sees the other
            self._wake()

    def end(self, who: object) -> None:
        """The guest that began has ended."""
        self._running.discard(who)

    def _wake(self) -> None:
        with self._starting:
            self._is_asleep = False
            self._awake.set()
            if self._ticker is None:
                self._ticker = threading.Thread(target=self._tick, name="fluvial-fce-ticker", daemon=True)
                self._ticker.start()

    def _tick(self) -> None:
        """Tick while somebody runs and a moment longer; then sleep, and end after a while."""
        idle = 0
        while True:
            time.sleep(TICK_S)
            self.native.increment_epoch()
            self.epoch += 1
            idle = 0 if self._running else idle + 1
            if idle >= IDLE_TICKS:
                self._awake.clear()
                self._is_asleep = True
                if not self._running and not self._awake.wait(IDLE_S):
                    with self._starting:
                        if not self._awake.is_set():
                            self._ticker = None
                            return
                self._is_asleep = False
                idle = 0
