"""Messages that wait at a relay for a client that is away. Pure.

Bounded by number and bytes for each client and for all; what does not fit is not held, and its sender is told the same as if there were no queue. Senders
keep what they have to deliver and try again, so nothing is lost with the queue; it spares the client the wait for the next try.

Clients cost nothing, so the bytes of all are shared by the senders, by the rule of :class:`~fluvial.fairness.SharedPlaces`: who has ``n`` of them takes more
as long as fewer than ``BYTES_MAX / (1 + n / BYTES_OF_SENDER_FEW)`` are taken.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

import msgspec

from fluvial.identity import PeerId

MESSAGES_PER_CLIENT_MAX: Final = 64
BYTES_PER_CLIENT_MAX: Final = 4_194_304
BYTES_MAX: Final = 67_108_864
BYTES_OF_SENDER_FEW: Final = 4_194_304
"""A sender that has so many takes more only while the half is free; alone it has about 14 MiB."""


class HeldMessage(msgspec.Struct, frozen=True):
    """A message of a protocol, until when it is of use, and whose it is."""

    protocol: str
    payload: bytes
    deadline_ms: int
    sender: PeerId


class HeldMessages(msgspec.Struct):
    """See the module's docstring."""

    bytes_held: int = 0
    _clients: dict[PeerId, OrderedDict[bytes, HeldMessage]] = msgspec.field(default_factory=dict)
    _senders: dict[PeerId, int] = msgspec.field(default_factory=dict)

    def __len__(self) -> int:
        """How many are held."""
        return sum(map(len, self._clients.values()))

    def put(self, client: PeerId, message: HeldMessage, now_ms: int) -> bool:
        """Hold a message; whether it is held now. One that is held already takes no further room."""
        self._expire(client, now_ms)
        waiting = self._clients.get(client, OrderedDict())
        size = len(message.payload)
        sizes = [len(one.payload) for one in waiting.values()]
        fits = (
            message.deadline_ms > now_ms
            and len(sizes) < MESSAGES_PER_CLIENT_MAX
            and sum(sizes) + size <= BYTES_PER_CLIENT_MAX
            and self._has_room(message.sender, size)
        )
        if not fits and size not in sizes:
            return False  # before it is hashed, which takes long for a large one
        digest = _digest(message)
        if digest in waiting:
            return True
        if not fits:
            return False
        self._clients.setdefault(client, waiting)[digest] = message
        self._senders[message.sender] = self._senders.get(message.sender, 0) + size
        self.bytes_held += size
        return True

    def _has_room(self, sender: PeerId, size: int) -> bool:
        mine = self._senders.get(sender, 0)
        return (
            self.bytes_held + size <= BYTES_MAX
            and self.bytes_held * (BYTES_OF_SENDER_FEW + mine) < BYTES_OF_SENDER_FEW * BYTES_MAX
        )

    def _gone(self, message: HeldMessage) -> None:
        """Count a message no more."""
        size = len(message.payload)
        self.bytes_held -= size
        mine = self._senders.pop(message.sender, 0) - size
        if mine > 0:
            self._senders[message.sender] = mine

    def oldest(self, client: PeerId, now_ms: int) -> HeldMessage | None:
        """What was held first for a client; it counts until it is dropped, so also while it is handed over."""
        self._expire(client, now_ms)
        return next(iter(self._clients.get(client, OrderedDict()).values()), None)

    def put_last(self, client: PeerId, message: HeldMessage) -> None:
        """A message was not taken: the others go first the next time."""
        digest = _digest(message)
        if digest in self._clients.get(client, ()):
            self._clients[client].move_to_end(digest)

    def drop(self, client: PeerId, message: HeldMessage) -> None:
        """A message is held no more, if it was."""
        waiting = self._clients.get(client)
        if waiting is not None and (known := waiting.pop(_digest(message), None)) is not None:
            self._gone(known)
            if not waiting:
                del self._clients[client]

    def forget(self, client: PeerId) -> None:
        """Drop all that is held for a client."""
        for one in self._clients.pop(client, OrderedDict()).values():
            self._gone(one)

    def expire(self, now_ms: int) -> None:
        """Drop what is of no use any more."""
        for client in tuple(self._clients):
            self._expire(client, now_ms)

    def _expire(self, client: PeerId, now_ms: int) -> None:
        waiting = self._clients.get(client, OrderedDict())
        for digest in [digest for digest, one in waiting.items() if one.deadline_ms <= now_ms]:
            self._gone(waiting.pop(digest))
        if not waiting:
            self._clients.pop(client, None)


def _digest(message: HeldMessage) -> bytes:
    return hashlib.sha256(message.payload).digest()
