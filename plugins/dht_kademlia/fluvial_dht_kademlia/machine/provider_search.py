"""The records that a lookup of providers has gathered from replicas, each checked by the asker itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.keyspace import Weigh
from fluvial_dht_kademlia.machine.record_store import TOMBSTONES_PER_KEY_MAX
from fluvial_dht_kademlia.machine.records import ProviderRecord, RecordChecks, merge_records


class ProviderSearch(msgspec.Struct):
    """What was found so far.

    Args:
        challenge: of the key.
        checks: what records must pass; a replica is not believed.
        quorum: replicas with records that are enough.
        providers_max: providers that are asked for; an answer with more, beside tombstones, is not looked at.
    """

    challenge: Challenge
    checks: RecordChecks
    quorum: int
    providers_max: int
    hops: int = 0
    _replicas: int = 0
    _records: dict[PeerId, ProviderRecord] = msgspec.field(default_factory=dict)

    @property
    def satisfied(self) -> bool:
        """Whether enough replicas had records."""
        return self._replicas >= self.quorum

    def heard(self, records: Sequence[ProviderRecord], now: int, *, hops: int) -> bool:
        """Take the records of a replica.

        Returns:
            False if it has sent something for this key that its provider has not signed, or too much: then it is not to be believed
            in other things either. Records that have just lapsed are left out without blame.
        """
        if len(records) > self.providers_max + TOMBSTONES_PER_KEY_MAX:
            return False
        good: list[ProviderRecord] = []
        for record in records:
            try:
                self.checks.check(self.challenge, record, now)
            except RemoteProtocolError:
                return False
            except Refused as refusal:
                if refusal.reason in ("key", "form", "signature"):
                    return False
                continue
            good.append(record)
        if good:
            if not self._replicas:
                self.hops = hops
            self._replicas += 1
            self._records = merge_records(self._records.values(), good)
        return True

    def result(self, weigh: Weigh) -> tuple[ProviderRecord, ...]:
        """The providers: by the asker's own weights of now, heaviest first, of equal weight the one that registered last."""
        live: Iterable[ProviderRecord] = (one for one in self._records.values() if not one.fields.withdrawn)
        return tuple(sorted(live, key=lambda one: (-weigh(one.provider), -one.fields.issued_at_ms, one.provider)))
