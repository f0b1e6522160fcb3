"""When a word was told."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; words from before are the oldest."""
    op.add_column("greetings_words", sa.Column("told_ms", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("ix_greetings_words_told_ms", "greetings_words", ["told_ms"])
