"""The end of a process that runs a peer: it comes, whatever plugins have left behind.

An orderly stop ends with the database closed and nothing promised that is not kept. Python then still waits for what is left: for tasks that
ignore their cancellation, for threads that never return, for functions of ``atexit``. Nothing of that is worth waiting for without end.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Final

import structlog

from fluvial.faults import describe

EXIT_S: Final = 3.0
"""How long Python may take to end after the peer has stopped, in seconds."""
EXIT_CODE: Final = 1
NAMED_MAX: Final = 8


def end_soon(
    log: structlog.stdlib.BoundLogger, *, failed: BaseException | None = None, within_s: float = EXIT_S
) -> None:
    """End this process with :data:`EXIT_CODE` and a line in the log, unless it has ended by itself before.

    Args:
        log: told ``peer_exit_forced``, with what still runs.
        failed: why the peer has stopped, if that is an error; nobody else might come to say so.
        within_s: how long it is waited for, in seconds.
    """

    def force() -> None:
        time.sleep(within_s)
        threads = [one.name for one in threading.enumerate() if not one.daemon and one is not threading.main_thread()]
        log.error(
            "peer_exit_forced",
            error=f"something that a plugin has begun does not end within {within_s:g} s",
            threads=threads[:NAMED_MAX],
            failed="" if failed is None else describe(failed),
        )
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(EXIT_CODE)

    threading.Thread(target=force, name="fluvial: end of the process", daemon=True).start()
