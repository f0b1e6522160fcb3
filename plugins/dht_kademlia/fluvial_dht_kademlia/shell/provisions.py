"""What this peer was told to provide beside its capabilities: topics, keys with owners; kept over restarts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import anyio
from fluvial.errors import ResourceLimit
from fluvial.ports import Database
from fluvial.prepared import Prepared

from fluvial_dht_kademlia.machine.keyspace import Key
from fluvial_dht_kademlia.shell import tables
from fluvial_dht_kademlia.shell.tables import Provided

PROVIDED_MAX: Final = 512


class Provisions:
    """See the module's docstring.

    Args:
        database: the port.
    """

    def __init__(self, database: Database) -> None:
        self._database: Final = database
        self._provided: dict[Key, Provided] = {}
        self._changing = anyio.Lock()

    def __iter__(self) -> Iterator[Provided]:
        """All of them."""
        return iter(tuple(self._provided.values()))

    async def load(self) -> None:
        """Take back what was provided before a restart; raises StorageError."""
        found = await self._database.read(Prepared(tables.read_provided))
        self._provided = {one.challenge.key: one for one in found}

    async def add(self, one: Provided) -> None:
        """Provide something from now on.

        Raises:
            ResourceLimit: it is enough. StorageError: it cannot be written.
        """
        async with self._changing:
            if one.challenge.key not in self._provided and len(self._provided) >= PROVIDED_MAX:
                raise ResourceLimit(
                    f"this peer was told to provide {PROVIDED_MAX} things already", hint="withdraw some"
                )
            await self._database.write(Prepared(tables.write_provided, one=one))
            self._provided[one.challenge.key] = one

    async def remove(self, key: Key) -> bool:
        """Provide something no more; whether it was provided. Raises StorageError."""
        async with self._changing:
            if key not in self._provided:
                return False
            await self._database.write(Prepared(tables.delete_provided, key=key))
            del self._provided[key]
            return True
