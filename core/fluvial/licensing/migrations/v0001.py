"""What a provider keeps of each licence: the highest voucher, and what was used of it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "licences_used",
        sa.Column("licence", sa.LargeBinary(32), nullable=False),
        sa.Column("licensee", sa.LargeBinary(32), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("signature", sa.LargeBinary(64), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("licence", name="pk_licences_used"),
    )
