"""The name of the host's tables and where their migrations are; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fluvial.tables import Tables

TABLES: Final = Tables(name="consensus", migrations=Path(__file__).parent / "migrations")
