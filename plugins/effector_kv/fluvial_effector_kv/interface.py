"""The host interface ``fluvial:kv/store``: reads go to the database, writes are gathered and kept in one transaction when the call ends well."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from fluvial.effectors import EffectorError
from fluvial.host_interfaces import Guest, HostInterface, HostSession
from fluvial.ports import Database

from fluvial_effector_kv import tables
from fluvial_effector_kv.settings import KeyValueSettings

KEYS_MAX: Final = 1_000
"""Keys in one answer."""
CHANGES_BYTES_MAX: Final = 8 * 1_048_576
"""What one call may change: it is one transaction, and others wait for it."""
CHANGES_MAX: Final = 2_048
"""Keys that it may change; so many are written in some tens of milliseconds."""

CHANGE_BYTES: Final = 128
"""What a change counts, besides its key and value: about what it takes in memory until the call ends."""

BAD: Final = 400
TOO_LARGE: Final = 413
QUOTA: Final = 507

WIT: Final = """
package fluvial:kv@0.1.0;

/// The store of this service. What a call writes is kept if the call ends well, all of it or nothing.
interface store {
  get: func(key: string) -> option<string>;
  /// The error says which limit would be exceeded.
  set: func(key: string, value: string) -> result<_, string>;
  delete: func(key: string) -> result<_, string>;
  /// The first keys that begin with `prefix` and come after `after`, in the order of their bytes; at most 1000.
  keys: func(prefix: string, after: string, limit: u32) -> list<string>;
  /// Bytes of all keys and values.
  used: func() -> u64;
}
"""


class KeyValueSession:
    """One call's view of a store: what it has changed, over what the database has.

    Args:
        database: of the peer.
        store: the id of the service, or who else has a store.
        settings: its limits.
    """

    def __init__(self, database: Database, store: str, settings: KeyValueSettings) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._changes: dict[bytes, bytes | None] = {}
        self._changed_bytes = 0
        self._used: tuple[int, int] | None = None

    async def get(self, key: str) -> str | None:
        """The value of a key; None if it has none."""
        value = await self._value(_utf8(key))
        return None if value is None else value.decode()

    async def set(self, key: str, value: str) -> None:
        """Set a key; raises EffectorError for what would be too large."""
        limits, data, new = self._settings, _utf8(key), _utf8(value)
        if not 1 <= len(data) <= limits.key_bytes_max:
            raise EffectorError(BAD, f"a key has 1 to {limits.key_bytes_max} bytes, not {len(data)}")
        if len(new) > limits.value_bytes_max:
            raise EffectorError(TOO_LARGE, f"a value has at most {limits.value_bytes_max:,} bytes, not {len(new):,}")
        await self._change(data, new)

    async def delete(self, key: str) -> None:
        """Delete a key; without effect if it has no value."""
        await self._change(_utf8(key), None)

    async def keys(self, prefix: str, after: str, limit: int) -> list[str]:
        """Keys in the order of their bytes, with those that this call has changed."""
        limit = min(limit, KEYS_MAX)
        begin, last = _utf8(prefix), _utf8(after)
        gone = sum(value is None for value in self._changes.values())
        there = await self._database.read(
            partial(tables.read_keys, store=self._store, prefix=begin, after=last, limit=limit + gone)
        )
        found = {key for key in there if self._changes.get(key, b"") is not None}
        found |= {
            key for key, value in self._changes.items() if value is not None and key.startswith(begin) and key > last
        }
        return [key.decode() for key in sorted(found)[:limit]]

    async def used(self) -> int:
        """Bytes of all keys and values, with what this call has changed."""
        return (await self._usage())[0]

    async def keep(self) -> None:
        """Write what was changed, in one transaction."""
        if self._changes:
            work = partial(tables.write, store=self._store, changes=dict(self._changes), used=await self._usage())
            await self._database.write(work)

    async def _value(self, key: bytes) -> bytes | None:
        if key in self._changes:
            return self._changes[key]
        return await self._database.read(partial(tables.read_value, store=self._store, key=key))

    async def _usage(self) -> tuple[int, int]:
        if self._used is None:
            self._used = await self._database.read(partial(tables.read_usage, store=self._store))
        return self._used

    async def _change(self, key: bytes, value: bytes | None) -> None:
        old, (size, count) = await self._value(key), await self._usage()
        size += (len(key) + len(value) if value is not None else 0) - (len(key) + len(old) if old is not None else 0)
        count += (value is not None) - (old is not None)
        self._changed_bytes += CHANGE_BYTES + len(key) + len(value or b"")
        if value is not None:
            if size > self._settings.bytes_max:
                raise EffectorError(
                    QUOTA, f"the store would take {size:,} bytes; its quota is {self._settings.bytes_max:,}"
                )
            if count > self._settings.entries_max:
                raise EffectorError(
                    QUOTA, f"the store would have {count:,} entries; its quota is {self._settings.entries_max:,}"
                )
        if self._changed_bytes > CHANGES_BYTES_MAX:
            raise EffectorError(TOO_LARGE, f"one call changes at most {CHANGES_BYTES_MAX:,} bytes")
        if key not in self._changes and len(self._changes) >= CHANGES_MAX:
            raise EffectorError(TOO_LARGE, f"one call changes at most {CHANGES_MAX:,} keys")
        self._changes[key] = value
        self._used = (size, count)


class KeyValueStore(HostInterface):
    """Gives each service its store.

    Args:
        database: of the peer.
    """

    effector = "kv"
    wit = WIT
    options = KeyValueSettings

    def __init__(self, database: Database) -> None:
        self._database = database

    def session(self, guest: Guest, options: Any) -> HostSession:
        """One call's view of the service's store."""
        view = KeyValueSession(self._database, guest.service, options)
        return HostSession(
            {"get": view.get, "set": view.set, "delete": view.delete, "keys": view.keys, "used": view.used},
            keep=view.keep,
        )

    async def forget(self, service: str) -> None:
        """Delete a service's store."""
        await self._database.write(partial(tables.forget, store=service))


def _utf8(text: str) -> bytes:
    """The bytes of a text; raises EffectorError for a lone surrogate, which only scripts could send."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise EffectorError(BAD, "a text with a lone surrogate") from error
