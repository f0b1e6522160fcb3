"""Consensus engines: the algorithm alone, a pure machine. Inputs and the time go in, an ordered list of effects comes out.

Researchers write an engine and offer it with ``registry.engine``. It gets no Context: it cannot do I/O by accident, so that every engine can be
simulated, replayed and fuzzed by the same code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from fluvial.identity import PeerId


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Whom an engine orders with.

    Attributes:
        me: the peer that the engine works for.
        validators: all who take part, this peer among them if it does, sorted.
    """

    me: PeerId
    validators: tuple[PeerId, ...]


@dataclass(frozen=True, slots=True)
class SendTo:
    """Effect: send an engine's message to one validator."""

    peer: PeerId
    message: bytes


@dataclass(frozen=True, slots=True)
class Broadcast:
    """Effect: send an engine's message to all other validators."""

    message: bytes


@dataclass(frozen=True, slots=True)
class Persist:
    """Effect: make a record durable before any effect after it in the list is carried out."""

    record: bytes


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Effect: call ``wake`` at this time, in milliseconds since 1970; a later WakeAt replaces it."""

    time_ms: int


@dataclass(frozen=True, slots=True)
class Commit:
    """Effect: these payloads are final at this height; ``certificate`` proves it to others (may be empty)."""

    height: int
    payloads: tuple[bytes, ...]
    certificate: bytes = b""


EngineEffect: TypeAlias = SendTo | Broadcast | Persist | WakeAt | Commit


class SimpleEngine(Protocol):
    """A consensus engine: inputs and the time in, an ordered list of effects out; it does no I/O of its own."""

    def start(self, records: Sequence[bytes], *, now_ms: int) -> Sequence[EngineEffect]:
        """Begin, or go on after a restart, with the records persisted before."""
        ...

    def submit(self, payload: bytes, *, now_ms: int) -> Sequence[EngineEffect]:
        """Ask for a payload to be ordered.

        Raises:
            Refused: this peer cannot bring anything into the ledger.
        """
        ...

    def receive(self, sender: PeerId, message: bytes, *, now_ms: int) -> Sequence[EngineEffect]:
        """A message of another validator arrived; a bad one is reported by raising RemoteProtocolError."""
        ...

    def wake(self, *, now_ms: int) -> Sequence[EngineEffect]:
        """The time asked for with WakeAt has come."""
        ...


MakeEngine: TypeAlias = Callable[[Membership, Any], SimpleEngine]
"""Makes an engine: ``(membership, options) -> engine``."""
