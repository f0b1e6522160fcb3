"""The small door: engines of four methods, for teaching and for first ideas, and the adapter that makes a ``ConsensusEngine`` of one.

::

    registry.engine("sequencer", adapted(Sequencer), options=NoOptions, traits=SIMPLE)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Protocol, TypeAlias

from fluvial.consensus.effects import Broadcast, BuildPayload, Effect, Order, Persist, Send, SetTimer
from fluvial.consensus.engine import ConsensusEngine, EngineSetup, EngineTraits, MakeEngine
from fluvial.consensus.events import Event, MessageReceived, PayloadBuilt, TimerFired
from fluvial.encoding import decode, encode
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.identity import PeerId

SIMPLE: Final = EngineTraits(fault_model="crash", certifies_state=False)
"""What is true of an adapted engine, unless its author knows better."""


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Effect: call ``wake`` at this time; a later WakeAt replaces it."""

    time_ms: int


@dataclass(frozen=True, slots=True)
class DecidePayload:
    """Effect: this payload is final at this height, which counts from 1."""

    height: int
    payload: bytes


SimpleEffect: TypeAlias = Send | Broadcast | Persist | WakeAt | DecidePayload


class SimpleEngine(Protocol):
    """An engine that puts payloads into an order. Times are milliseconds since the process began."""

    def start(self, records: Sequence[bytes], *, now_ms: int) -> Sequence[SimpleEffect]:
        """Begin, or go on after a restart, with the records persisted before."""
        ...

    def submit(self, payload: bytes, *, now_ms: int) -> Sequence[SimpleEffect]:
        """Ask for a payload to be ordered; may raise Refused."""
        ...

    def receive(self, sender: PeerId, message: bytes, *, now_ms: int) -> Sequence[SimpleEffect]:
        """A message of another validator arrived; may raise RemoteProtocolError."""
        ...

    def wake(self, *, now_ms: int) -> Sequence[SimpleEffect]:
        """The time asked for with WakeAt has come."""
        ...


MakeSimple: TypeAlias = Callable[[EngineSetup], SimpleEngine]


def adapted(make: MakeSimple) -> MakeEngine:
    """The factory of a ConsensusEngine around a SimpleEngine."""

    def make_adapted(setup: EngineSetup, options: Any) -> ConsensusEngine:
        return AdaptedEngine(make(setup), setup)

    return make_adapted


class AdaptedEngine:
    """Brings what waits in the host to a SimpleEngine, each payload with the time at which it was submitted.

    Args:
        simple: the engine.
        setup: its world.
    """

    def __init__(self, simple: SimpleEngine, setup: EngineSetup) -> None:
        self._simple, self._pause_ms = simple, max(1, setup.delta_ms // 2)
        self._validators, self._member = setup.validators, setup.validators.index(setup.me) is not None
        self._requests = 0
        self._height = 0

    def start(self, records: Sequence[bytes], now: int) -> Sequence[Effect]:
        """Begin."""
        effects = self._translated(self._simple.start(records, now_ms=now), now)
        return [*effects, SetTimer("gather", self._pause_ms)] if self._member else effects

    def handle(self, event: Event, now: int) -> Sequence[Effect]:
        """React to one event."""
        try:
            match event:
                case MessageReceived(sender, data):
                    return self._translated(self._simple.receive(sender, data, now_ms=now), now)
                case TimerFired("wake"):
                    return self._translated(self._simple.wake(now_ms=now), now)
                case TimerFired("gather"):
                    self._requests += 1
                    return [BuildPayload(self._requests, None), SetTimer("gather", self._pause_ms)]
                case PayloadBuilt(payload=payload, time_ms=time_ms) if payload:
                    return self._translated(self._simple.submit(encode((time_ms, payload)), now_ms=now), now)
        except (Refused, RemoteProtocolError):
            return ()
        return ()

    def inspect(self) -> Mapping[str, Any]:
        """Where it stands."""
        return {"view": self._height}

    def _translated(self, effects: Sequence[SimpleEffect], now: int) -> list[Effect]:
        return [self._effect(effect, now) for effect in effects]

    def _effect(self, effect: SimpleEffect, now: int) -> Effect:
        match effect:
            case WakeAt(time_ms):
                return SetTimer("wake", max(0, time_ms - now))
            case DecidePayload(height, payload):
                self._height = height
                time_ms, inner = _unwrapped(payload)
                reference = sha256(height.to_bytes(8, "big") + payload).digest()
                return Order(height, 0, time_ms, (inner,) if inner else (), reference)
        return effect


def _unwrapped(payload: bytes) -> tuple[int, bytes]:
    """Time and payload as they were submitted; nothing, if another validator has submitted garbage."""
    try:
        return decode(payload, tuple[int, bytes], what="payload with its time")
    except RemoteProtocolError:
        return 0, b""
