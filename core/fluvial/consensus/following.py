"""The engine of a peer that holds the ledger without deciding about it: it asks for what is new, and believes proofs alone.

It works for every algorithm, since all of them prove finality in one form (:class:`~fluvial.ledger.blocks.FinalityProof`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fluvial.consensus.effects import Effect, NeedHistory, SetTimer
from fluvial.consensus.engine import EngineSetup
from fluvial.consensus.events import Event, Synced, TimerFired

PAUSE: Final = 4
"""It asks every so many Δ, in case that nobody tells it of new blocks."""


class Following:
    """Asks for history at intervals; has no votes and writes nothing.

    Args:
        setup: its world.
    """

    def __init__(self, setup: EngineSetup) -> None:
        self._pause_ms: Final = PAUSE * setup.delta_ms
        self._slot = setup.anchor.slot

    def start(self, records: Sequence[bytes], now: int) -> Sequence[Effect]:
        """Begin; records of an engine that was here before do not matter to a follower."""
        return self._ask()

    def handle(self, event: Event, now: int) -> Sequence[Effect]:
        """React to one event."""
        match event:
            case TimerFired("follow"):
                return self._ask()
            case Synced(anchor):
                self._slot = anchor.slot
        return ()

    def inspect(self) -> Mapping[str, Any]:
        """Where it stands."""
        return {"view": self._slot}

    def _ask(self) -> Sequence[Effect]:
        return (NeedHistory(), SetTimer("follow", self._pause_ms))
