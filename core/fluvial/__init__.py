"""Fluvial: a peer-to-peer runtime for applications that no single machine, vendor or owner runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fluvial.hooks import hookimpl

__all__ = ["hookimpl"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """``hookimpl`` on first use, so that what needs no hooks (the language, ``fluvial --help``) does not load their machinery."""
    if name == "hookimpl":
        from fluvial.hooks import hookimpl

        return hookimpl
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
