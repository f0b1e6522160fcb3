"""Words by peer."""

import sqlalchemy as sa
from alembic import op
from fluvial.tables import SortedText

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "greetings_words",
        sa.Column("peer", SortedText, primary_key=True),
        sa.Column("word", sa.Text, nullable=False),
    )
