"""The address book of a peer: 256 buckets by distance, and the nearest contacts to any key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import nsmallest

from fluvial.addresses import Contact
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.buckets import BucketMember, KBucket
from fluvial_dht_kademlia.machine.keyspace import KEY_BITS, Key, PlaceOf, Weigh, bucket_index


class ContactTable:
    """Contacts that have proven to be there, at most ``k`` for each bucket.

    Args:
        own: this peer's place.
        k: places of a bucket.
        reserve: of these, how many are always open to strangers.
        place: where a peer is.
        weigh: the weight of a peer now.
        weights_version: changes whenever a weight may have changed; without it weights are looked up each time.
    """

    def __init__(
        self,
        own: Key,
        *,
        k: int,
        reserve: int,
        place: PlaceOf,
        weigh: Weigh,
        weights_version: Callable[[], int] | None = None,
    ) -> None:
        self._own = own
        self._k = k
        self._reserve = reserve
        self._place = place
        self._weigh = weigh
        self._weights_version = weights_version
        self._buckets: dict[int, KBucket] = {}
        self._heavy: list[BucketMember] = []
        self._heavy_of: int | None = None

    def __len__(self) -> int:
        """How many contacts it holds."""
        return sum(len(bucket) for bucket in self._buckets.values())

    def __contains__(self, peer: PeerId) -> bool:
        """Whether a peer is in a bucket."""
        bucket = self._buckets.get(bucket_index(self._own, self._place(peer)))
        return bucket is not None and peer in bucket

    def __iter__(self) -> Iterator[BucketMember]:
        """All members, nearest bucket first."""
        return (member for index in sorted(self._buckets) for member in self._buckets[index])

    def has_room(self, peer: PeerId) -> bool:
        """Whether a peer that is not in the table would enter it now."""
        index = bucket_index(self._own, self._place(peer))
        bucket = self._buckets.get(index)
        if bucket is None:
            return index >= 0
        return peer not in bucket and bucket.has_room(self._weigh(peer), self._weigh)

    def seen(self, contact: Contact) -> Contact | None:
        """A peer has proven that it is there; returns a contact to ping, see :meth:`KBucket.seen`."""
        key = self._place(contact.peer)
        index = bucket_index(self._own, key)
        if index < 0:
            return None  # this peer itself
        bucket = self._buckets.get(index)
        if bucket is None:
            bucket = self._buckets[index] = KBucket(self._k, self._reserve)
        if not bucket.is_alive(contact.peer):
            self._heavy_of = None
        return bucket.seen(contact, key, self._weigh)

    def failed(self, peer: PeerId) -> None:
        """A peer did not answer."""
        bucket = self._buckets.get(bucket_index(self._own, self._place(peer)))
        if bucket is not None:
            self._heavy_of = None
            bucket.failed(peer, self._weigh)

    def nearest(self, target: Key, count: int) -> list[Contact]:
        """The ``count`` contacts nearest to a key that answered last time, nearest first."""
        found: list[BucketMember] = []
        for group in self._by_distance(target):
            members = [member for bucket in group for member in bucket.alive()]
            members.sort(key=lambda member: member.key ^ target)
            found += members
            if len(found) >= count:
                break
        return [member.contact for member in found[:count]]

    def nearest_weighted(self, target: Key, count: int) -> list[Contact]:
        """As :meth:`nearest`, among contacts with weight."""
        near = nsmallest(count, self._weighted(), key=lambda member: member.key ^ target)
        return [member.contact for member in near]

    def everybody(self) -> list[Contact]:
        """All contacts, silent ones too: to start from when nobody answers any more."""
        return [member.contact for member in self]

    def silent(self) -> list[Contact]:
        """Contacts that did not answer the last time: they may have been cut off, and be there again."""
        return [member.contact for member in self if member.failures]

    def looked_up(self, target: Key, now: int) -> None:
        """A lookup of a key begins; its bucket needs no refresh for a while."""
        bucket = self._buckets.get(bucket_index(self._own, target))
        if bucket is not None:
            bucket.looked_up_at = now

    def stale(self, before: int) -> list[int]:
        """The indices of the buckets to which no lookup went since ``before``."""
        return [index for index, bucket in self._buckets.items() if bucket.looked_up_at < before]

    def sparse(self) -> list[int]:
        """The indices of the buckets that are less than half full, farthest first: to be filled after joining.

        Buckets nearer than the ``k`` nearest contacts are left out: a lookup of the own place has found all that there is.
        """
        known = 0
        for first in sorted(self._buckets):
            known += len(self._buckets[first])
            if known >= self._k:
                held = self._buckets
                return [one for one in range(KEY_BITS - 1, first - 1, -1) if len(held.get(one, ())) * 2 < self._k]
        return []

    def _weighted(self) -> list[BucketMember]:
        """The members with weight that answered last time."""
        version = self._weights_version() if self._weights_version is not None else None
        if version is None or version != self._heavy_of:
            weigh = self._weigh
            self._heavy = [
                member
                for bucket in self._buckets.values()
                for member in bucket.alive()
                if weigh(member.contact.peer) > 0
            ]
            self._heavy_of = version
        return self._heavy

    def _by_distance(self, target: Key) -> Iterator[Iterable[KBucket]]:
        """The buckets by distance from the target: its own one, then all nearer to this peer, then the farther ones in order."""
        index = bucket_index(self._own, target)
        if index in self._buckets:
            yield (self._buckets[index],)
        yield [bucket for other, bucket in self._buckets.items() if other < index]
        for other in sorted(other for other in self._buckets if other > index):
            yield (self._buckets[other],)
