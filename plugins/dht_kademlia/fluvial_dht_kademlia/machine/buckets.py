"""One k-bucket: who stays and who goes when it is full.

A bucket has ``k`` places. Members without weight follow Kademlia: old members that still answer win over newcomers. Members with weight take
places from strangers, except for a reserve. The rules for a newcomer in a full bucket, first match first:

1. A member that did not answer its last request gives way.
2. Newcomer without weight, fewer strangers inside than the reserve: the lightest member gives way.
3. Newcomer without weight: the stranger that was not seen for longest is pinged; the newcomer waits among the replacements.
4. Newcomer with weight, more strangers inside than the reserve: the stranger that was not seen for longest gives way.
5. Newcomer heavier than the lightest weighted member: that one gives way, of several the one not seen for longest.
6. Otherwise the lightest weighted member that was not seen for longest is pinged if it is no heavier; the newcomer waits.

Weights are asked for at each decision, so a trust that was lost counts no more at the next one.

Source: Maymounkov, Mazières: "Kademlia", sections 2.2 and 4.1 (replacement cache); weights: Fluence white paper, address book eviction.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import msgspec
from fluvial.addresses import Contact
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.keyspace import Key, Weigh


class BucketMember(msgspec.Struct):
    """A contact in a bucket; ``failures`` counts requests that it has not answered since it last did."""

    contact: Contact
    key: Key
    failures: int = 0


class KBucket(msgspec.Struct):
    """At most ``size`` members and as many replacements; both ordered from not seen for longest to seen last.

    Attributes:
        size: places.
        reserve: places that weighted members do not keep from strangers; less than ``size``.
        looked_up_at: when a lookup last went here, in milliseconds; for the refresh.
    """

    size: int
    reserve: int
    looked_up_at: int = 0
    _members: OrderedDict[PeerId, BucketMember] = msgspec.field(default_factory=OrderedDict)
    _waiting: OrderedDict[PeerId, BucketMember] = msgspec.field(default_factory=OrderedDict)

    def __len__(self) -> int:
        """How many members it has."""
        return len(self._members)

    def __contains__(self, peer: object) -> bool:
        """Whether a peer is a member."""
        return peer in self._members

    def __iter__(self) -> Iterator[BucketMember]:
        """The members, not seen for longest first."""
        return iter(self._members.values())

    def alive(self) -> list[BucketMember]:
        """The members that answered their last request."""
        return [member for member in self._members.values() if not member.failures]

    def is_alive(self, peer: PeerId) -> bool:
        """Whether a peer is a member that answered its last request."""
        member = self._members.get(peer)
        return member is not None and not member.failures

    @property
    def waiting(self) -> tuple[PeerId, ...]:
        """The replacements, not seen for longest first."""
        return tuple(self._waiting)

    def seen(self, contact: Contact, key: Key, weigh: Weigh) -> Contact | None:
        """A peer has proven that it is there.

        Args:
            contact: who and where.
            key: its place.
            weigh: the weights of now.

        Returns:
            A member to ping: report :meth:`seen` if it answers, :meth:`failed` if not.
        """
        peer = contact.peer
        member = self._members.get(peer)
        if member is not None:
            member.contact = contact if contact.addresses else member.contact
            member.failures = 0
            self._members.move_to_end(peer)
            return None
        newcomer = BucketMember(contact, key)
        if len(self._members) < self.size:
            self._enter(newcomer)
            return None
        weight = weigh(peer)
        gives_way, ping = self._judge(weight, weigh)
        if gives_way is not None:
            del self._members[gives_way]
            self._enter(newcomer)
            return None
        self._waiting[peer] = newcomer
        self._waiting.move_to_end(peer)
        self._trim_waiting(weigh)
        return self._members[ping].contact if ping is not None else None

    def has_room(self, weight: int, weigh: Weigh) -> bool:
        """Whether a newcomer of a weight would enter now."""
        return len(self._members) < self.size or self._judge(weight, weigh)[0] is not None

    def failed(self, peer: PeerId, weigh: Weigh) -> None:
        """A peer did not answer. A replacement takes its place: the heaviest, of several the one seen last; without one it stays, as silent."""
        self._waiting.pop(peer, None)
        member = self._members.get(peer)
        if member is None:
            return
        member.failures += 1
        if self._waiting:
            best = max(reversed(self._waiting), key=weigh)
            del self._members[peer]
            self._enter(self._waiting[best])

    def _enter(self, newcomer: BucketMember) -> None:
        peer = newcomer.contact.peer
        self._waiting.pop(peer, None)
        self._members[peer] = newcomer

    def _judge(self, weight: int, weigh: Weigh) -> tuple[PeerId | None, PeerId | None]:
        """The member that gives way to a newcomer of a weight, or the member to ping; rules 1 to 6 of the module."""
        silent = next((peer for peer, member in self._members.items() if member.failures), None)
        if silent is not None:
            return silent, None
        weights = {peer: weigh(peer) for peer in self._members}
        strangers = [peer for peer, one in weights.items() if one <= 0]
        lightest = min((peer for peer, one in weights.items() if one > 0), key=weights.__getitem__, default=None)
        if weight <= 0:
            if len(strangers) < self.reserve and lightest is not None:
                return lightest, None
            return None, strangers[0] if strangers else None
        if len(strangers) > self.reserve:
            return strangers[0], None
        if lightest is None or weights[lightest] > weight:
            return None, None
        return (lightest, None) if weights[lightest] < weight else (None, lightest)

    def _trim_waiting(self, weigh: Weigh) -> None:
        if len(self._waiting) > self.size:
            del self._waiting[min(self._waiting, key=weigh)]  # of the lightest, the one not seen for longest
