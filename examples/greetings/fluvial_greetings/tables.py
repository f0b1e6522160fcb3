"""The words that were told, by who told them."""

from pathlib import Path

from fluvial.identity import PeerId
from fluvial.tables import SortedText, Tables, new_metadata
from sqlalchemy import BigInteger, Column, Connection, Table, Text, delete, insert, select

TABLES = Tables(name="greetings", migrations=Path(__file__).parent / "migrations")
metadata = new_metadata()
words = Table(
    "greetings_words",
    metadata,
    Column("peer", SortedText, primary_key=True),
    Column("word", Text, nullable=False),
    Column("told_ms", BigInteger, nullable=False, index=True),
)
KEPT_MAX = 1_000


def put(connection: Connection, peer: PeerId, word: str, now_ms: int) -> None:
    """Keep a word in place of the last one of that peer, and no more than ``KEPT_MAX`` of all peers."""
    connection.execute(delete(words).where(words.c.peer == peer))
    connection.execute(insert(words).values(peer=peer, word=word, told_ms=now_ms))
    newest_first = select(words.c.peer).order_by(words.c.told_ms.desc(), words.c.peer)
    oldest = connection.scalars(newest_first.offset(KEPT_MAX)).all()
    connection.execute(delete(words).where(words.c.peer.in_(oldest)))


def listed(connection: Connection) -> dict[str, str]:
    """All words by peer."""
    rows = connection.execute(select(words.c.peer, words.c.word).order_by(words.c.peer))
    return {row.peer: row.word for row in rows}
