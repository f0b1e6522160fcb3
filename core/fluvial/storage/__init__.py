"""Where a peer keeps what it must not forget.

Rule: what a peer promises is in the database before a byte of it leaves; nothing accepted is lost; after ``kill -9`` it goes on.

How it works. All writes go through one queue (``writer.py``): those that wait are put into one transaction (*group commit*), and a
caller's ``await`` returns only after its COMMIT. Statements are *prepared* (``fluvial/prepared.py``): SQLAlchemy defines them, and a peer on SQLite
runs their texts without importing it (``kept.py``, ``sqlite_links.py``). What every particle needs is data (``direct.py``, ``particle_writes.py``): run on
the event loop on SQLite, with only the COMMIT in a thread, and on PostgreSQL as a whole transaction in one round trip (``committer.py``,
``pipelined.py``). Reads run in worker threads over connections of their own, each in one snapshot, and see everything that was acknowledged
before. SQLite by default, PostgreSQL by URL; the schema is brought up to date by Alembic when the store is opened (``schema.py``). One
process at a time writes to a database (``ownership.py``); others may open it read-only meanwhile.

A peer that keeps nothing, such as a client, has its particles in dictionaries (``in_memory.py``, chosen by ``opening.py``).

A table group is its tables (``particle_tables.py``), its statements (``particle_statements.py``), its values (``fluvial/stored.py``, made of rows by ``particle_rows.py``) and a
store class over :class:`~fluvial.storage.database.SharedDatabase` (``sql_particles.py``), which ``store.py`` makes a field of
:class:`Store`; one module if it is small. Its tables are made by a new file in ``migrations/versions/``.

Plugins have tables of their own (``fluvial.tables``) and reach them through ``Store.part(name)``, the port ``Database`` of one part.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fluvial.storage.database import SharedDatabase
    from fluvial.storage.particles import ParticleStore
    from fluvial.storage.parts import PartDatabase
    from fluvial.storage.store import Store, open_store
from fluvial.stored import (
    Admission,
    JournalEntry,
    OutboxRow,
    ParticleState,
    ParticleSummary,
    StoredParticle,
)

__all__ = [
    "Admission",
    "JournalEntry",
    "OutboxRow",
    "PartDatabase",
    "ParticleState",
    "ParticleStore",
    "ParticleSummary",
    "SharedDatabase",
    "Store",
    "StoredParticle",
    "open_store",
]

_MODULES: Final = {
    "SharedDatabase": "database",
    "ParticleStore": "particles",
    "PartDatabase": "parts",
    "Store": "store",
    "open_store": "store",
}


def __getattr__(name: str) -> Any:
    """What needs a database is imported when it is asked for: a client needs none."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
