"""Messages that wait at a relay for a client that is away. Pure.

Bounded by number and bytes for each client and for all; what does not fit is not held, and its sender is told the same as if there were no queue. Senders
keep what they have to deliver and try again, so nothing is lost with the queue; it spares the client the wait for the next try.
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


class HeldMessage(msgspec.Struct, frozen=True):
    """A message of a protocol, and until when it is of use."""

    protocol: str
    payload: bytes
    deadline_ms: int


class HeldMessages(msgspec.Struct):
    """See the module's docstring."""

    bytes_held: int = 0
    _clients: dict[PeerId, OrderedDict[bytes, HeldMessage]] = msgspec.field(default_factory=dict)

    def __len__(self) -> int:
        """How many are held."""
        return sum(map(len, self._clients.values()))

    def put(self, client: PeerId, message: HeldMessage, now_ms: int) -> bool:
        """Hold a message; whether it is held now. One that is held already takes no further room."""
        waiting = self._clients.get(client, OrderedDict())
        self._expire(client, now_ms)
        digest = _digest(message)
        if digest in waiting:
            return True
        size = len(message.payload)
        of_client = sum(len(one.payload) for one in waiting.values())
        if (
            message.deadline_ms <= now_ms
            or len(waiting) >= MESSAGES_PER_CLIENT_MAX
            or of_client + size > BYTES_PER_CLIENT_MAX
            or self.bytes_held + size > BYTES_MAX
        ):
            return False
        self._clients.setdefault(client, waiting)[digest] = message
        self.bytes_held += size
        return True

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
        if (waiting := self._clients.get(client)) is not None and waiting.pop(_digest(message), None) is not None:
            self.bytes_held -= len(message.payload)
            if not waiting:
                del self._clients[client]

    def forget(self, client: PeerId) -> None:
        """Drop all that is held for a client."""
        self.bytes_held -= sum(len(one.payload) for one in self._clients.pop(client, OrderedDict()).values())

    def expire(self, now_ms: int) -> None:
        """Drop what is of no use any more."""
        for client in tuple(self._clients):
            self._expire(client, now_ms)

    def _expire(self, client: PeerId, now_ms: int) -> None:
        waiting = self._clients.get(client, OrderedDict())
        for digest in [digest for digest, one in waiting.items() if one.deadline_ms <= now_ms]:
            self.bytes_held -= len(waiting.pop(digest).payload)
        if not waiting:
            self._clients.pop(client, None)


def _digest(message: HeldMessage) -> bytes:
    return hashlib.sha256(message.payload).digest()
