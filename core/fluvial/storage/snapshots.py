"""What a chain of migrations makes of an empty SQLite database, kept beside the migrations as ``snapshot.sql``.

Without it a new peer imports Alembic, runs every migration and reads back what they have made: a fifth of the time of its first start. With it
the statements are run. Its first line holds a digest of the migrations and of the statements: a snapshot of other migrations than those in the
folder, or one that was changed, is as good as none, so the migrations stay what decides.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

SNAPSHOT: Final = "snapshot.sql"

_FIRST_LINE: Final = "-- What the migrations in this folder make of an empty SQLite database; the digest is of them and of what follows: {}\n"
_MADE: Final = r'(?:CREATE TABLE|INSERT INTO|CREATE (?:UNIQUE )?INDEX \S+ ON) "?{}'


def read_snapshot(folder: Path, prefix: str = "") -> tuple[str, ...]:
    """The statements of a chain's snapshot; empty if there is none that can be used.

    Args:
        folder: with the migrations and the snapshot.
        prefix: what the name of everything that the chain makes begins with; a snapshot that makes anything else is not used.
            Core may name its tables as it likes.
    """
    try:
        text = (folder / SNAPSHOT).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ()
    first_line, made = text[: (end := text.find("\n") + 1)], text[end:]
    if first_line != _first_line(folder, made):
        return ()
    statements = tuple(_split(made))
    own = re.compile(_MADE.format(re.escape(prefix)))
    return statements if all(map(own.match, statements)) else ()


def snapshot(folder: Path, statements: Sequence[str]) -> str:
    """The text of a snapshot.

    Args:
        folder: with the migrations.
        statements: what they make, see :func:`fluvial.storage.new_database.statements_of`.
    """
    made = "".join(f"{one}\n" for one in statements)
    return _first_line(folder, made) + made


def _split(made: str) -> Iterator[str]:
    lines: list[str] = []
    for line in made.split("\n"):
        lines.append(line)
        if sqlite3.complete_statement("\n".join(lines)):
            yield "\n".join(lines)
            lines.clear()


def _first_line(folder: Path, made: str) -> str:
    digest = hashlib.sha256(made.encode())
    for path in sorted(folder.glob("*.py")):
        content = path.read_bytes()
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return _FIRST_LINE.format(digest.hexdigest())
