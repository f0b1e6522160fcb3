"""Who has added a blueprint: deployers share the places."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

SORTED = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def upgrade() -> None:
    """Add the column; of those that are there nobody knows it."""
    op.add_column("fce_blueprints", sa.Column("added_by", SORTED, nullable=False, server_default=""))
