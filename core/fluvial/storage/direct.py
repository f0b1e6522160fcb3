"""Writes as data: prepared statements with their parameters, and what becomes of the results; for those that every particle needs.

So the committer of the database decides how to run one: statement by statement on the event loop (SQLite), or many at once in one round trip
(PostgreSQL).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

from fluvial.prepared import Parameters, Statement

T_co = TypeVar("T_co", covariant=True)

Result: TypeAlias = Any
"""Of a statement: its first row or None if it returns rows, else how many rows it changed."""

DIRECT_BYTES_MAX: Final = 256 * 1024
"""A write with more payload is not run on the event loop, where it would hold up everybody."""

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
