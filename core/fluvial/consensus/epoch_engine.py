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


EARLY_BYTES_MAX: Final = 32 << 20
"""Of all of them together; whoever has most of them gives way. An epoch begins everywhere within moments: it is a message or two of each, and what is lost is repeated."""


class EarlyMessages:
    """Messages of the next epoch, by sender."""

    def __init__(self) -> None:
        self._kept: dict[PeerId, list[bytes]] = {}
        self._sizes: dict[PeerId, int] = {}
        self.held_bytes = 0

    def put(self, sender: PeerId, data: bytes) -> None:
        """Keep a message, if there is room; of whoever has the most bytes, the newest go."""
        kept = self._kept.setdefault(sender, [])
        if len(kept) >= EARLY_MAX or len(data) > EARLY_BYTES_MAX:
            return
        kept.append(data)
        self._grow(sender, len(data))
        while self.held_bytes > EARLY_BYTES_MAX:
            heaviest = max(self._sizes, key=lambda one: self._sizes[one])
            self._grow(heaviest, -len(self._kept[heaviest].pop()))

    def taken(self) -> Sequence[tuple[PeerId, bytes]]:
        """All that is kept, which is forgotten here."""
        kept, self._kept, self._sizes, self.held_bytes = self._kept, {}, {}, 0
        return [(sender, data) for sender, messages in kept.items() for data in messages]

    def _grow(self, sender: PeerId, size: int) -> None:
        self._sizes[sender] = self._sizes.get(sender, 0) + size
        self.held_bytes += size


class EpochEngine:
    """Runs one engine after another, each for an epoch; nothing of one epoch reaches the engine of another.

    Attributes:
        epoch: the one that goes on.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self._engine: ConsensusEngine | None = None
        self._events: deque[Event] = deque()
        self._early = EarlyMessages()

    def begin(self, epoch: int, engine: ConsensusEngine, records: Sequence[bytes], now: int) -> Sequence[Effect]:
        """Another epoch begins; what its engine asks for first. Call :meth:`hear_early` once that is carried out.

        Args:
            epoch: which.
            engine: made for it.
            records: what it has persisted before a restart.
            now: in milliseconds.
        """
        if epoch != self.epoch + 1:
            self._early.taken()
        self.epoch, self._engine = epoch, engine
        self._events.clear()
        return engine.start(records, now)

    def hear_early(self) -> None:
        """Let the engine hear the messages of its epoch that came before it began."""
        self._events += (MessageReceived(sender, data) for sender, data in self._early.taken())

    def happened(self, event: Event) -> None:
        """An event for the engine; it is handled after all that happened before it."""
        self._events.append(event)

    def hear(self, sender: PeerId, epoch: int, data: bytes) -> bool:
        """A message of this or a later epoch; returns whether it is of this one."""
        if epoch == self.epoch:
            self.happened(MessageReceived(sender, data))
        elif epoch == self.epoch + 1:
            self._early.put(sender, data)
        return epoch == self.epoch

    def next_effects(self, now: int) -> Sequence[Effect] | None:
        """What the engine asks for because of the next event; None if nothing has happened."""
        if self._engine is None or not self._events:
            return None
        return self._engine.handle(self._events.popleft(), now)

    def inspect(self) -> dict[str, Any]:
        """What the engine says of itself."""
        return dict(self._engine.inspect()) if self._engine is not None else {}
