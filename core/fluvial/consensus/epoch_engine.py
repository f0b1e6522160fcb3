"""The engine of the epoch that goes on, with the events that it has not handled yet, and the messages that came before their epoch."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Final

from fluvial.consensus.effects import Effect
from fluvial.consensus.engine import ConsensusEngine
from fluvial.consensus.events import Event, MessageReceived
from fluvial.identity import PeerId

EARLY_MAX: Final = 64
"""Messages of the next epoch that are kept for each sender until it begins here. Whoever hears only validators bounds the senders."""


class EpochEngine:
    """Runs one engine after another, each for an epoch; nothing of one epoch reaches the engine of another.

    Attributes:
        epoch: the one that goes on.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._engine: ConsensusEngine | None = None
        self._events: deque[Event] = deque()
        self._early: dict[PeerId, list[bytes]] = {}

    def begin(self, epoch: int, engine: ConsensusEngine, records: Sequence[bytes], now: int) -> Sequence[Effect]:
        """Another epoch begins; what its engine asks for first. Call :meth:`hear_early` once that is carried out.

        Args:
            epoch: which.
            engine: made for it.
            records: what it has persisted before a restart.
            now: in milliseconds.
        """
        if epoch != self.epoch + 1:
            self._early.clear()
        self.epoch, self._engine = epoch, engine
        self._events.clear()
        return engine.start(records, now)

    def hear_early(self) -> None:
        """Let the engine hear the messages of its epoch that came before it began."""
        early, self._early = self._early, {}
        self._events += (MessageReceived(sender, data) for sender, messages in early.items() for data in messages)

    def happened(self, event: Event) -> None:
        """An event for the engine; it is handled after all that happened before it."""
        self._events.append(event)

    def hear(self, sender: PeerId, epoch: int, data: bytes) -> bool:
        """A message of this or a later epoch; returns whether it is of this one."""
        if epoch == self.epoch:
            self.happened(MessageReceived(sender, data))
        elif epoch == self.epoch + 1:
            kept = self._early.setdefault(sender, [])
            if len(kept) < EARLY_MAX:
                kept.append(data)
        return epoch == self.epoch

    def next_effects(self, now: int) -> Sequence[Effect] | None:
        """What the engine asks for because of the next event; None if nothing has happened."""
        if self._engine is None or not self._events:
            return None
        return self._engine.handle(self._events.popleft(), now)

    def inspect(self) -> dict[str, Any]:
        """What the engine says of itself."""
        return dict(self._engine.inspect()) if self._engine is not None else {}
