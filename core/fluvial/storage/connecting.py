"""Finds the database that a URL names, and what reads and writes it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fluvial.errors import ConfigError
from fluvial.storage.backend import Backend

if TYPE_CHECKING:
    from sqlalchemy import URL

_EXAMPLES: Final = "use sqlite:///fluvial.db, sqlite:// (in memory) or postgresql+psycopg://user@host/database"

_PLAIN_SQLITE: Final = re.compile(r"sqlite(?:\+pysqlite)?://(?:/(?P<database>[^?]*))?")
"""What nearly every peer has; read without SQLAlchemy, and as that reads it."""


def connect(url: str, *, base_dir: Path, read_only: bool, busy_timeout_s: float) -> Backend:
    """The database of a URL; it is reached, and the right to write claimed, but nothing is written.

    Args:
        url: ``sqlite:///relative/to/base_dir.db``, ``sqlite:////absolute.db``, ``sqlite://`` or ``postgresql+psycopg://…``.
        base_dir: where relative SQLite files lie.
        read_only: never write, and let others write.
        busy_timeout_s: how long to wait for a lock that another program holds, seconds.

    Raises:
        ConfigError: the URL is not understood.
        StorageError: another process writes to this database.
    """
    plain = _PLAIN_SQLITE.fullmatch(url)
    parsed = None if plain else parse_url(url)
    if parsed is None or parsed.get_backend_name() == "sqlite":
        from fluvial.storage import sqlite

        database = plain["database"] if plain else parsed and parsed.database
        if database in (None, "", ":memory:"):
            return sqlite.in_memory(read_only=read_only)
        return sqlite.in_file((base_dir / str(database)).absolute(), read_only=read_only, busy_timeout_s=busy_timeout_s)
    from fluvial.storage import postgresql  # its driver takes a while to import

    return postgresql.on_server(parsed, read_only=read_only, busy_timeout_s=busy_timeout_s)


def parse_url(url: str) -> URL:
    """The URL with its driver filled in.

    Raises:
        ConfigError: it is no URL, or of a database that is not supported.
    """
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError) as error:  # ValueError: a port that is no number
        # The text is not repeated: it may hold a password.
        raise ConfigError("the database's URL cannot be read", hint=_EXAMPLES) from error
    match parsed.drivername:
        case "sqlite" | "sqlite+pysqlite":
            if parsed.query or parsed.host:
                raise ConfigError(
                    f"{parsed.render_as_string()}: a SQLite URL holds a file name and nothing else",
                    hint="three slashes before a relative path, four before an absolute one; " + _EXAMPLES,
                )
            return parsed.set(drivername="sqlite")
        case "postgresql" | "postgresql+psycopg":
            return parsed.set(drivername="postgresql+psycopg")
        case other:
            raise ConfigError(f"databases of the kind {other!r} are not supported", hint=_EXAMPLES)
