"""``python -m tests.core.storage.snapshots`` at the root of the checkout writes the snapshots of all chains of migrations anew; a test compares them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fluvial.hosting.tables import TABLES as LEDGER_TABLES
from fluvial.licensing.tables import TABLES as LICENCE_TABLES
from fluvial.plugins import load_plugins
from fluvial.storage.new_database import statements_of
from fluvial.storage.snapshots import SNAPSHOT, snapshot
from fluvial.storage.tables import MIGRATIONS
from fluvial.tables import Tables, distinct


def chains() -> Iterator[tuple[Path, Tables | None]]:
    """The folder of core's migrations with None, and those of all installed plugins with their tables."""
    yield MIGRATIONS / "versions", None
    offered = [(one.name, one.tables) for one in load_plugins().registry.offers() if one.tables is not None]
    for tables in distinct([("core", LEDGER_TABLES), ("core", LICENCE_TABLES), *offered]):
        yield tables.migrations, tables


def main() -> None:
    """Write all of them."""
    for folder, tables in chains():
        (folder / SNAPSHOT).write_text(snapshot(folder, statements_of(tables)), encoding="utf-8")


if __name__ == "__main__":
    main()
