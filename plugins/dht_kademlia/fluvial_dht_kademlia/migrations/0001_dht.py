"""The address book, the records that are kept for others, and what this peer itself publishes."""

import sqlalchemy as sa
from alembic import op
from fluvial.tables import SortedText

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "kademlia_contacts",
        sa.Column("peer", SortedText, primary_key=True),
        sa.Column("addresses", sa.Text, nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "kademlia_records",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("provider", SortedText, primary_key=True),
        sa.Column("challenge", sa.LargeBinary, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
        sa.Column("since_ms", sa.BigInteger, nullable=False),
        sa.Column("expires_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "kademlia_publications",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("challenge", sa.LargeBinary, nullable=False),
        sa.Column("record", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "kademlia_provided",
        sa.Column("key", sa.LargeBinary, primary_key=True),
        sa.Column("challenge", sa.LargeBinary, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.Column("service", sa.Text, nullable=False),
    )
