"""The transport seat over TCP: peers that have proven their keys to each other exchange messages over one encrypted connection."""

from __future__ import annotations

__version__ = "0.1.0"
