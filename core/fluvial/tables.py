"""For authors of plugins: tables of a plugin's own in the database of the node.

A plugin declares its tables with the offer that uses them, and describes their development as Alembic migrations::

    TABLES = Tables(name="trust", migrations=Path(__file__).parent / "migrations")
    metadata = new_metadata()
    edges = Table("trust_edges", metadata, Column("issuer", SortedText, primary_key=True), ...)

Everything that a plugin makes in the database begins with its prefix, here ``trust_``: tables, indexes beside the names that
:data:`NAMING` gives them, sequences, and the table ``trust_version`` in which the revision is kept. The node runs the migrations when it opens its
store and refuses those that make or change anything else. There are no foreign keys to tables of others. So a database outlives its
plugins: the tables of one that is uninstalled stay as they are, and are there when it is installed again.

A migration is a file of the folder, with ``revision``, ``down_revision`` and ``upgrade()``; core's own are an example
(``fluvial/storage/migrations/versions``). ``fluvial.testing.tables`` has the conformance kit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from fluvial.errors import PluginError

if TYPE_CHECKING:  # SQLAlchemy costs a third of a second, which commands that only look at offers do not pay
    from sqlalchemy import Executable, MetaData, Table, Text
    from sqlalchemy.dialects import postgresql, sqlite

    SortedText: Final[Text] = Text()
    """Text that compares by its UTF-8 bytes on both databases, so that a range of it is a prefix."""

    Insert: TypeAlias = sqlite.Insert | postgresql.Insert

StatementT = TypeVar("StatementT", bound="Executable")

NAMING: Final[Mapping[str, str]] = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
}
"""How constraints and indexes are called unless they are given a name."""

NAME_CHARACTERS_MAX: Final = 24
"""Of the name of a plugin's tables; identifiers of PostgreSQL have 63 bytes."""

_NAME: Final = re.compile(r"[a-z][a-z0-9]*")
_RESERVED: Final = frozenset({"fluvial", "pg", "sqlite"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """The tables of a plugin.

    Attributes:
        name: a word of lower-case letters and digits, at most 24 characters.
        migrations: the folder of the Alembic migrations that make them.

    Raises:
        PluginError: table names cannot begin with this name.
    """

    name: str
    migrations: Path

    def __post_init__(self) -> None:
        """Refuse a name that could not be told apart from others."""
        if not _NAME.fullmatch(self.name) or len(self.name) > NAME_CHARACTERS_MAX or self.name in _RESERVED:
            raise PluginError(
                f"{self.name[:80]!r} is no name for the tables of a plugin",
                hint=f"take a letter and then letters and digits, all small, {NAME_CHARACTERS_MAX} at most; "
                f"not {', '.join(sorted(_RESERVED))}",
            )

    @property
    def prefix(self) -> str:
        """What the names of all its tables begin with."""
        return f"{self.name}_"

    @property
    def version_table(self) -> str:
        """The table in which the revision is kept."""
        return f"{self.name}_version"


def distinct(owned: Iterable[tuple[str, Tables]]) -> tuple[Tables, ...]:
    """All tables of those who have some, once each, in the order of their names.

    Args:
        owned: who has which tables; the owner is named in the error. Several offers of one plugin may share the same tables.

    Raises:
        PluginError: two have different tables of one name.
    """
    found: dict[str, tuple[str, Tables]] = {}
    for owner, tables in owned:
        other, same = found.setdefault(tables.name, (owner, tables))
        if same != tables:
            raise PluginError(
                f"{other} and {owner} both call their tables {tables.name!r}",
                hint="use one of them only, or ask an author for another name",
            )
    return tuple(found[name][1] for name in sorted(found))


def new_metadata() -> MetaData:
    """An empty collection of tables whose constraints and indexes are called as :data:`NAMING` says."""
    from sqlalchemy import MetaData

    return MetaData(naming_convention=dict(NAMING))


def per_dialect(build: Callable[[Callable[[Table], Insert]], StatementT]) -> Mapping[str, StatementT]:
    """An insert with ``on_conflict_…``, which both dialects spell alike but have each for itself; by the dialect's name.

    Args:
        build: makes the statement with the ``insert`` function that it is given; called when the statement is first asked for.
    """
    return _PerDialect(build)


class _PerDialect(Mapping[str, StatementT]):
    def __init__(self, build: Callable[[Callable[[Table], Insert]], StatementT]) -> None:
        self._build = build
        self._built: dict[str, StatementT] = {}

    def __getitem__(self, dialect: str) -> StatementT:
        if dialect not in self._built:
            insert: Callable[[Table], Insert]
            if dialect == "sqlite":
                from sqlalchemy.dialects.sqlite import insert
            elif dialect == "postgresql":
                from sqlalchemy.dialects.postgresql import insert  # imports all its drivers' dialects
            else:
                raise KeyError(dialect)
            self._built[dialect] = self._build(insert)
        return self._built[dialect]

    def __iter__(self) -> Iterator[str]:
        return iter(("sqlite", "postgresql"))

    def __len__(self) -> int:
        return 2


def plain_text(text: str, characters_max: int) -> str:
    """``text`` as every database can hold it: cut, and without NUL and lone surrogates, which PostgreSQL refuses."""
    return text[:characters_max].replace("\0", "\ufffd").encode(errors="replace").decode()


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Create what needs SQLAlchemy at its first use."""
        if name != "SortedText":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from sqlalchemy import Text

        return Text().with_variant(Text(collation="C"), "postgresql")
