"""What core's table groups share: the metadata they register in."""

from __future__ import annotations

from typing import Final

from fluvial.tables import new_metadata

VERSION_TABLE: Final = "fluvial_version"
"""Where Alembic notes the revision of core's tables."""

metadata: Final = new_metadata()
