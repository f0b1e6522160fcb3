"""The timers of a replica: by name, each fires once and not early. One task waits for whichever is due first."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import anyio


class ReplicaTimers:
    """See the module's docstring.

    Args:
        fired: called with the name of a timer that ran out.
    """

    def __init__(self, fired: Callable[[str], None]) -> None:
        self._fired = fired
        self._due: dict[str, float] = {}
        self._waits_until = inf
        self._sooner = anyio.Event()

    def start(self, name: str, after_ms: int) -> None:
        """Set a timer, in place of one of the same name."""
        due = self._due[name] = anyio.current_time() + after_ms / 1000
        if due < self._waits_until:
            self._sooner.set()

    def stop(self, name: str) -> None:
        """A timer must not fire any more."""
        self._due.pop(name, None)

    async def run(self) -> None:
        """Fire timers until cancelled."""
        while True:
            self._sooner = anyio.Event()
            self._waits_until = min(self._due.values(), default=inf)
            with anyio.CancelScope(deadline=self._waits_until):
                await self._sooner.wait()
            now = anyio.current_time()
            for name in [one for one, due in self._due.items() if due <= now]:
                if self._due.get(name, inf) <= now:  # an earlier one of this turn may have stopped it
                    del self._due[name]
                    self._fired(name)
