"""A log in etcd: entry n is the value of the key ``/fluvial/NETWORK/LOG/n``, which is created once and never changed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from fluvial.consensus.ordering import OrderedEntry, OrderLostError
from fluvial.errors import RemoteProtocolError, Unreachable

if TYPE_CHECKING:  # httpx comes with it
    from fluvial_consensus_etcd.gateway import EtcdGateway, EtcdItem

DIGITS: Final = 16
READ_AT_ONCE: Final = 16
TRIES_MAX: Final = 64
"""So often another one may be first before :meth:`EtcdLog.submit` gives up."""
PRUNE_EVERY: Final = 128


class EtcdLog:
    """An ordering service over etcd.

    Args:
        gateway: of the cluster.
        prefix: of the keys; one log is for one ledger.
        keep: entries that stay when older ones are deleted.
    """

    def __init__(self, gateway: EtcdGateway, prefix: str, keep: int) -> None:
        self._gateway, self._keep = gateway, keep
        self._prefix: Final = prefix.encode()
        self._end: Final = self._key(None)
        self._known = 0

    async def submit(self, data: bytes) -> None:
        """Add an entry."""
        for _ in range(TRIES_MAX):
            position = self._known + 1
            last = await self._gateway.create(self._key(position), data, prefix=self._prefix, prefix_end=self._end)
            if last is None:
                self._known = max(self._known, position)
                if position % PRUNE_EVERY == 0 and position > self._keep:
                    await self._gateway.delete(self._key(0), self._key(position - self._keep))
                return
            self._known = max(self._known, self._position(last))
        raise Unreachable("others were always first to write into the log", hint="this is tried again")

    async def follow(self, after: int) -> AsyncIterator[OrderedEntry]:
        """All entries behind a position."""
        self._known = max(self._known, after)
        while True:
            found = await self._gateway.range(self._key(after + 1), self._end, limit=READ_AT_ONCE)
            for item in found.items:
                after = self._next(item, after)
                yield OrderedEntry(after, item.value)
            if len(found.items) < READ_AT_ONCE:
                break
        async for item in self._gateway.watch(self._key(after + 1), self._end, revision=found.revision + 1):
            after = self._next(item, after)
            yield OrderedEntry(after, item.value)

    async def close(self) -> None:
        """Give connections back."""
        await self._gateway.close()

    def describe(self) -> Mapping[str, Any]:
        """Where the log is."""
        return {"service": "etcd", "endpoints": list(self._gateway.endpoints), "keys": self._prefix.decode()}

    def _next(self, item: EtcdItem, after: int) -> int:
        position = self._position(item)
        if position != after + 1:
            raise OrderLostError(f"entry {after + 1} of the log is gone; the next one is {position}")
        self._known = max(self._known, position)
        return position

    def _key(self, position: int | None) -> bytes:
        """The key of an entry; for None the first one behind all of them."""
        return self._prefix + (b"g" if position is None else f"{position:0{DIGITS}x}".encode())

    def _position(self, item: EtcdItem) -> int:
        try:
            return int(item.key.removeprefix(self._prefix), 16)
        except ValueError as error:
            raise RemoteProtocolError(f"{item.key[:100]!r} is no entry of the log") from error
