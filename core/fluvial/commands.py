"""For authors of commands: what a command of a plugin shares with those of core, and how it looks at a peer.

A distribution announces commands in the entry-point group ``fluvial.commands``::

    [project.entry-points."fluvial.commands"]
    trust = "fluvial_trust_graph.cli:trust"      # fluvial trust
    "lab.dht" = "fluvial_lab_dht.cli:dht"        # fluvial lab dht, next to what others put below `lab`

::

    @click.command()
    @reach_options
    @common_options
    @pass_invocation
    def hello(invocation: Invocation, relay: str | None, network: str | None, key_file: Path | None) -> None:
        way = reach(invocation, relay=relay, network=network, key_file=key_file)
        …

A command never writes the database of a peer. What changes something calls a service of the running peer (:func:`reach`); what looks
may read the tables (:func:`open_tables`). What a peer
answers may have any shape (:func:`shaped`, :func:`as_expected`), and hold what a terminal takes for a command: :meth:`Invocation.print` and :func:`table` make
that harmless, :func:`printable` also line feeds, which could pretend to be lines of the command's own. Errors that are raised as :class:`fluvial.errors.FluvialError` come out as text, with the exit
code of who must act. Importing this module is cheap: everything heavy is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from fluvial.cli.context import Invocation, common_options, pass_invocation, table
from fluvial.cli.reaching import Reach, has_peer, keeping, reach, reach_options, run_options
from fluvial.credentials import read_credentials
from fluvial.strangers import as_expected, printable, shaped

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from fluvial.blob_id import BlobId

T = TypeVar("T")

__all__ = [
    "Invocation",
    "Reach",
    "as_expected",
    "blob_id_of",
    "common_options",
    "has_peer",
    "keeping",
    "open_tables",
    "pass_invocation",
    "printable",
    "reach",
    "reach_options",
    "read_credentials",
    "run",
    "run_options",
    "shaped",
    "table",
]


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run ``work`` in an event loop and return its result. A FluvialError is raised without the exception groups around it."""
    from fluvial.cli import serving

    return serving.run(work)


def blob_id_of(path: Path) -> BlobId:
    """The id that a file has as a blob. Raises OSError: it cannot be read."""
    from fluvial.blobs.tree import ChunkHasher

    hasher = ChunkHasher()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            hasher.update(part)
    return hasher.tree().blob


@contextmanager
def open_tables(invocation: Invocation) -> Iterator[Connection]:
    """A connection with the database of the settings at hand, for reading alone; the peer may run and write meanwhile.

    All queries in the block see one snapshot.

    Args:
        invocation: of the command.

    Raises:
        ConfigError: the settings cannot be used.
        StorageError: the database is not there, its tables are of another version, or a query failed in the block.
    """
    from fluvial.storage.reading import reading

    settings = invocation.configuration().settings
    with reading(settings.storage_url, base_dir=settings.base_dir) as connection:
        yield connection
