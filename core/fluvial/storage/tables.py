"""What all table groups share: the metadata they register in, and inserts that know both dialects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias, TypeVar

from sqlalchemy import Executable, MetaData, Table, Text
from sqlalchemy.dialects import postgresql, sqlite

VERSION_TABLE: Final = "fluvial_version"
"""Where Alembic notes the schema's revision."""

metadata: Final = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    }
)

SortedText: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""Text that compares by its UTF-8 bytes on both databases, so that a range of it is a prefix."""

StatementT = TypeVar("StatementT", bound=Executable)
Insert: TypeAlias = sqlite.Insert | postgresql.Insert


def per_dialect(build: Callable[[Callable[[Table], Insert]], StatementT]) -> Mapping[str, StatementT]:
    """An insert with ``on_conflict_…``, which both dialects spell alike but have each for itself; by the dialect's name.

    Args:
        build: makes the statement with the ``insert`` function that it is given.
    """
    return {"sqlite": build(sqlite.insert), "postgresql": build(postgresql.insert)}


def plain_text(text: str, characters_max: int) -> str:
    """``text`` as every database can hold it: cut, and without NUL and lone surrogates, which PostgreSQL refuses."""
    return text[:characters_max].replace("\0", "\ufffd").encode(errors="replace").decode()
