"""The end of a process that runs a peer: it comes, whatever plugins have left behind.

An orderly stop ends with the database closed and nothing promised that is not kept. Python then still waits for what is left: for tasks that
ignore their cancellation, before the event loop can be closed, and for threads that never return. Nothing of that is worth waiting for without end.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Final

import structlog

from fluvial.faults import describe

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What ends a peer in order."""
EXIT_S: Final = 4.0
"""How long tasks and threads may go on after the peer has stopped, in seconds."""
EXIT_CODE: Final = 1
NAMED_MAX: Final = 8


class ProcessEnd:
    """Made before the event loop is; what is there already is nobody's leftover.

    Args:
        log: told ``peer_exit_forced``, with what still runs.
        within_s: how long it is waited for, in seconds.
    """

    def __init__(self, log: structlog.stdlib.BoundLogger, *, within_s: float = EXIT_S) -> None:
        self._log = log
        self._within_s = within_s
        self._before = frozenset(threading.enumerate())
        self._at_close: tuple[threading.Thread, ...] | None = None

    def begin(self, failed: BaseException | None = None) -> None:
        """The peer has stopped: end this process with :data:`EXIT_CODE` if something that it began still goes on after a while.

        Args:
            failed: why the peer has stopped, if that is an error; nobody else might come to say so.
        """
        for one in STOP_SIGNALS:  # further ones: it ends anyhow, and its exit code tells how it has stopped
            signal.signal(one, signal.SIG_IGN)
        threading.Thread(target=self._force, args=(failed,), name="fluvial: end of the process", daemon=True).start()

    def loop_closed(self) -> None:
        """No task goes on any more; of the threads only those that there are now are the peer's."""
        self._at_close = self._threads()

    def _threads(self) -> tuple[threading.Thread, ...]:
        return tuple(one for one in threading.enumerate() if not (one.daemon or one in self._before))

    def _force(self, failed: BaseException | None) -> None:
        time.sleep(self._within_s)
        threads = [
            one.name for one in (self._threads() if self._at_close is None else self._at_close) if one.is_alive()
        ]
        if self._at_close is not None and not threads:
            return  # Python ends by itself
        self._log.error(
            "peer_exit_forced",
            error=f"something that a plugin has begun goes on after {self._within_s:g} s",
            threads=threads[:NAMED_MAX],
            failed="" if failed is None else describe(failed),
        )
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # it is, if it was closed when Python began
                with suppress(
                    OSError, ValueError
                ):  # a full disk, a reader that has gone: the process ends all the same
                    stream.flush()
        os._exit(EXIT_CODE)
