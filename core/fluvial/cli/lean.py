"""Leaves out of a process what it never uses and would be imported all the same."""

from __future__ import annotations

import sys


def import_structlog() -> None:
    """Import structlog without rich, which it imports where that is installed, for tracebacks in colours; Fluvial's logs have none, and it is a seventh of a start.

    To be called before any module that imports structlog. Who imports rich later gets it.
    """
    if "rich" in sys.modules or "structlog" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # as the documentation of `sys.modules` has it: importing it raises ModuleNotFoundError
    try:
        import structlog  # noqa: F401 - for what it does while rich is away
    finally:
        del sys.modules["rich"]
