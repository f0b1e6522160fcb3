"""Writes that go past SQLAlchemy: its statements as text for a driver, made once; for those that every particle needs.

SQLAlchemy stays what defines tables and statements. What it costs to run one through it, several times what the database needs, is not
paid again for each. A :class:`DirectWrite` is data: the statements with their parameters, and what becomes of the results. So the committer
of the database decides how to run it: statement by statement on the event loop (SQLite), or many at once in one round trip (PostgreSQL).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Generic, TypeAlias, TypeVar

from sqlalchemy import Dialect, Executable, make_url
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.elements import CompilerElement

T_co = TypeVar("T_co", covariant=True)

Parameters: TypeAlias = Mapping[str, Any]
Result: TypeAlias = Any
"""Of a statement: its first row or None if it returns rows, else how many rows it changed."""

DIRECT_BYTES_MAX: Final = 256 * 1024
"""A write with more payload is not run on the event loop, where it would hold up everybody."""


@cache
def _dialect(name: str) -> Dialect:
    """How the statements of a dialect are written for its driver."""
    return sqlite.dialect(paramstyle="named") if name == "sqlite" else make_url(f"{name}+psycopg://").get_dialect()()


class Statement:
    """A statement as text for each driver, made when it is first needed.

    Args:
        source: the statement, or one for each dialect by its name. All its values are bound parameters with names.
        columns: for an insert: the columns that get values.
        returns: whether it returns a row.
    """

    def __init__(
        self, source: Executable | Mapping[str, Executable], *, columns: Sequence[str] = (), returns: bool = False
    ) -> None:
        self._source = source
        self._columns = columns
        self._texts: dict[str, str] = {}
        self.returns: Final = returns

    def text(self, dialect: str) -> str:
        """The text for the driver of a dialect; parameters are given by name."""
        found = self._texts.get(dialect)
        return self._compile(dialect) if found is None else found

    def _compile(self, dialect: str) -> str:
        source = self._source[dialect] if isinstance(self._source, Mapping) else self._source
        assert isinstance(source, CompilerElement)
        compiled = source.compile(dialect=_dialect(dialect), column_keys=list(self._columns) or None)
        text = self._texts[dialect] = str(compiled)
        return text


Step: TypeAlias = tuple[Statement, Parameters | Sequence[Parameters]]
"""A statement with its parameters, or with those of each of its repetitions."""


@dataclass(slots=True)
class DirectWrite(Generic[T_co]):
    """A write as data.

    Attributes:
        steps: what to run. A step must not need the result of one before it: several may be sent before the first is answered.
        finish: what the caller gets for the results, one for each step; may raise where nothing was written.
        blame: asked after a step was refused: a query, and what its row (None if there is none) says about the reason; None: the
            database's error stands.
        size: about how many bytes of payload it has.
    """

    steps: Sequence[Step]
    finish: Callable[[Sequence[Result]], T_co]
    blame: tuple[Statement, Parameters, Callable[[Any], Exception | None]] | None = None
    size: int = 0
