"""Takes away from a child process what it does not need; best called before anything is imported that starts threads."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
_CLONE_NEWUSER: Final = 0x10000000
_CLONE_NEWNET: Final = 0x40000000
FILES_MAX: Final = 128


def confine(*, address_bytes: int | None = None, cpu_s: int | None = None) -> bool:
    """Limit this process, and let it die with its parent.

    Args:
        address_bytes: of address space; guests need a lot of that without using it, so only compilers have the limit.
        cpu_s: seconds of processor time.

    Returns:
        Whether the process has no network any more. Where the system does not allow that, guests still have none: WASI denies sockets.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_NOFILE, FILES_MAX)
    if address_bytes is not None:
        _lower(resource.RLIMIT_AS, address_bytes)
    if cpu_s is not None:
        _lower(resource.RLIMIT_CPU, cpu_s)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write beyond the limit fails instead
    try:
        libc = die_with_parent()
        return bool(libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)
    except (AttributeError, OSError):
        return False  # no Linux


def die_with_parent() -> ctypes.CDLL:
    """Let this process be killed when its parent ends; the C library. Raises AttributeError or OSError where the system has no such thing."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return libc


def limit_use(*, memory_bytes: int, file_bytes: int) -> None:
    """Limit what the process may write: memory of its own, and each file."""
    _lower(resource.RLIMIT_DATA, memory_bytes)
    _lower(resource.RLIMIT_FSIZE, file_bytes)


def own_streams() -> tuple[int, int]:
    """The pipes to the parent, moved away from where a guest's output would go."""
    receiving, sending = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for taken in (0, 1):
        os.dup2(null, taken)
    return receiving, sending


def _lower(what: int, most: int) -> None:
    _, hard = resource.getrlimit(what)
    least = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (least, least))
