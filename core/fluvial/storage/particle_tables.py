"""The tables of particles.

- ``scripts``: text by hash; many particles share one. Its bytes count as those of the initiator who brought it first.
- ``particles``: one row for each particle with a journal. It is also the replay guard, so it outlives the particle's deadline.
- ``journal``: what happened to a particle, append-only, numbered from 0 without gaps.
- ``outbox``: who must still be handed a particle; one row per pair.
- ``ways``: how those who have it were found, for its story; one row per pair.
- ``stories``: what is left of a large particle that has ended: its story, told when its journal was thrown away.
- ``replay_guards``: keys of particles that are gone from ``particles`` before their age alone is a reason to refuse them.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, ForeignKey, LargeBinary, Table, Text

from fluvial.identity import SIGNATURE_BYTES
from fluvial.tables import SortedText, new_metadata

HASH_BYTES: Final = 32

metadata: Final = new_metadata()
"""Of all tables of core."""

scripts: Final = Table(
    "scripts",
    metadata,
    Column("hash", LargeBinary(HASH_BYTES), primary_key=True),
    Column("text", LargeBinary, nullable=False),  # UTF-8: PostgreSQL's TEXT refuses NUL
    Column("initiator", LargeBinary(HASH_BYTES), nullable=False),  # who brought it first
)

particles: Final = Table(
    "particles",
    metadata,
    Column("key", LargeBinary(HASH_BYTES), primary_key=True),
    Column("id", SortedText, nullable=False, index=True),  # for searching; the exact id is in the header
    Column("header", LargeBinary, nullable=False),
    Column("signature", LargeBinary(SIGNATURE_BYTES), nullable=False),
    Column("script_hash", LargeBinary(HASH_BYTES), ForeignKey(scripts.c.hash), nullable=False, index=True),
    Column("deadline_ms", BigInteger, nullable=False, index=True),
    Column("received_at_ms", BigInteger, nullable=False, index=True),
    Column("sender", Text, nullable=False),
    Column("hops", BigInteger, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("entries", BigInteger, nullable=False),  # length of the journal: the next seq
    Column("revision", BigInteger, nullable=False),  # counts the writes: the next outbox version
    Column("initiator", LargeBinary(HASH_BYTES), nullable=False),
    Column("bytes", BigInteger, nullable=False),  # see account.py; without the script
)

journal: Final = Table(
    "journal",
    metadata,
    Column("key", LargeBinary(HASH_BYTES), ForeignKey(particles.c.key, ondelete="CASCADE"), primary_key=True),
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("kind", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
)

outbox: Final = Table(
    "outbox",
    metadata,
    Column("key", LargeBinary(HASH_BYTES), ForeignKey(particles.c.key, ondelete="CASCADE"), primary_key=True),
    Column("peer", Text, primary_key=True, index=True),
    Column("version", BigInteger, nullable=False),
    Column("since_ms", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("last_error", Text, nullable=False),
)

ways: Final = Table(
    "ways",
    metadata,
    Column("key", LargeBinary(HASH_BYTES), ForeignKey(particles.c.key, ondelete="CASCADE"), primary_key=True),
    Column("peer", Text, primary_key=True),
    Column("told", Text, nullable=False),  # see ways.py
)

stories: Final = Table(
    "stories",
    metadata,
    Column("key", LargeBinary(HASH_BYTES), primary_key=True),
    Column("id", SortedText, nullable=False, index=True),
    Column("header", LargeBinary, nullable=False),
    Column("sender", Text, nullable=False),
    Column("hops", BigInteger, nullable=False),
    Column("received_at_ms", BigInteger, nullable=False, index=True),
    Column("deadline_ms", BigInteger, nullable=False, index=True),
    Column("state", Text, nullable=False),
    Column("entries", BigInteger, nullable=False),
    Column("initiator", LargeBinary(HASH_BYTES), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("story", LargeBinary, nullable=False),
)

replay_guards: Final = Table(
    "replay_guards",
    metadata,
    Column("key", LargeBinary(HASH_BYTES), primary_key=True),
    Column("deadline_ms", BigInteger, nullable=False, index=True),
)
