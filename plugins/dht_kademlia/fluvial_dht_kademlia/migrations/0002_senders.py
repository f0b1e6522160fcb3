"""Which peer brought a record: what is kept for others is shared among those who bring it."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; empty for records whose senders are not known."""
    op.add_column("kademlia_records", sa.Column("sender", sa.Text, nullable=False, server_default=""))
