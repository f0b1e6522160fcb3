"""What a host of consensus keeps: who has voted, records of votes, final blocks, offences."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "consensus_keys",
        sa.Column("peer", sa.LargeBinary(32), nullable=False),
        sa.Column("chain", sa.LargeBinary(32), nullable=False),
        sa.Column("votes_from", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("peer", name="pk_consensus_keys"),
    )
    for table, key in (("consensus_records", "number"), ("consensus_blocks", "height"), ("consensus_proofs", "height")):
        op.create_table(
            table,
            sa.Column(key, sa.BigInteger(), nullable=False, autoincrement=False),
            sa.Column("checksum", sa.BigInteger(), nullable=False),
            sa.Column("entry", sa.LargeBinary(), nullable=False),
            sa.PrimaryKeyConstraint(key, name=f"pk_{table}"),
        )
    op.create_table(
        "consensus_offences",
        sa.Column("offender", sa.LargeBinary(32), nullable=False),
        sa.Column("checksum", sa.BigInteger(), nullable=False),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("offender", name="pk_consensus_offences"),
    )
