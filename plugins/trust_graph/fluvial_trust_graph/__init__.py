"""Trust among peers: signed statements, the weights that follow from them, and why."""

from __future__ import annotations

__version__ = "0.1.0"
