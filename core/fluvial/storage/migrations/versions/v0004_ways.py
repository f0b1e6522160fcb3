"""How those who were handed a particle were found."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "ways",
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", "peer", name="pk_ways"),
        sa.ForeignKeyConstraint(["key"], ["particles.key"], name="fk_ways_key", ondelete="CASCADE"),
    )
