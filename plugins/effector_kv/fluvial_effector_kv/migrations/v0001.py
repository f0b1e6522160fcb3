"""Entries, and what each store takes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SORTED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "kv_entries",
        sa.Column("store", SORTED, nullable=False),
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("value", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("store", "key", name="pk_kv_entries"),
    )
    op.create_table(
        "kv_usage",
        sa.Column("store", SORTED, nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("store", name="pk_kv_usage"),
    )
