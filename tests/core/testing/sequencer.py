"""The simplest engine: the first validator decides on the order, and all others believe it. Safe while it is honest, live while it is up."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from fluvial.consensus.effects import Broadcast, Persist, Send
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.simple import DecidePayload, SimpleEffect, WakeAt
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId

RETRY_MS = 200


class Said(msgspec.Struct, frozen=True, array_like=True):
    """``height`` 0 asks the sequencer to order the payload, and again for all blocks above ``known``."""

    height: int
    payload: bytes = b""
    known: int = 0


class Sequencer:
    """The engine."""

    def __init__(self, setup: EngineSetup) -> None:
        self._me, self._first = setup.me, setup.validators.peers[0]
        self._blocks: list[bytes] = []
        self._early: dict[int, bytes] = {}
        self._asked: dict[bytes, None] = {}

    def start(self, records: Sequence[bytes], *, now_ms: int) -> Sequence[SimpleEffect]:
        self._blocks = list(records)
        return [*(DecidePayload(height, block) for height, block in enumerate(records, 1)), WakeAt(now_ms + RETRY_MS)]

    def submit(self, payload: bytes, *, now_ms: int) -> Sequence[SimpleEffect]:
        if self._me == self._first:
            return self._order(payload)
        self._asked[payload] = None
        return [Send(self._first, self._ask(payload))]

    def receive(self, sender: PeerId, message: bytes, *, now_ms: int) -> Sequence[SimpleEffect]:
        try:
            said = msgspec.msgpack.decode(message, type=Said)
        except msgspec.DecodeError as error:
            raise RemoteProtocolError(f"unreadable: {error}") from error
        if said.height == 0 and self._me == self._first:
            missing = [Send(sender, _say(height, self._blocks[height - 1])) for height in self._above(said.known)]
            return [*missing, *self._order(said.payload)]
        if said.height < 1 or sender != self._first:
            raise RemoteProtocolError("only the first validator decides")
        return self._take(said)

    def wake(self, *, now_ms: int) -> Sequence[SimpleEffect]:
        again = (
            [] if self._me == self._first else [Send(self._first, self._ask(one)) for one in self._asked or {b"": None}]
        )
        return [*again, WakeAt(now_ms + RETRY_MS)]

    def _ask(self, payload: bytes) -> bytes:
        return msgspec.msgpack.encode(Said(0, payload, len(self._blocks)))

    def _above(self, known: int) -> range:
        return range(max(0, known) + 1, len(self._blocks) + 1)

    def _order(self, payload: bytes) -> Sequence[SimpleEffect]:
        if payload in self._blocks or not payload:
            return ()
        self._blocks.append(payload)
        height = len(self._blocks)
        return [Persist(payload), DecidePayload(height, payload), Broadcast(_say(height, payload))]

    def _take(self, said: Said) -> Sequence[SimpleEffect]:
        effects: list[SimpleEffect] = []
        if said.height > len(self._blocks):
            self._early[said.height] = said.payload
        while (payload := self._early.pop(len(self._blocks) + 1, None)) is not None:
            self._blocks.append(payload)
            self._asked.pop(payload, None)
            effects += [Persist(payload), DecidePayload(len(self._blocks), payload)]
        return effects


def _say(height: int, payload: bytes) -> bytes:
    return msgspec.msgpack.encode(Said(height, payload))
