"""Particles, their scripts, journals and outboxes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the four tables."""
    op.create_table(
        "scripts",
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("text", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name="pk_scripts"),
    )
    op.create_table(
        "particles",
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("id", sa.Text().with_variant(sa.Text(collation="C"), "postgresql"), nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(64), nullable=False),
        sa.Column("script_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("deadline_ms", sa.BigInteger(), nullable=False),
        sa.Column("received_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("hops", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("entries", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_particles"),
        sa.ForeignKeyConstraint(["script_hash"], ["scripts.hash"], name="fk_particles_script_hash"),
    )
    for column in ("id", "script_hash", "deadline_ms", "received_at_ms", "state"):
        op.create_index(f"ix_particles_{column}", "particles", [column])
    op.create_table(
        "journal",
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key", "seq", name="pk_journal"),
        sa.ForeignKeyConstraint(["key"], ["particles.key"], name="fk_journal_key", ondelete="CASCADE"),
    )
    op.create_table(
        "outbox",
        sa.Column("key", sa.LargeBinary(32), nullable=False),
        sa.Column("peer", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("since_ms", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.BigInteger(), nullable=False),
        sa.Column("last_error", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", "peer", name="pk_outbox"),
        sa.ForeignKeyConstraint(["key"], ["particles.key"], name="fk_outbox_key", ondelete="CASCADE"),
    )
    op.create_index("ix_outbox_peer", "outbox", ["peer"])
