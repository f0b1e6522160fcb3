"""The address book: where peers can be reached, how sure that is, and what became of it. Pure.

Addresses of a peer come from the settings (nobody replaces these), were *proven* (the peer showed its key there), or are only said: by the peer itself
or by others that were asked. This peer tries all of them, in that order; others are told of the first two kinds alone. If none leads to the peer, it
counts as having no way until a pause is over or there is news; pauses double.

When the book is full, of the entries not used for longest the lightest goes. An entry with weight that is spared counts as used. So weight keeps a
peer in the book, and strangers always find room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from sys import getsizeof
from typing import Final

import msgspec
from fluvial.addresses import Address, Contact
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.keyspace import Weigh
from fluvial_dht_kademlia.machine.limits import ADDRESSES_MAX

ADDRESS_BYTES: Final = 300
"""The memory of an address beside the text of its host."""
ADDRESSES_BYTES_MAX: Final = 3_072
"""The memory of a peer's addresses of one kind, of which one is kept in any case: eight short ones have room, or five of the longest names."""
LOOKED_AT: Final = 16
"""Entries among which the one that goes is chosen."""
PAUSE_MS_FIRST: Final = 1_000
PAUSE_MS_MAX: Final = 600_000


class BookEntry(msgspec.Struct):
    """A peer.

    Attributes:
        fixed: addresses of the settings.
        proven: those where the peer has shown its key, the newest first.
        said: others, the newest first.
        seen_at: when somebody last said so; 0 for the settings alone.
        failures: how often in a row no address led to the peer.
        pause_until: until then its addresses count as no way.
    """

    fixed: tuple[Address, ...] = ()
    proven: tuple[Address, ...] = ()
    said: tuple[Address, ...] = ()
    seen_at: int = 0
    failures: int = 0
    pause_until: int = 0

    @property
    def shown(self) -> tuple[Address, ...]:
        """What others may be told."""
        return tuple(dict.fromkeys((*self.fixed, *self.proven)))

    @property
    def tried(self) -> tuple[Address, ...]:
        """Where this peer tries."""
        return tuple(dict.fromkeys((*self.fixed, *self.proven, *self.said)))


def _fitting(addresses: Iterable[Address]) -> tuple[Address, ...]:
    """The first addresses that have room."""
    kept: list[Address] = []
    left = ADDRESSES_BYTES_MAX
    for address in dict.fromkeys(addresses):
        left -= ADDRESS_BYTES + getsizeof(address.host)
        if kept and (left < 0 or len(kept) == ADDRESSES_MAX):
            break
        kept.append(address)
    return tuple(kept)


class AddressBook(msgspec.Struct):
    """See the module's docstring.

    Args:
        own: this peer; never in its own book.
        entries_max: peers beside those of the settings.
        weigh: the weight of a peer now.
    """

    own: PeerId
    entries_max: int
    weigh: Weigh
    _entries: OrderedDict[PeerId, BookEntry] = msgspec.field(default_factory=OrderedDict)
    _fixed: dict[PeerId, BookEntry] = msgspec.field(default_factory=dict)
    _changed: set[PeerId] = msgspec.field(default_factory=set)
    evicted: int = 0

    def __len__(self) -> int:
        """How many peers it has."""
        return len(self._entries) + len(self._fixed)

    def __iter__(self) -> Iterator[Contact]:
        """All contacts to try: those of the settings, then the others, the most recently used first."""
        for peer in (*self._fixed, *reversed(self._entries)):
            yield self.contact(peer)

    def all_shown(self) -> Iterator[Contact]:
        """All contacts that others may be told, with the addresses that they may be told; in the same order."""
        for peer in (*self._fixed, *reversed(self._entries)):
            contact = self.shown(peer)
            if contact.addresses:
                yield contact

    def fix(self, contacts: Iterable[Contact]) -> None:
        """Contacts of the settings."""
        for contact in contacts:
            if contact.peer != self.own:
                entry = self._fixed.setdefault(contact.peer, BookEntry())
                entry.fixed = tuple(dict.fromkeys((*entry.fixed, *contact.addresses)))

    def learn(self, contact: Contact, now: int) -> bool:
        """Somebody says that a peer is at these addresses; those that name another peer are dropped.

        Returns:
            Whether something is known now that was not known before.
        """
        peer = contact.peer
        told = [one.with_peer(peer) for one in contact.addresses if one.peer in (None, peer)]
        if not told or peer == self.own:
            return False
        entry = self._entry(peer)
        news = any(one not in entry.tried for one in told)
        entry.said = _fitting((*told, *entry.said))
        self._noted(peer, entry, now)
        if news:
            entry.failures, entry.pause_until = 0, 0
        self._trim()
        return news

    def prove(self, peer: PeerId, address: Address, now: int) -> None:
        """The peer has shown its key at an address."""
        if peer == self.own or address.peer not in (None, peer):
            return
        entry = self._entry(peer)
        entry.proven = _fitting((address.with_peer(peer), *entry.proven))
        entry.failures, entry.pause_until = 0, 0
        self._noted(peer, entry, now)
        self._trim()

    def contact(self, peer: PeerId) -> Contact:
        """A peer with all the addresses to try."""
        entry = self._fixed.get(peer) or self._entries.get(peer)
        return Contact(peer) if entry is None else Contact(peer, entry.tried)

    def shown(self, peer: PeerId) -> Contact:
        """A peer with the addresses that others may be told."""
        entry = self._fixed.get(peer) or self._entries.get(peer)
        return Contact(peer) if entry is None else Contact(peer, entry.shown)

    def has_way(self, peer: PeerId, now: int) -> bool:
        """Whether there are addresses of a peer that did not fail lately."""
        entry = self._fixed.get(peer) or self._entries.get(peer)
        if entry is None or not entry.tried:
            return False
        if peer in self._entries:
            self._entries.move_to_end(peer)
        return now >= entry.pause_until

    def in_doubt(self, peer: PeerId) -> bool:
        """Whether no address led to a peer the last time; the pause after that may be over."""
        entry = self._fixed.get(peer) or self._entries.get(peer)
        return entry is not None and entry.failures > 0

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
        """Take back what was in the book before a restart. Much may have changed: nothing is proven."""
        if contact.peer != self.own and contact.peer not in self._fixed and len(self._entries) < self.entries_max:
            self._entries[contact.peer] = BookEntry(said=_fitting(contact.addresses), seen_at=seen_at)

    def take_changes(self) -> Sequence[tuple[PeerId, BookEntry | None]]:
        """What has changed since the last call; None for a peer that is not in the book any more."""
        changed, self._changed = self._changed, set()
        return [(peer, self._entries.get(peer)) for peer in sorted(changed)]

    def changed(self, *peers: PeerId) -> None:
        """Note these once more: they were taken and could not be written."""
        self._changed.update(peers)

    def _entry(self, peer: PeerId) -> BookEntry:
        if (fixed := self._fixed.get(peer)) is not None:
            return fixed
        entry = self._entries.setdefault(peer, BookEntry())
        self._entries.move_to_end(peer)
        return entry

    def _noted(self, peer: PeerId, entry: BookEntry, now: int) -> None:
        entry.seen_at = now
        self._changed.add(peer)

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
