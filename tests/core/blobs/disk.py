"""A disk that is slow or fails at one operation, so that a test can act in the middle of it."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import pytest
from anyio import from_thread

HOLD_S: Final = 30.0
"""A test that never releases what it holds fails after so long, instead of hanging."""


@dataclass
class HeldCall:
    """A function of :mod:`os` whose callers wait in their worker threads.

    Attributes:
        reached: set when the first caller waits.
    """

    reached: anyio.Event = field(default_factory=anyio.Event)
    _released: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let all callers go on, also later ones."""
        self._released.set()

    def wait(self) -> None:
        """In the worker thread: say that a caller is here, and wait."""
        if not self._released.is_set():
            from_thread.run_sync(self.reached.set)
            assert self._released.wait(HOLD_S)


@contextmanager
def held(name: str) -> Iterator[HeldCall]:
    """Hold the callers of a function of :mod:`os` until the test releases them, or the block ends."""
    call, real = HeldCall(), getattr(os, name)

    def wait(*args: Any, **options: Any) -> Any:
        call.wait()
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, wait)
        try:
            yield call
        finally:
            call.release()


@contextmanager
def failing(name: str) -> Iterator[None]:
    """Let a function of :mod:`os` fail as a broken disk does."""

    def fail(*args: Any, **options: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, fail)
        yield
