"""What core's table groups share: where their migrations are."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MIGRATIONS: Final = Path(__file__).parent / "migrations"
"""Alembic's environment for all chains of migrations; core's lie in its folder ``versions``."""

VERSION_TABLE: Final = "fluvial_version"
"""Where Alembic notes the revision of core's tables."""
