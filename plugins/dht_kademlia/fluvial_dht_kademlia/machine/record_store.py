"""The records that a replica keeps for others: checked when they come, bounded per key and in all, handed out by the weights of now.

When there is no room for another key, or for the bytes of another record, whoever brought most gives way (:mod:`.record_shares`). A provider without weight
is kept at a limited number of keys.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

import msgspec
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.keyspace import Key, Weigh
from fluvial_dht_kademlia.machine.limits import KademliaLimits
from fluvial_dht_kademlia.machine.provider_order import KeptProviders, ProviderRow, keep_providers
from fluvial_dht_kademlia.machine.record_shares import RecordPayer, RecordPlace, RecordShares, record_bytes
from fluvial_dht_kademlia.machine.records import ProviderRecord, RecordChecks, newest

TOMBSTONES_PER_KEY_MAX: Final = 32
"""Beyond the providers; the one that ends first gives way."""
LAPSED_MS: Final = 60_000
"""A record that does not stand its key's challenge any more is not looked at again for so long, unless it is brought again: paths seldom come back, and a
look at one costs a hundred times what an answer without the record does."""
LAPSED_AT_ONCE: Final = 16
"""So many records that do not stand any more are looked at in one go for those to be sent."""


class KeptRecord(msgspec.Struct):
    """A record as this replica has it.

    Attributes:
        record: what was brought.
        since: when this replica first heard of the provider at this key.
        sent_at: when the record was last sent to it.
        sender: the peer that brought it; None if that is not known.
        bytes: what it takes of the memory.
        payer: to whom that is charged; None while it is not.
        lapsed_at: when it was last found not to stand the challenge of its key; None if it stood when it came, or was looked at.
    """

    record: ProviderRecord
    since: int
    sent_at: int
    sender: PeerId | None = None
    bytes: int = 0
    payer: RecordPayer | None = None
    lapsed_at: int | None = None


class KeyRecords(msgspec.Struct):
    """A challenge with the records at its key."""

    challenge: Challenge
    records: dict[PeerId, KeptRecord] = msgspec.field(default_factory=dict)


class RecordStore:
    """Records by key.

    Args:
        own: this peer's place.
        checks: what each record must pass.
        limits: how many.
        weigh: the weight of a peer now.
    """

    def __init__(self, own: Key, *, checks: RecordChecks, limits: KademliaLimits, weigh: Weigh) -> None:
        self._own = own
        self._checks = checks
        self._limits = limits
        self._weigh = weigh
        self._keys: dict[Key, KeyRecords] = {}
        self._shares = RecordShares(
            own, bytes_max=limits.records_bytes_max, records_max=limits.keys_max, weigh=weigh, payer_at=self._payer_at
        )
        self._keys_of: Counter[PeerId] = Counter()
        self._unlooked: deque[Key] = deque()
        self._changed: set[RecordPlace] | None = None

    def __len__(self) -> int:
        """For how many keys it has records."""
        return len(self._keys)

    @property
    def bytes(self) -> int:
        """The memory of all records."""
        return self._shares.bytes

    def keys(self) -> tuple[Key, ...]:
        """The keys for which it has records."""
        return tuple(self._keys)

    def challenge(self, key: Key) -> Challenge | None:
        """The challenge of a key for which it has records."""
        entry = self._keys.get(key)
        return entry.challenge if entry is not None else None

    def watch(self) -> None:
        """Note changes from now on, for :meth:`take_changes`."""
        self._changed = set()

    @property
    def changes(self) -> int:
        """How many there are to take."""
        return len(self._changed) if self._changed is not None else 0

    def changed(self, *places: RecordPlace) -> None:
        """Note these once more: they were taken and could not be written."""
        for key, peer in places:
            self._note(key, peer)

    def take_changes(self) -> set[RecordPlace]:
        """Whose records at which keys have changed or gone since the last call."""
        changed, self._changed = self._changed or set(), set()
        return changed

    def kept(self, key: Key, peer: PeerId) -> tuple[Challenge, KeptRecord] | None:
        """A record that is here now; None if there is none."""
        entry = self._keys.get(key)
        record = entry.records.get(peer) if entry is not None else None
        return (entry.challenge, record) if entry is not None and record is not None else None

    def restore(self, challenge: Challenge, kept: KeptRecord) -> None:
        """Take back a record that this replica itself has kept on disk: it passed the checks when it came. It is gone if there is no room for it now."""
        try:
            self._add(challenge, kept)
        except Refused:
            self._note(challenge.key, kept.record.provider)

    def put(self, challenge: Challenge, record: ProviderRecord, now: int, sender: PeerId | None = None) -> bool:
        """Take a record, whoever brings it; the same door for writes, republications and merges.

        Args:
            challenge: of its key.
            record: as it came.
            now: in milliseconds.
            sender: the peer that brought it, to whom it is charged; None if that is not known.

        Returns:
            Whether this replica now has this record; False if it has a newer one.

        Raises:
            Refused: the record did not pass the checks, or there is no place for it (``full``).
            RemoteProtocolError: the challenge is ill-formed.
        """
        key, provider = challenge.key, record.provider
        entry = self._keys.get(key)
        old = entry.records.get(provider) if entry is not None else None
        if old is not None and old.record == record:
            self._checks.check_again(challenge, record, now)
        else:
            self._checks.check(challenge, record, now)
        if entry is not None and old is not None:
            if newest(old.record, record) != record:
                return False
            self._renew(entry, old, record, sender)
            old.sent_at, old.lapsed_at = now, None
            self._trim(key, entry)  # a tombstone may have come to life, or the other way round
            return provider in entry.records
        if self._keys_of[provider] >= self._limits.keys_per_stranger_max and self._weigh(provider) <= 0:
            raise Refused(f"{provider} has no weight and stands at enough keys", reason="full")
        self._add(challenge, KeptRecord(record, now, now, sender))
        self._note(key, provider)
        return True

    def read(self, key: Key, now: int, *, limit: int) -> list[ProviderRecord]:
        """The records to hand out: those of the providers, in order, then tombstones, so that askers learn of both.

        No more providers are looked at than it takes to find so many: a look may be at a path of trust.

        Args:
            key: where.
            now: in milliseconds.
            limit: how many providers at most.
        """
        entry = self._keys.get(key)
        if entry is None:
            return []
        self._drop_expired(key, entry, now)
        standing = (one for one in self._order(entry).ordered if self._stands(entry, one, now))
        live = list(islice(standing, max(0, limit)))
        gone = [one.record for one in entry.records.values() if one.record.fields.withdrawn]
        return [entry.records[peer].record for peer in live] + gone

    def due(
        self, now: int, every_ms: int, keys: Iterable[Key] | None = None
    ) -> Iterator[tuple[Challenge, ProviderRecord]]:
        """The records that nobody has sent here for so long; each counts as sent now.

        Those that do not stand the checks any more are left out, and have their turn with the others. After some of them it ends; the next call goes on.

        Args:
            now: in milliseconds.
            every_ms: how long.
            keys: where to look; everywhere by default.
        """
        lapsed = 0
        for key in self.keys() if keys is None else keys:
            entry = self._keys.get(key)
            if entry is None:
                continue
            self._drop_expired(key, entry, now)
            for peer, one in tuple(entry.records.items()):
                if now - one.sent_at < every_ms:
                    continue
                one.sent_at = now
                if self._stands(entry, peer, now):
                    yield entry.challenge, one.record
                elif (lapsed := lapsed + 1) >= LAPSED_AT_ONCE:
                    return

    def expire(self, now: int, *, most: int | None = None) -> Sequence[Key]:
        """Drop what has expired, and charge the rest to whoever pays for it now; returns at which keys that was done.

        Args:
            now: in milliseconds.
            most: at so many keys at most, and the next calls go on, as long as :attr:`is_expiring`; at all of them by default.
        """
        if most is None or not self._unlooked:
            self._shares.renew()
            self._unlooked = deque(self._keys)
        looked = [self._unlooked.popleft() for _ in range(min(most or len(self._unlooked), len(self._unlooked)))]
        for key in looked:
            entry = self._keys.get(key)
            if entry is not None:
                self._drop_expired(key, entry, now)
                for one in entry.records.values():
                    self._settle(key, one)
        return looked

    @property
    def is_expiring(self) -> bool:
        """Whether :meth:`expire` has keys left to look at."""
        return bool(self._unlooked)

    def _stands(self, entry: KeyRecords, peer: PeerId, now: int) -> bool:
        """Whether a provider still solves the challenge: paths lapse and are revoked."""
        kept = entry.records[peer]
        if kept.lapsed_at is not None and 0 <= now - kept.lapsed_at < LAPSED_MS:
            return False
        try:
            self._checks.check_solution(entry.challenge, kept.record)
        except (Refused, RemoteProtocolError):
            kept.lapsed_at = now
            return False
        kept.lapsed_at = None
        return True

    def _order(self, entry: KeyRecords) -> KeptProviders:
        rows = (
            ProviderRow(peer, one.record.fields.issued_at_ms, one.since)
            for peer, one in entry.records.items()
            if not one.record.fields.withdrawn
        )
        limits = self._limits
        return keep_providers(rows, self._weigh, limit=limits.providers_max, reserve=limits.providers_reserve)

    def _trim(self, key: Key, entry: KeyRecords, newcomer: PeerId | None = None) -> None:
        """Let those go for whom there is no place at a key; raises Refused if a newcomer is one of them."""
        gone = sorted(
            (peer for peer, one in entry.records.items() if one.record.fields.withdrawn),
            key=lambda peer: (-entry.records[peer].record.fields.expires_at_ms, peer),
        )
        kept = {*self._order(entry).ordered, *gone[:TOMBSTONES_PER_KEY_MAX]}
        if newcomer is not None and newcomer not in kept:
            raise Refused("there are enough providers at this key", reason="full")
        for peer in [peer for peer in entry.records if peer not in kept]:
            self._drop(key, entry, peer)

    def _drop_expired(self, key: Key, entry: KeyRecords, now: int) -> None:
        for peer in [peer for peer, one in entry.records.items() if one.record.fields.expires_at_ms <= now]:
            self._drop(key, entry, peer)

    def _drop(self, key: Key, entry: KeyRecords, peer: PeerId) -> None:
        self._note(key, peer)
        self._remove(key, entry, peer)

    def _remove(self, key: Key, entry: KeyRecords, peer: PeerId) -> None:
        self._release(entry.records.pop(peer))
        self._keys_of[peer] -= 1
        if not self._keys_of[peer]:
            del self._keys_of[peer]
        if not entry.records:
            self._keys.pop(key, None)

    def _note(self, key: Key, peer: PeerId) -> None:
        if self._changed is not None:
            self._changed.add((key, peer))

    def _add(self, challenge: Challenge, kept: KeptRecord) -> None:
        """Take the first record of a provider at a key; raises Refused if there is no room for it."""
        key, provider = challenge.key, kept.record.provider
        entry = self._keys.get(key)
        if entry is None:
            entry = self._keys[key] = KeyRecords(challenge)
        entry.records[provider] = kept
        self._keys_of[provider] += 1
        kept.bytes = record_bytes(entry.challenge, kept.record)
        try:
            self._trim(key, entry, newcomer=provider)
            self._make_room(key, provider, kept.sender, kept.bytes)
        except Refused:
            self._remove(key, entry, provider)
            raise
        self._charge(key, kept)

    def _renew(self, entry: KeyRecords, kept: KeptRecord, record: ProviderRecord, sender: PeerId | None) -> None:
        """Take a record in place of the one that it renews, or once more; raises Refused if there is no room for it.

        It is charged to whoever brings it. The same one as before stays with whoever brought it until its provider brings it: so nobody can take over what
        others have brought, and let it give way.
        """
        key, provider = entry.challenge.key, record.provider
        changed = kept.record != record
        if not changed and (sender == kept.sender or (kept.sender is not None and sender != provider)):
            return
        size = record_bytes(entry.challenge, record)
        self._release(kept)  # it is not to give way to itself
        try:
            self._make_room(key, provider, sender, size)
        except Refused:
            self._charge(key, kept)
            raise
        self._note(key, provider)
        kept.record, kept.sender, kept.bytes = record, sender, size
        self._charge(key, kept)

    def _charge(self, key: Key, kept: KeptRecord) -> None:
        provider = kept.record.provider
        kept.payer = self._shares.payer(provider, kept.sender)
        self._shares.charge(kept.payer, (key, provider), kept.bytes)

    def _release(self, kept: KeptRecord) -> None:
        if kept.payer is not None:
            self._shares.release(kept.payer, kept.bytes)
            kept.payer = None

    def _payer_at(self, key: Key, provider: PeerId) -> RecordPayer | None:
        entry = self._keys.get(key)
        kept = entry.records.get(provider) if entry is not None else None
        return kept.payer if kept is not None else None

    def _make_room(self, key: Key, provider: PeerId, sender: PeerId | None, size: int) -> None:
        """Let records give way until there is room for one of so many bytes, which stands at its key already; raises Refused if it is the one to give way."""
        limits, shares = self._limits, self._shares
        while shares.bytes + size > limits.records_bytes_max or len(self._keys) > limits.keys_max:
            place = shares.gives_way(shares.payer(provider, sender), key, size)
            if place is None:
                raise Refused("this peer keeps enough records", reason="full")
            entry = self._keys[place[0]]
            if not self._settle(place[0], entry.records[place[1]]):
                self._drop(place[0], entry, place[1])

    def _settle(self, key: Key, kept: KeptRecord) -> bool:
        """Charge a record to whoever pays for it now; whether that is somebody else than before."""
        if kept.payer is not None and kept.payer.vouched == (self._weigh(kept.record.provider) > 0):
            return False
        self._release(kept)
        self._charge(key, kept)
        return True
