"""Core's prepared statements: their definitions are modules beside this one, which a peer on SQLite does not import."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fluvial.prepared import KeptStatements

PARTICLES: Final = KeptStatements(
    "fluvial.storage.particle_statements", Path(__file__).with_name("particle_statements.sql")
)
OWNERS: Final = KeptStatements("fluvial.storage.owner_statements", Path(__file__).with_name("owner_statements.sql"))
