"""The extra ``kv``: gives the store to guests, and to scripts of the peers that may have one."""

from __future__ import annotations

import anyio
from fluvial.effectors import Call, Effector, EffectorError, NoConfig, function
from fluvial.ports import Context
from fluvial.seats import Contributions, Part
from fluvial.services import Status

from fluvial_effector_kv.interface import KEYS_MAX, KeyValueSession, KeyValueStore
from fluvial_effector_kv.settings import KeyValueOptions


class KeyValuePart(Part):
    """Holds no state of its own: everything is in the database."""

    def __init__(self, context: Context, options: KeyValueOptions) -> None:
        self._context = context
        self._options = options

    def contributions(self) -> Contributions:
        """The interface for guests; the service for scripts, if there is anybody who may call it."""
        services = (KeyValueService(self._context, self._options),) if self._options.scripts_of else ()
        return Contributions(extensions=(KeyValueStore(self._context.database),), services=services)


class KeyValueService(Effector[NoConfig]):
    """A key-value store for scripts: each peer that may call it has its own."""

    service_id = "kv"

    def __init__(self, context: Context, options: KeyValueOptions) -> None:
        super().__init__()
        self._context = context
        self._options = options
        self._turn = anyio.Lock()

    def _session(self, call: Call) -> KeyValueSession:
        if call.initiator not in self._options.scripts_of:
            raise EffectorError(Status.NOT_ALLOWED, f"{call.initiator} has no store here")
        return KeyValueSession(self._context.database, f"peer:{call.initiator}", self._options.limits)

    @function
    async def get(self, call: Call, key: str) -> str | None:
        """The value of a key; null if it has none."""
        return await self._session(call).get(key)

    @function
    async def set(self, call: Call, key: str, value: str) -> None:
        """Set a key; status 507 if the quota would be exceeded."""
        async with self._turn:
            session = self._session(call)
            await session.set(key, value)
            await session.keep()

    @function
    async def delete(self, call: Call, key: str) -> None:
        """Delete a key; without effect if it has no value."""
        async with self._turn:
            session = self._session(call)
            await session.delete(key)
            await session.keep()

    @function
    async def keys(self, call: Call, prefix: str = "", after: str = "", limit: int = KEYS_MAX) -> list[str]:
        """The first keys that begin with `prefix` and come after `after`, in the order of their bytes; at most 1000."""
        if limit < 0:
            raise EffectorError(Status.BAD_ARGUMENTS, "limit: not less than 0")
        return await self._session(call).keys(prefix, after, limit)
