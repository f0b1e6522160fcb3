"""A plugin's tables for tests: notes, in two steps of development; and folders of migrations made on the spot."""

from __future__ import annotations

from pathlib import Path

from fluvial.tables import SortedText, Tables, new_metadata
from sqlalchemy import BigInteger, Column, Table

FIRST = """
import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "note_pages",
        sa.Column("title", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.PrimaryKeyConstraint("title", name="pk_note_pages"),
    )
"""
SECOND = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.add_column("note_pages", sa.Column("at_ms", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("ix_note_pages_at_ms", "note_pages", ["at_ms"])
"""

metadata = new_metadata()
pages = Table(
    "note_pages",
    metadata,
    Column("title", SortedText, primary_key=True),
    Column("at_ms", BigInteger, nullable=False, index=True, server_default="0"),
)


def tables_with(folder: Path, *migrations: str, name: str = "note") -> Tables:
    """A declaration whose migrations are these texts."""
    place = folder / f"{name}-migrations-{len(migrations)}"
    place.mkdir(exist_ok=True)
    for number, migration in enumerate(migrations):
        (place / f"v{number}.py").write_text(migration)
    return Tables(name=name, migrations=place)


def upgrading(*lines: str) -> str:
    """A first migration that does this."""
    body = "".join(f"    {line}\n" for line in lines)
    return f"import sqlalchemy as sa\nfrom alembic import op\n\nrevision = '0001'\ndown_revision = None\n\n\ndef upgrade():\n{body}"
