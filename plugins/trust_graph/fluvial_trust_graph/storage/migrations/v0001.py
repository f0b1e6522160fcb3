"""Statements of trust, and the roots that were set while the peer ran."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the two tables."""
    op.create_table(
        "trust_statements",
        sa.Column("issuer", sa.LargeBinary(32), nullable=False),
        sa.Column("subject", sa.LargeBinary(32), nullable=False),
        sa.Column("statement", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_trust_statements"),
    )
    op.create_table(
        "trust_roots",
        sa.Column("peer", sa.LargeBinary(32), nullable=False),
        sa.Column("exponent", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("peer", name="pk_trust_roots"),
    )
