"""Whose bytes are whose; what is left of particles that have ended."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the account's columns, and the tables of stories and guards. What is there already is nobody's, and is estimated by its size."""
    no_one = sa.text("''") if op.get_bind().dialect.name == "postgresql" else sa.text("x''")
    for table in ("particles", "scripts"):
        op.add_column(table, sa.Column("initiator", sa.LargeBinary(32), nullable=False, server_default=no_one))
    op.add_column("particles", sa.Column("bytes", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    op.execute(
        "UPDATE particles SET bytes = 2000 + "
        "(SELECT coalesce(sum(length(payload) + CASE WHEN length(payload) < 4096 THEN length(payload) ELSE 4096 END + 200), 0) "
        "FROM journal WHERE journal.key = particles.key)"
    )
    op.create_table(
        "stories",
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("hops", sa.BigInteger(), nullable=False),
        sa.Column("received_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("deadline_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("initiator", sa.LargeBinary(32), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("story", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_stories"),
    )
    for column in ("id", "received_at_ms", "deadline_ms"):
        op.create_index(f"ix_stories_{column}", "stories", [column])
    op.create_table(
        "replay_guards",
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("deadline_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_replay_guards"),
    )
    op.create_index("ix_replay_guards_deadline_ms", "replay_guards", ["deadline_ms"])
