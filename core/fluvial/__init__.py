"""Fluvial: a peer-to-peer runtime for applications that no single machine, vendor or owner runs."""

from fluvial.hooks import hookimpl

__all__ = ["hookimpl"]
__version__ = "0.1.0"
