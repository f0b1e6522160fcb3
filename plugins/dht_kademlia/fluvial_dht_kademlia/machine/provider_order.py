"""Who is kept at one key, and in which order providers are handed out.

Providers with weight come first: the heaviest first, of equal weight the one that registered last. Then those without weight, the one that
has been here for longest first: a flood of newcomers does not push it out. Of the ``limit`` places, ``reserve`` are for providers without
weight; either side uses what the other leaves free, and yields it when the other side comes.

The selection is a pure function of the rows and of the weights of now, so it does not depend on the order of arrivals.

Source: Fluence white paper, "DHT": providers ordered by trust weight, limited in number, with a reserve.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import msgspec
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.keyspace import Weigh


class ProviderRow(NamedTuple):
    """What the order looks at.

    Attributes:
        peer: the provider.
        registered_at: when it said so last, in any unit; orders providers of equal weight.
        since: when this replica first heard of it; orders those without weight.
    """

    peer: PeerId
    registered_at: int
    since: int


class KeptProviders(msgspec.Struct, frozen=True):
    """The providers of a key that are kept, in order."""

    weighted: tuple[PeerId, ...]
    weightless: tuple[PeerId, ...]

    @property
    def ordered(self) -> tuple[PeerId, ...]:
        """All of them, in order."""
        return self.weighted + self.weightless


def keep_providers(rows: Iterable[ProviderRow], weigh: Weigh, *, limit: int, reserve: int) -> KeptProviders:
    """Select and order the providers of a key; ties go to the smaller peer id.

    Args:
        rows: one for each provider.
        weigh: the weights of now.
        limit: how many are kept.
        reserve: of these, how many places are for providers without weight.
    """
    weights = [(weigh(row.peer), row) for row in rows]
    weighted = sorted(
        ((weight, row) for weight, row in weights if weight > 0),
        key=lambda one: (-one[0], -one[1].registered_at, one[1].peer),
    )
    weightless = sorted((row for weight, row in weights if weight <= 0), key=lambda row: (row.since, row.peer))
    kept = [row.peer for _, row in weighted[: limit - min(len(weightless), reserve)]]
    return KeptProviders(tuple(kept), tuple(row.peer for row in weightless[: limit - len(kept)]))
