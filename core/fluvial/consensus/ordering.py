"""The second door: an ordering service outside, such as etcd, and the engine that turns its order into blocks.

A service keeps a log that only grows. Each validator puts its payloads into it, reads all of them in the log's order, and executes what is valid; then it signs a
checkpoint of the block, as with every engine that orders without executing (:class:`~fluvial.consensus.effects.Order`). So a ledger over a service has the same blocks,
certificates and light clients as any other, and a wrong execution is noticed. The order itself is only as good as the service: it tolerates crashes, not liars.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import sha256
from typing import Annotated, Any, Final, Protocol

import msgspec

from fluvial.consensus.effects import BuildPayload, Effect, NeedHistory, Order, Publish, SetTimer
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.events import Event, OrderLost, PayloadBuilt, PayloadOrdered, TimerFired
from fluvial.encoding import decode, encode
from fluvial.errors import RemoteProtocolError, Unreachable
from fluvial.ledger.blocks import PAYLOAD_BYTES_MAX, TIME_MAX
from fluvial.ledger.statements import VALIDATORS_MAX

ENTRY_BYTES_MAX: Final = PAYLOAD_BYTES_MAX + 64
"""The largest entry that a service must take."""
REPEAT: Final = 20
"""A payload that has not come back after so many Δ is published again; what it holds is executed once all the same."""
PAUSES: Final = 4
"""A validator with nothing to publish looks for transactions so often within Δ."""


class OrderLostError(Unreachable):
    """A service does not have entries any more that were asked for: history of other peers must fill the gap."""


class OrderedEntry(msgspec.Struct, frozen=True):
    """An entry of the log.

    Attributes:
        position: grows from one entry to the next, from 1 on; there may be gaps.
        data: what somebody has published.
    """

    position: int
    data: bytes


class OrderingService(Protocol):
    """A log of a service outside, which all validators of one ledger share."""

    async def submit(self, data: bytes) -> None:
        """Add an entry, once it is certain that it will not be lost.

        Args:
            data: at most ``ENTRY_BYTES_MAX`` bytes.

        Raises:
            FluvialError: it was not added, as far as can be known; it may be tried again.
        """
        ...

    def follow(self, after: int) -> AsyncIterator[OrderedEntry]:
        """All entries behind a position, in order, for ever. Everybody sees the same entries at the same positions.

        Args:
            after: 0 for all of them.

        Raises:
            OrderLostError: the next entry was dropped. FluvialError: the service cannot be reached; it may be tried again.
        """
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """For people: what it is and where, as JSON values; no secrets."""
        ...


class PublishedPayload(msgspec.Struct, frozen=True, array_like=True, tag="payload"):
    """What a validator publishes.

    Attributes:
        chain: id of the ledger; entries of others are skipped.
        proposer: index of the validator.
        time_ms: its clock.
        payload: of transactions.
    """

    chain: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
    proposer: Annotated[int, msgspec.Meta(ge=0, lt=VALIDATORS_MAX)]
    time_ms: Annotated[int, msgspec.Meta(ge=0, le=TIME_MAX)]
    payload: Annotated[bytes, msgspec.Meta(min_length=1, max_length=PAYLOAD_BYTES_MAX)]


class OutsideOrder:
    """The engine over a service. It has no messages, no votes and no records: the service's log is its memory.

    One payload of each validator is on its way at a time; so the service's own pace decides how large they become.

    Args:
        setup: its world.
    """

    def __init__(self, setup: EngineSetup) -> None:
        self._setup = setup
        self._index = setup.validators.index(setup.me)
        self._pause_ms: Final = max(1, setup.delta_ms // PAUSES)
        self._requests = 0
        self._waiting = b""
        self._position = setup.anchor.slot

    def start(self, records: Sequence[bytes], now: int) -> Sequence[Effect]:
        """Begin."""
        return () if self._index is None else self._look()

    def handle(self, event: Event, now: int) -> Sequence[Effect]:
        """React to one event."""
        match event:
            case TimerFired("look"):
                return self._look()
            case TimerFired("repeat") if self._waiting:
                return [Publish(self._waiting), SetTimer("repeat", REPEAT * self._setup.delta_ms)]
            case PayloadBuilt(payload=payload, time_ms=time_ms) if self._index is not None:
                if not payload:
                    return [SetTimer("look", self._pause_ms)]
                entry = encode(PublishedPayload(self._setup.chain, self._index, max(0, time_ms), payload))
                self._waiting = entry
                return [Publish(entry), SetTimer("repeat", REPEAT * self._setup.delta_ms)]
            case PayloadOrdered(position, data):
                return self._ordered(position, data)
            case OrderLost():
                return [NeedHistory()]
        return ()

    def inspect(self) -> Mapping[str, Any]:
        """Where it stands."""
        return {"view": self._position}

    def _look(self) -> Sequence[Effect]:
        self._requests += 1
        return [BuildPayload(self._requests, None)]

    def _ordered(self, position: int, data: bytes) -> Sequence[Effect]:
        self._position = position
        effects: list[Effect] = []
        try:
            one = decode(data, PublishedPayload, what="published payload")
        except RemoteProtocolError:
            one = None  # of somebody else who may write into the log; the same for everybody
        if one is not None and one.chain == self._setup.chain:
            proposer = one.proposer % len(self._setup.validators)
            reference = sha256(position.to_bytes(8, "big") + data).digest()
            effects.append(Order(position, proposer, one.time_ms, (one.payload,), reference))
        if data == self._waiting:
            self._waiting = b""
            effects += self._look()
        return effects
