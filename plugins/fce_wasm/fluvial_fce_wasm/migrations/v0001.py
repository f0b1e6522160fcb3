"""Modules, blueprints, services and their aliases."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SORTED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "fce_modules",
        sa.Column("id", SORTED, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("shape", sa.LargeBinary(), nullable=False),
        sa.Column("added_by", SORTED, nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_fce_modules"),
    )
    op.create_table(
        "fce_blueprints",
        sa.Column("id", SORTED, nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("added_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_fce_blueprints"),
    )
    op.create_table(
        "fce_services",
        sa.Column("id", SORTED, nullable=False),
        sa.Column("blueprint", SORTED, nullable=False),
        sa.Column("owner", SORTED, nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_fce_services"),
    )
    op.create_table(
        "fce_aliases",
        sa.Column("alias", SORTED, nullable=False),
        sa.Column("service", SORTED, nullable=False),
        sa.PrimaryKeyConstraint("alias", name="pk_fce_aliases"),
    )
