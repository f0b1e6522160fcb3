"""Whose code runs: what the event loop does to a plugin's own tasks and callbacks is logged and counted under the plugin's name.

A guard sees what comes out of the calls that it makes. A plugin may also begin work of its own on the event loop, such as
``asyncio.create_task`` or ``call_later``. Such work inherits the context of who began it, and with it this variable.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, TypeAlias

Blame: TypeAlias = Callable[[BaseException], object]
"""Logs and counts an exception under the name of a plugin."""

BLAME: Final[ContextVar[Blame | None]] = ContextVar("fluvial_blame", default=None)
"""Told of what the work that runs in this context does to the event loop."""
