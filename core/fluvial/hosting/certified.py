"""The newest state that others can be convinced of: its block has a certificate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fluvial.ledger.blocks import BlockHeader, FinalityProof
from fluvial.ledger.state import State

KEPT_MAX: Final = 128
"""States that wait for a proof; versions share most of what they hold."""


@dataclass(frozen=True, slots=True)
class CertifiedState:
    """A state, the block that led to it, and the proof that it is final."""

    header: BlockHeader
    state: State
    proof: FinalityProof


class CertifiedStates:
    """Brings states and proofs together, which do not come at the same time.

    Attributes:
        newest: the highest one; None until there is one.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, tuple[BlockHeader, State]] = {}
        self.newest: CertifiedState | None = None

    def put(self, header: BlockHeader, state: State) -> None:
        """The state after a block."""
        self._waiting[header.height] = header, state
        if len(self._waiting) > KEPT_MAX:
            del self._waiting[next(iter(self._waiting))]

    def prove(self, height: int, proof: FinalityProof) -> None:
        """The proof of a block."""
        found = self._waiting.get(height)
        if found is not None and (self.newest is None or height > self.newest.header.height):
            self.newest = CertifiedState(*found, proof)
            for old in [one for one in self._waiting if one <= height]:
                del self._waiting[old]
