"""The records that this peer itself publishes: signed anew at each republication, withdrawn by a tombstone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

import msgspec
from fluvial.errors import ResourceLimit
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.keyspace import Key, key_bytes
from fluvial_dht_kademlia.machine.limits import KademliaLimits
from fluvial_dht_kademlia.machine.records import ProviderRecord, RecordFields

SignFields: TypeAlias = Callable[[RecordFields], ProviderRecord]
"""Signs fields with the peer's key."""


class Publication(msgspec.Struct):
    """A challenge and this peer's newest record at it."""

    challenge: Challenge
    record: ProviderRecord


class Publications:
    """The peer's own records by key.

    Args:
        own: this peer.
        sign: signs fields with its key.
        limits: lifetimes, and how many records there may be.
    """

    def __init__(self, own: PeerId, *, sign: SignFields, limits: KademliaLimits) -> None:
        self._own = own
        self._sign = sign
        self._limits = limits
        self._published: dict[Key, Publication] = {}
        self._changed: set[Key] | None = None

    def __iter__(self) -> Iterator[Publication]:
        """What is published now."""
        return iter(tuple(self._published.values()))

    def get(self, key: Key) -> Publication | None:
        """What is published at a key."""
        return self._published.get(key)

    def restore(self, publications: Iterable[Publication]) -> None:
        """Take back what was published before a restart, and note changes from now on, for :meth:`take_changes`."""
        self._published.update((one.challenge.key, one) for one in publications)
        self._changed = set()

    def changed(self, *keys: Key) -> None:
        """Note these once more: they were taken and could not be written."""
        for key in keys:
            self._note(key)

    def take_changes(self) -> tuple[list[Publication], list[Key]]:
        """What was published and what was withdrawn since the last call."""
        changed, self._changed = self._changed or set(), set()
        kept = [one for key in sorted(changed) if (one := self._published.get(key)) is not None]
        return kept, sorted(key for key in changed if key not in self._published)

    def publish(
        self,
        challenge: Challenge,
        now: int,
        *,
        solution: bytes = b"",
        value: bytes = b"",
        addresses: tuple[str, ...] = (),
        relay: str = "",
        service: str = "",
    ) -> ProviderRecord:
        """A new record of this peer at a challenge's key; it replaces the one before. Offer it with :meth:`Kademlia.add_provider`.

        Raises:
            ResourceLimit: this peer publishes enough records.
        """
        old = self._published.get(challenge.key)
        if old is None and len(self._published) >= self._limits.own_records_max:
            raise ResourceLimit(f"this peer publishes {len(self._published)} records already", hint="withdraw some")
        fields = RecordFields(
            key=key_bytes(challenge.key),
            provider=str(self._own),
            sequence=self._next_sequence(old, now),
            issued_at_ms=now,
            expires_at_ms=now + self._limits.record_lifetime_ms,
            value=value,
            addresses=addresses,
            relay=relay,
            service=service,
            solution=solution,
        )
        record = self._sign(fields)
        self._published[challenge.key] = Publication(challenge, record)
        self._note(challenge.key)
        return record

    def withdraw(self, challenge: Challenge, now: int) -> ProviderRecord | None:
        """A tombstone for this peer's record at a key, which lives as long as that could; None if there is no record."""
        old = self._published.pop(challenge.key, None)
        if old is None:
            return None
        self._note(challenge.key)
        fields = old.record.fields
        tombstone = RecordFields(
            key=fields.key,
            provider=str(self._own),
            sequence=self._next_sequence(old, now),
            issued_at_ms=now,
            expires_at_ms=max(fields.expires_at_ms, now + 1),
            withdrawn=True,
            solution=fields.solution,
        )
        return self._sign(tombstone)

    def due(self, now: int, every_ms: int) -> Iterator[tuple[Challenge, ProviderRecord]]:
        """The records that were signed so long ago, signed anew."""
        for publication in self._published.values():
            fields = publication.record.fields
            if now - fields.issued_at_ms >= every_ms:
                renewed = msgspec.structs.replace(
                    fields,
                    sequence=self._next_sequence(publication, now),
                    issued_at_ms=now,
                    expires_at_ms=now + self._limits.record_lifetime_ms,
                )
                publication.record = self._sign(renewed)
                self._note(publication.challenge.key)
                yield publication.challenge, publication.record

    def _note(self, key: Key) -> None:
        if self._changed is not None:
            self._changed.add(key)

    @staticmethod
    def _next_sequence(old: Publication | None, now: int) -> int:
        return now if old is None else max(now, old.record.fields.sequence + 1)
