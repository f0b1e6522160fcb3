"""Who has which part of the memory for records, and whose record gives way when another one needs room.

Providers' keys are free, so a record is charged to the *sender* that brought it; a provider with weight pays for its own records, whoever brings them. What
a payer has counts as the greater of two fractions, that of the bytes and that of the keys, divided by its share (:func:`fluvial.fairness.share_of`)::

    a record of a stranger   makes one of the sender give way that has most; never one of a provider with weight
    a record of a provider   makes the same one give way; only if strangers have nothing, one of the provider with weight
    with weight              that has most

Whoever would have most itself with the new record can only take the place of its own record that is farthest from this peer, and farther than the new one.

Source: A. Ghodsi et al., *Dominant Resource Fairness*, NSDI 2011 (the greater fraction).
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from itertools import count
from sys import getsizeof
from typing import Final, TypeAlias

import msgspec
from fluvial.fairness import share_of
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.keyspace import Key, Weigh
from fluvial_dht_kademlia.machine.records import ProviderRecord

RECORD_BYTES: Final = 2_000
"""Of a record beside its texts and bytes, where its key, its provider and its sender have no other one. Measured."""
SPARE_ENTRIES: Final = 16
"""Entries that are not true any more, beside as many as there are true ones, before a heap is made anew."""

RecordPlace: TypeAlias = tuple[Key, PeerId]
"""Where a record stands: its key and its provider."""


def record_bytes(challenge: Challenge, record: ProviderRecord) -> int:
    """The memory of a record that is kept, in bytes, at most.

    Its texts are looked at: one character of a text may make it four times as large as what was sent.
    """
    fields = record.fields
    texts = (*fields.addresses, fields.provider, fields.relay, fields.service, challenge.kind)
    contents = (challenge.body, fields.key, fields.value, fields.solution, record.signature)
    return RECORD_BYTES + sum(map(getsizeof, texts)) + sum(map(getsizeof, contents))


class RecordPayer(msgspec.Struct, eq=False):
    """Somebody to whom records are charged.

    Attributes:
        peer: who it is: a sender, or a provider with weight; None for all senders that are not known.
        vouched: whether it is a provider with weight.
        share: see :func:`fluvial.fairness.share_of`.
        bytes, records: what is charged to it.
        listed: the fraction under which it stands in line; not below its own.
        farthest: a heap of its records, the farthest from this peer first, and of some that are not its own any more.
    """

    peer: PeerId | None
    vouched: bool
    share: int
    bytes: int = 0
    records: int = 0
    listed: float = -1.0
    farthest: list[tuple[int, PeerId]] = msgspec.field(default_factory=list)


class _PayerLine:
    """Payers, whoever has most first."""

    def __init__(self, fraction: Callable[[RecordPayer], float]) -> None:
        self.payers: Final[dict[PeerId | None, RecordPayer]] = {}
        self._fraction = fraction
        self._heap: list[tuple[float, int, RecordPayer]] = []
        self._order = count()

    def put(self, payer: RecordPayer) -> None:
        """A payer has more than before."""
        payer.listed = self._fraction(payer)
        heappush(self._heap, (-payer.listed, next(self._order), payer))
        if len(self._heap) > SPARE_ENTRIES + 2 * len(self.payers):
            self.renew()

    def renew(self) -> None:
        """Make the line anew: shares have changed, or it is long."""
        for payer in self.payers.values():
            payer.listed = self._fraction(payer)
        self._heap = [(-payer.listed, next(self._order), payer) for payer in self.payers.values()]
        heapify(self._heap)

    def first(self) -> RecordPayer | None:
        """Whoever has most; None if nobody has anything."""
        while self._heap:
            negative, _, payer = self._heap[0]
            if not payer.records or -negative != payer.listed:
                heappop(self._heap)
            elif payer.listed == (now := self._fraction(payer)):
                return payer
            else:
                heappop(self._heap)
                payer.listed = now
                heappush(self._heap, (-now, next(self._order), payer))
        return None


class RecordShares:
    """See the module's docstring.

    Args:
        own: this peer's place.
        bytes_max, records_max: of which fractions are counted.
        weigh: the weight of a peer now.
        payer_at: to whom the record at a place is charged now; None if there is none, or it is charged to nobody.
    """

    def __init__(
        self,
        own: Key,
        *,
        bytes_max: int,
        records_max: int,
        weigh: Weigh,
        payer_at: Callable[[Key, PeerId], RecordPayer | None],
    ) -> None:
        self.bytes = 0
        self._own = own
        self._bytes_max = bytes_max
        self._records_max = records_max
        self._weigh = weigh
        self._payer_at = payer_at
        self._senders = _PayerLine(self._fraction)
        self._vouched = _PayerLine(self._fraction)

    def payer(self, provider: PeerId, sender: PeerId | None) -> RecordPayer:
        """Who pays for a record now; counts for nothing until something is charged to it."""
        vouched = self._weigh(provider) > 0
        peer = provider if vouched else sender
        line = self._vouched if vouched else self._senders
        return line.payers.get(peer) or RecordPayer(peer, vouched, self._share(peer))

    def charge(self, payer: RecordPayer, place: RecordPlace, size: int) -> None:
        """Count a record, of which ``payer_at`` says already that it is charged to this payer."""
        line = self._vouched if payer.vouched else self._senders
        line.payers[payer.peer] = payer
        self.bytes += size
        payer.bytes += size
        payer.records += 1
        line.put(payer)
        key, provider = place
        heappush(payer.farthest, (-(key ^ self._own), provider))
        if len(payer.farthest) > SPARE_ENTRIES + 2 * payer.records:
            payer.farthest = sorted({entry for entry in payer.farthest if self._is_of(payer, entry)})

    def release(self, payer: RecordPayer, size: int) -> None:
        """Count a record no more."""
        self.bytes -= size
        payer.bytes -= size
        payer.records -= 1
        if not payer.records:
            line = self._vouched if payer.vouched else self._senders
            line.payers.pop(payer.peer, None)

    def gives_way(self, payer: RecordPayer, key: Key, size: int) -> RecordPlace | None:
        """Whose record gives way to a record of so many bytes at a key, which is going to be charged to a payer; None if it is the new one."""
        first = self._senders.first()
        if first is not None and payer.vouched:
            return self._farthest(first)
        if payer.vouched:
            first = self._vouched.first()
        if first is None:
            return None
        if first is not payer and self._fraction(first) > self._fraction(payer, size):
            return self._farthest(first)
        place = self._farthest(payer)
        return place if place is not None and place[0] ^ self._own > key ^ self._own else None

    def renew(self) -> None:
        """Weights have changed, perhaps: look at all shares."""
        for line in (self._senders, self._vouched):
            for payer in line.payers.values():
                payer.share = self._share(payer.peer)
            line.renew()

    def _fraction(self, payer: RecordPayer, more: int = 0) -> float:
        records = payer.records + (more > 0)
        return max((payer.bytes + more) / self._bytes_max, records / self._records_max) / payer.share

    def _share(self, peer: PeerId | None) -> int:
        return share_of(self._weigh(peer)) if peer is not None else 1

    def _farthest(self, payer: RecordPayer) -> RecordPlace | None:
        heap = payer.farthest
        while heap:
            if self._is_of(payer, heap[0]):
                distance, provider = heap[0]
                return Key(-distance ^ self._own), provider
            heappop(heap)
        return None

    def _is_of(self, payer: RecordPayer, entry: tuple[int, PeerId]) -> bool:
        distance, provider = entry
        return self._payer_at(Key(-distance ^ self._own), provider) is payer
