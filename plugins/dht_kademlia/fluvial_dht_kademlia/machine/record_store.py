"""The records that a replica keeps for others: checked when they come, bounded per key and in all, handed out by the weights of now.

When there is no room for another key, the one farthest from this peer's own place whose providers have no weight gives way; a key of a
stranger gets its place only if it is nearer. A provider without weight is kept at a limited number of keys.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Final

import msgspec
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.keyspace import Key, Weigh
from fluvial_dht_kademlia.machine.limits import KademliaLimits
from fluvial_dht_kademlia.machine.provider_order import KeptProviders, ProviderRow, keep_providers
from fluvial_dht_kademlia.machine.records import ProviderRecord, RecordChecks, newest

TOMBSTONES_PER_KEY_MAX: Final = 32
"""Beyond the providers; the one that ends first gives way."""
ROOM_TRIES: Final = 16
"""Keys that are looked at to make room for another one."""


class KeptRecord(msgspec.Struct):
    """A record as this replica has it: since when it knows the provider, and when the record was last sent to it."""

    record: ProviderRecord
    since: int
    sent_at: int


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
        self._farthest: list[tuple[int, Key]] = []
        self._keys_of: Counter[PeerId] = Counter()
        self._changed: set[tuple[Key, PeerId]] | None = None

    def __len__(self) -> int:
        """For how many keys it has records."""
        return len(self._keys)

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

    def take_changes(self) -> set[tuple[Key, PeerId]]:
        """Whose records at which keys have changed or gone since the last call."""
        changed, self._changed = self._changed or set(), set()
        return changed

    def kept(self, key: Key, peer: PeerId) -> tuple[Challenge, KeptRecord] | None:
        """A record that is here now; None if there is none."""
        entry = self._keys.get(key)
        record = entry.records.get(peer) if entry is not None else None
        return (entry.challenge, record) if entry is not None and record is not None else None

    def restore(self, challenge: Challenge, kept: KeptRecord) -> None:
        """Take back a record that this replica itself has kept on disk: it passed the checks when it came."""
        key, provider = challenge.key, kept.record.provider
        entry = self._keys.get(key)
        if entry is None:
            entry = self._keys[key] = KeyRecords(challenge)
            heappush(self._farthest, (-(key ^ self._own), key))
        if provider not in entry.records:
            self._keys_of[provider] += 1
        entry.records[provider] = kept

    def put(self, challenge: Challenge, record: ProviderRecord, now: int) -> bool:
        """Take a record, whoever brings it; the same door for writes, republications and merges.

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
            if old.record != record:
                self._note(key, provider)
            old.record, old.sent_at = record, now
            self._trim(key, entry)  # a tombstone may have come to life, or the other way round
            return provider in entry.records
        stranger = self._weigh(provider) <= 0
        if stranger and self._keys_of[provider] >= self._limits.keys_per_stranger_max:
            raise Refused(f"{provider} has no weight and stands at enough keys", reason="full")
        if entry is None:
            self._make_room(key, stranger=stranger)
            entry = self._keys[key] = KeyRecords(challenge)
            heappush(self._farthest, (-(key ^ self._own), key))
        entry.records[provider] = KeptRecord(record, now, now)
        self._keys_of[provider] += 1
        self._note(key, provider)
        self._trim(key, entry)
        if provider not in entry.records:
            raise Refused("there are enough providers at this key", reason="full")
        return True

    def read(self, key: Key, now: int, *, limit: int) -> list[ProviderRecord]:
        """The records to hand out: those of the providers, in order, then tombstones, so that askers learn of both.

        Args:
            key: where.
            now: in milliseconds.
            limit: how many providers at most.
        """
        entry = self._keys.get(key)
        if entry is None:
            return []
        self._drop_expired(key, entry, now)
        live = [one for one in self._order(entry).ordered if self._stands(entry, one)]
        gone = [one.record for one in entry.records.values() if one.record.fields.withdrawn]
        return [entry.records[peer].record for peer in live[:limit]] + gone

    def due(self, now: int, every_ms: int) -> Iterator[tuple[Challenge, ProviderRecord]]:
        """The records that nobody has sent here for so long; each counts as sent now. Those that do not stand the checks any more are left out."""
        for key in self.keys():
            entry = self._keys[key]
            self._drop_expired(key, entry, now)
            for peer, one in tuple(entry.records.items()):
                if now - one.sent_at >= every_ms and self._stands(entry, peer):
                    one.sent_at = now
                    yield entry.challenge, one.record

    def expire(self, now: int) -> None:
        """Drop what has expired."""
        for key in self.keys():
            self._drop_expired(key, self._keys[key], now)

    def _stands(self, entry: KeyRecords, peer: PeerId) -> bool:
        """Whether a provider still solves the challenge: paths lapse and are revoked."""
        try:
            self._checks.check_solution(entry.challenge, entry.records[peer].record)
        except (Refused, RemoteProtocolError):
            return False
        return True

    def _order(self, entry: KeyRecords) -> KeptProviders:
        rows = (
            ProviderRow(peer, one.record.fields.issued_at_ms, one.since)
            for peer, one in entry.records.items()
            if not one.record.fields.withdrawn
        )
        limits = self._limits
        return keep_providers(rows, self._weigh, limit=limits.providers_max, reserve=limits.providers_reserve)

    def _trim(self, key: Key, entry: KeyRecords) -> None:
        gone = sorted(
            (peer for peer, one in entry.records.items() if one.record.fields.withdrawn),
            key=lambda peer: (-entry.records[peer].record.fields.expires_at_ms, peer),
        )
        kept = {*self._order(entry).ordered, *gone[:TOMBSTONES_PER_KEY_MAX]}
        for peer in [peer for peer in entry.records if peer not in kept]:
            self._drop(key, entry, peer)

    def _drop_expired(self, key: Key, entry: KeyRecords, now: int) -> None:
        for peer in [peer for peer, one in entry.records.items() if one.record.fields.expires_at_ms <= now]:
            self._drop(key, entry, peer)

    def _drop(self, key: Key, entry: KeyRecords, peer: PeerId) -> None:
        del entry.records[peer]
        self._note(key, peer)
        self._keys_of[peer] -= 1
        if not self._keys_of[peer]:
            del self._keys_of[peer]
        if not entry.records:
            self._keys.pop(key, None)

    def _note(self, key: Key, peer: PeerId) -> None:
        if self._changed is not None:
            self._changed.add((key, peer))

    def _make_room(self, key: Key, *, stranger: bool) -> None:
        """Let the farthest key of strangers give way; raises Refused if there is none."""
        if len(self._farthest) > 2 * self._limits.keys_max:  # keys that went by themselves have left entries behind
            self._farthest = sorted((-(one ^ self._own), one) for one in self._keys)
        if len(self._keys) < self._limits.keys_max:
            return
        aside: list[tuple[int, Key]] = []
        try:
            for _ in range(ROOM_TRIES):
                if not self._farthest:
                    break
                distance, farthest = self._farthest[0]
                if stranger and -distance <= key ^ self._own:
                    break
                heappop(self._farthest)
                entry = self._keys.get(farthest)
                if entry is None:
                    continue
                if any(self._weigh(peer) > 0 for peer in entry.records):
                    aside.append((distance, farthest))
                    continue
                for peer in tuple(entry.records):
                    self._drop(farthest, entry, peer)
                return
        finally:
            for one in aside:
                heappush(self._farthest, one)
        raise Refused("this peer keeps records for enough keys", reason="full")
