"""Consensus ``none``: a peer that takes no part in ordering anything."""

from __future__ import annotations

from collections.abc import Sequence

from fluvial.effectors import NoConfig
from fluvial.errors import Refused
from fluvial.identity import PeerId
from fluvial.seats import ConsensusEffect, Surroundings


class NoConsensus:
    """Commits nothing and says so to whoever asks."""

    def __init__(self, surroundings: Surroundings, options: NoConfig) -> None:
        """Needs nothing of its surroundings and has no options."""

    def start(self, records: Sequence[bytes], *, now_ms: int) -> Sequence[ConsensusEffect]:
        """Nothing to begin; records of an engine that sat here before stay where they are."""
        return ()

    def submit(self, payload: bytes, *, now_ms: int) -> Sequence[ConsensusEffect]:
        """Refused, always.

        Raises:
            Refused: there is no ledger behind this peer.
        """
        raise Refused(
            'this peer orders nothing: its config has consensus = "none"',
            reason="no_consensus",
            hint="choose an engine in [consensus], or submit to a peer that has one",
        )

    def receive(self, sender: PeerId, message: bytes, *, now_ms: int) -> Sequence[ConsensusEffect]:
        """Ignored: a validator that counts on this peer is misinformed, not malicious."""
        return ()

    def wake(self, *, now_ms: int) -> Sequence[ConsensusEffect]:
        """Nothing was asked for."""
        return ()
