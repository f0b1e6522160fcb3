"""The address book: what is known of where peers can be reached, by whom it was said, and what became of it. Pure.

Addresses of a peer come from the settings (nobody replaces these), from the peer itself (in a handshake, or in something that it signed), or from
peers that were asked for it. Those that did not lead to the peer stand last, and do not count as a way until they were tried elsewhere or their
pause is over; pauses double.

When the book is full, of the entries not used for longest the lightest goes. An entry with weight that is spared counts as used. So weight keeps a
peer in the book, and strangers always find room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from fluvial.addresses import Address, Contact
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.keyspace import Weigh
from fluvial_dht_kademlia.machine.limits import ADDRESSES_MAX

LOOKED_AT: Final = 16
"""Entries among which the one that goes is chosen."""
PAUSE_MS_FIRST: Final = 1_000
PAUSE_MS_MAX: Final = 600_000


@dataclass(slots=True)
class BookEntry:
    """A peer.

    Attributes:
        addresses: as the peer announced them, or others have said, best first.
        fixed: those of the settings.
        seen_at: when somebody last said so; 0 for the settings alone.
        failures: how often in a row no address led to the peer.
        pause_until: until then its addresses count as no way.
    """

    addresses: tuple[Address, ...] = ()
    fixed: tuple[Address, ...] = ()
    seen_at: int = 0
    failures: int = 0
    pause_until: int = 0


@dataclass(slots=True)
class AddressBook:
    """See the module's docstring.

    Args:
        own: this peer; never in its own book.
        entries_max: peers beside those of the settings.
        weigh: the weight of a peer now.
    """

    own: PeerId
    entries_max: int
    weigh: Weigh
    _entries: OrderedDict[PeerId, BookEntry] = field(default_factory=OrderedDict)
    _fixed: dict[PeerId, BookEntry] = field(default_factory=dict)
    _changed: set[PeerId] = field(default_factory=set)
    evicted: int = 0

    def __len__(self) -> int:
        """How many peers it has."""
        return len(self._entries) + len(self._fixed)

    def __iter__(self) -> Iterator[Contact]:
        """All contacts with addresses: those of the settings, then the others, the most recently used first."""
        for peer in (*self._fixed, *reversed(self._entries)):
            contact = self.contact(peer)
            if contact.addresses:
                yield contact

    def fix(self, contacts: Iterable[Contact]) -> None:
        """Contacts of the settings."""
        for contact in contacts:
            if contact.peer != self.own:
                entry = self._fixed.setdefault(contact.peer, BookEntry())
                entry.fixed = tuple(dict.fromkeys((*entry.fixed, *contact.addresses)))

    def learn(self, contact: Contact, now: int) -> bool:
        """A peer has announced addresses of its own, or was found at them; those that name somebody else are dropped.

        Returns:
            Whether something is known now that was not known before.
        """
        peer = contact.peer
        told = [one.with_peer(peer) for one in contact.addresses if one.peer in (None, peer)]
        if not told or peer == self.own:
            return False
        entry = self._entry(peer)
        before = entry.addresses
        entry.addresses = tuple(dict.fromkeys((*told, *before)))[:ADDRESSES_MAX]
        entry.seen_at = now
        news = [one for one in told if one not in before]
        if news:
            entry.failures, entry.pause_until = 0, 0
        self._changed.add(peer)
        self._trim()
        return bool(news)

    def contact(self, peer: PeerId) -> Contact:
        """A peer with all of its addresses."""
        entry = self._fixed.get(peer) or self._entries.get(peer)
        if entry is None:
            return Contact(peer)
        return Contact(peer, tuple(dict.fromkeys((*entry.fixed, *entry.addresses))))

    def has_way(self, peer: PeerId, now: int) -> bool:
        """Whether there are addresses of a peer that did not fail lately."""
        entry = self._fixed.get(peer) or self._entries.get(peer)
        if entry is None or not (entry.fixed or entry.addresses):
            return False
        if peer in self._entries:
            self._entries.move_to_end(peer)
        return now >= entry.pause_until

    def failed(self, peer: PeerId, now: int) -> None:
        """No address led to the peer."""
        entry = self._fixed.get(peer) or self._entries.get(peer)
        if entry is not None:
            entry.pause_until = now + min(PAUSE_MS_FIRST << min(entry.failures, 30), PAUSE_MS_MAX)
            entry.failures += 1

    def reached(self, peer: PeerId) -> None:
        """The peer was reached."""
        entry = self._fixed.get(peer) or self._entries.get(peer)
        if entry is not None:
            entry.failures, entry.pause_until = 0, 0

    def restore(self, contact: Contact, seen_at: int) -> None:
        """Take back what was in the book before a restart."""
        if contact.peer != self.own and contact.peer not in self._fixed and len(self._entries) < self.entries_max:
            self._entries[contact.peer] = BookEntry(contact.addresses, seen_at=seen_at)

    def take_changes(self) -> Sequence[tuple[PeerId, BookEntry | None]]:
        """What has changed since the last call; None for a peer that is not in the book any more."""
        changed, self._changed = self._changed, set()
        return [(peer, self._entries.get(peer)) for peer in sorted(changed)]

    def _entry(self, peer: PeerId) -> BookEntry:
        if (fixed := self._fixed.get(peer)) is not None:
            return fixed
        entry = self._entries.setdefault(peer, BookEntry())
        self._entries.move_to_end(peer)
        return entry

    def _trim(self) -> None:
        while len(self._entries) > self.entries_max:
            oldest = list(islice(self._entries, LOOKED_AT))
            weights = {peer: self.weigh(peer) for peer in oldest}
            goes = min(oldest, key=weights.__getitem__)
            for peer in oldest:
                if weights[peer] > weights[goes]:
                    self._entries.move_to_end(peer)
            del self._entries[goes]
            self._changed.add(goes)
            self.evicted += 1
