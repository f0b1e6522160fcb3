"""At which height of the ledger each licence was there: one that is not there later was closed."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; 0 where nobody knows it."""
    op.add_column("licences_used", sa.Column("seen", sa.BigInteger(), nullable=False, server_default="0"))
