"""Records on their way to their replicas: who is asked to keep one, and what became of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
from fluvial.addresses import Contact
from fluvial.errors import Refused, RemoteProtocolError
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.keyspace import Key
from fluvial_dht_kademlia.machine.messages import DhtAnswer, RecordStored
from fluvial_dht_kademlia.machine.outcomes import ProvideEnded
from fluvial_dht_kademlia.machine.record_store import RecordStore
from fluvial_dht_kademlia.machine.records import ProviderRecord


def choose_replicas(near: Sequence[Contact], heavy: Sequence[Contact], wanted: int) -> list[Contact]:
    """The peers that are asked to keep a record: up to half of them the nearest with weight, the others the nearest.

    Args:
        near: the nearest, nearest first.
        heavy: the nearest with weight, likewise.
        wanted: how many replicas there should be.
    """
    heavy = heavy[: wanted // 2]
    chosen = {contact.peer: contact for contact in (*near[: wanted - len(heavy)], *heavy)}
    for contact in near:
        if len(chosen) < wanted:
            chosen.setdefault(contact.peer, contact)
    return list(chosen.values())


def keep_record(
    store: RecordStore, challenge: Challenge, record: ProviderRecord, now: int, sender: PeerId
) -> RecordStored:
    """Put a record into a store; the answer for the sender, who brought it."""
    try:
        taken = store.put(challenge, record, now, sender)
    except Refused as refusal:
        return RecordStored(False, refusal.reason)
    except RemoteProtocolError:
        return RecordStored(False, "form")
    return RecordStored(taken, "" if taken else "older")


class RecordOffer(msgspec.Struct):
    """A record that was sent to replicas.

    Attributes:
        operation: its number.
        key: where.
        waiting: replicas that have not answered yet.
        stored: those that have it now.
        refused: the others, by reason.
    """

    operation: int
    key: Key
    waiting: int
    stored: int = 0
    refused: Counter[str] = msgspec.field(default_factory=Counter)

    def settle(self, answer: DhtAnswer | None) -> None:
        """A replica has answered; None if it did not."""
        self.waiting -= 1
        if isinstance(answer, RecordStored) and answer.accepted:
            self.stored += 1
        else:
            self.refused[answer.reason[:32] if isinstance(answer, RecordStored) else "failed"] += 1

    def end(self) -> ProvideEnded:
        """What became of it."""
        return ProvideEnded(operation=self.operation, key=self.key, stored=self.stored, refused=dict(self.refused))
