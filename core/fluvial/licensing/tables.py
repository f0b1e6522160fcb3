"""The name of the tables of licences and where their migrations are; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fluvial.tables import Tables

TABLES: Final = Tables(name="licences", migrations=Path(__file__).parent / "migrations")
