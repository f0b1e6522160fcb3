"""Registers the execution ``wasm``."""

from __future__ import annotations

from fluvial import hookimpl
from fluvial.seats import Registry


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the execution."""
