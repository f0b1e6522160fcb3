"""Turns the errors of databases into :class:`StorageError`, with what the operator can do.

Statements and their parameters never get into a message: they may hold users' data.
"""

from __future__ import annotations

import sqlite3
import sys
from typing import Any, Final

from fluvial.errors import StorageError

_SQLITE_HINTS: Final = {
    "SQLITE_BUSY": "another program holds a lock on the file: close it and try again",
    "SQLITE_LOCKED": "another program holds a lock on the file: close it and try again",
    "SQLITE_READONLY": "the user that runs this must be allowed to write to the file and to its folder",
    "SQLITE_PERM": "the user that runs this must be allowed to read and write the file and its folder",
    "SQLITE_CANTOPEN": "the folder must exist, and the user that runs this must be allowed to read and write there",
    "SQLITE_CORRUPT": "the file is damaged: stop the node, then restore a backup or try `sqlite3 FILE .recover`",
    "SQLITE_NOTADB": "the file is something else or is damaged: name another file or restore a backup",
    "SQLITE_FULL": "free some space on the disk",
    "SQLITE_IOERR": "the disk failed to read or write, or a quota or a limit of file sizes is used up: check them and the system's log",
    "SQLITE_TOOBIG": "one value is larger than SQLite can hold",
}
"""By primary result code; an extended code such as ``SQLITE_READONLY_DBMOVED`` begins with its primary one.

Source: SQLite documentation, "Result and Error Codes"."""

_POSTGRESQL_HINTS: Final = {
    "08": "is the server running, do host, port, user and password fit, and does the database exist (`createdb NAME`)?",
    "22": "a value does not fit its column",
    "25006": "the server or this user may only read; name a primary server and a user that may write",
    "28": "user or password are wrong, or pg_hba.conf does not let this user in",
    "3D000": "make the database first: `createdb NAME`",
    "42501": "the user lacks a right: let it own the database, or grant it CREATE on the schema",
    "53100": "free some space on the server's disk",
    "53300": "the server has no connection left: raise max_connections or close other clients",
    "53": "the server lacks resources: see its log",
    "55P03": "another session holds a lock: find it in pg_stat_activity",
    "57014": "the server took too long: see its load and its log",
    "57P": "the server is stopping or restarting: try again",
    "58": "the server's disk or files fail: see its log",
    "XX": "the server's data may be damaged: see its log",
}
"""By SQLSTATE, or the beginning of one. Source: PostgreSQL documentation, appendix A."""


_NO_CONNECTION_LEFT: Final = ("too many clients", "connection slots are reserved", "too many connections")
"""How a server says so, in English, to whom it has not let in yet: libpq hands on the text alone."""

_SQLITE_OF_ALL: Final = (
    "SQLITE_BUSY",
    "SQLITE_CANTOPEN",
    "SQLITE_CORRUPT",
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_LOCKED",
    "SQLITE_NOMEM",
    "SQLITE_NOTADB",
    "SQLITE_PERM",
    "SQLITE_PROTOCOL",
    "SQLITE_READONLY",
)
_POSTGRESQL_OF_ALL: Final = ("08", "25006", "53", "55P03", "57", "58", "XX")


def concerns_all(error: BaseException) -> bool:
    """Whether a database's error is about the connection, the disk or the server, and not about one statement."""
    if _is_of_sqlalchemy(error, "TimeoutError"):
        return True
    origin = _origin(error)
    name = getattr(origin, "sqlite_errorname", None)
    if isinstance(name, str):
        return name.startswith(_SQLITE_OF_ALL)
    if hasattr(origin, "sqlstate"):
        return (origin.sqlstate or "08").startswith(_POSTGRESQL_OF_ALL)
    return False


def storage_error(error: BaseException, where: str) -> StorageError:
    """What to raise for an error of SQLAlchemy or of a database driver.

    Args:
        error: the error; becomes the cause of the returned one.
        where: the database, without a password.
    """
    origin = _origin(error)
    if _is_of_sqlalchemy(error, "TimeoutError"):
        text, hint = "all connections stayed busy", "the database is too slow for what is asked of it"
    else:
        lines = str(origin).strip().splitlines() or [type(origin).__name__]
        # SQLAlchemy's own errors append a link to their page in further lines.
        text, hint = lines[0], _hint(origin)
    failure = StorageError(f"{where}: {text}", hint=hint)
    failure.__cause__ = error
    return failure


def _origin(error: BaseException) -> BaseException:
    """The driver's error within one of SQLAlchemy."""
    origin = getattr(error, "orig", None) if _is_of_sqlalchemy(error, "DBAPIError") else None
    return origin if isinstance(origin, BaseException) else error


def _is_of_sqlalchemy(error: BaseException, name: str) -> bool:
    """Whether an error is of a class of SQLAlchemy; none is where that was never imported, and this does not import it."""
    module: Any = sys.modules.get("sqlalchemy.exc")
    return module is not None and isinstance(error, getattr(module, name))


def _hint(origin: BaseException) -> str:
    name = getattr(origin, "sqlite_errorname", None)
    if isinstance(name, str):
        return next((hint for code, hint in _SQLITE_HINTS.items() if name.startswith(code)), "")
    if hasattr(origin, "sqlstate"):  # psycopg; None while there is no connection yet
        state = origin.sqlstate or ("53300" if any(one in str(origin) for one in _NO_CONNECTION_LEFT) else "08")
        return next((_POSTGRESQL_HINTS[state[:size]] for size in (5, 3, 2) if state[:size] in _POSTGRESQL_HINTS), "")
    if isinstance(origin, OverflowError):
        return "a number does not fit 64 bits"
    return ""


def is_database_error(error: BaseException) -> bool:
    """Whether an exception comes from SQLAlchemy or straight from one of the drivers (PEP 249 ``Error``)."""
    return (
        isinstance(error, (sqlite3.Error, OverflowError))
        or hasattr(error, "sqlstate")
        or _is_of_sqlalchemy(error, "SQLAlchemyError")
    )


def what_work_raised(error: BaseException, where: str) -> Exception:
    """What the caller of a write or read is told: a database's error as a StorageError, what would end more than that call too."""
    if is_database_error(error):
        return storage_error(error, where)
    if isinstance(error, Exception) and not isinstance(error, StopIteration):  # which no future can hold
        return error
    failure = StorageError(
        f"{where}: the work raised {type(error).__name__}",
        hint="this is a bug of whoever wrote it; nothing was written",
    )
    failure.__cause__ = error
    return failure
