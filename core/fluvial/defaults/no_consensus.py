"""Consensus ``none``: a peer without a ledger."""

from __future__ import annotations

from fluvial.effectors import NoConfig
from fluvial.errors import Refused
from fluvial.ports import NO_BLOCKS, Context, View
from fluvial.seats import Consensus


class NoConsensus(Consensus):
    """Has no blocks, and refuses transactions with an explanation."""

    def __init__(self, context: Context, options: NoConfig) -> None:
        """Needs nothing of its context and has no options."""

    def view(self) -> View:
        """Height 0."""
        return NO_BLOCKS

    async def submit(self, transaction: bytes) -> None:
        """Refused, always.

        Raises:
            Refused: there is no ledger behind this peer.
        """
        raise Refused('this peer has no ledger: its config has consensus = "none"', reason="no_consensus")
