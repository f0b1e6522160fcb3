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
may read the tables (:func:`open_tables`). Errors that are raised as :class:`fluvial.errors.FluvialError` come out as text, with the exit
code of who must act. Importing this module is cheap: everything heavy is imported when it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fluvial.cli.context import Invocation, common_options, pass_invocation, table
from fluvial.cli.reaching import Reach, keeping, reach, reach_options, run_options

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = [
    "Invocation",
    "Reach",
    "common_options",
    "keeping",
    "open_tables",
    "pass_invocation",
    "reach",
    "reach_options",
    "run_options",
    "table",
]


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
