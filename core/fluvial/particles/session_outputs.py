"""What a session gives to its shell: what is to be written, and what is to be handed over."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fluvial.air.data.batch import Known
from fluvial.identity import PeerId
from fluvial.particle import Delivery
from fluvial.particles.journal import JournalItem, write_entry
from fluvial.stored import JournalEntry


class Writes(msgspec.Struct, frozen=True, kw_only=True):
    """What one transaction must make durable before anything else is done.

    Attributes:
        needed: whether there is anything to write.
        items: what happened, in order.
        first: number of the first journal entry.
        at_ms: when, milliseconds since 1970.
        peers: who must be handed the particle now.
        lost: next peers whose names are no peer ids. These are not written: there is no way to send the particle there.
        beyond: how many next peers are left out because the particle goes to too many.
        finished: whether nothing is left to do.
    """

    needed: bool
    items: Sequence[JournalItem]
    first: int
    at_ms: int
    peers: Sequence[PeerId]
    lost: Sequence[str]
    beyond: int
    finished: bool

    def entries(self) -> list[JournalEntry]:
        """The journal entries that stand for the items."""
        return [write_entry(item, self.first + number, self.at_ms) for number, item in enumerate(self.items)]


class Parcel(msgspec.Struct, frozen=True):
    """A delivery, and what the receiver will have when it has taken it in."""

    delivery: Delivery
    brings: Known
