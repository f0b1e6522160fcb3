"""What core's table groups share: the metadata they register in."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fluvial.tables import new_metadata

MIGRATIONS: Final = Path(__file__).parent / "migrations"
"""Alembic's environment for all chains of migrations; core's lie in its folder ``versions``."""

VERSION_TABLE: Final = "fluvial_version"
"""Where Alembic notes the revision of core's tables."""

metadata: Final = new_metadata()
