"""Peers that do not play by the rules: what they answer in place of their machine's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from fluvial.addresses import Contact
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine import messages
from fluvial_dht_kademlia.machine.keyspace import Key, PlaceOf, key_bytes
from fluvial_dht_kademlia.machine.messages import DhtAnswer, DhtRequest
from fluvial_dht_kademlia.machine.records import ProviderRecord


class Liar(Protocol):
    """Answers requests falsely."""

    def answer(self, request: DhtRequest, honest: DhtAnswer) -> DhtAnswer | None:
        """The answer in place of the honest one; None for silence."""
        ...


def _lie(request: DhtRequest, contacts: Sequence[Contact]) -> DhtAnswer:
    """Claims to store, has no records, and names these contacts."""
    match request:
        case messages.FindPeers():
            return messages.PeersFound(tuple(contacts))
        case messages.FindProviders():
            return messages.ProvidersFound((), tuple(contacts))
        case messages.AddProvider():
            return messages.RecordStored(True)
        case messages.Ping():
            return messages.Pong()


def _target(request: DhtRequest) -> Key | None:
    match request:
        case messages.FindPeers(target):
            return target
        case messages.FindProviders(key):
            return key
        case _:
            return None


@dataclass(slots=True)
class NamesAccomplices:
    """Names only accomplices, those nearest to what is looked for; drops records."""

    accomplices: Sequence[Contact]
    place: PlaceOf
    count: int

    def answer(self, request: DhtRequest, honest: DhtAnswer) -> DhtAnswer | None:
        """As the class says."""
        target = _target(request)
        if target is None:
            return _lie(request, ())
        near = sorted(self.accomplices, key=lambda contact: self.place(contact.peer) ^ target)
        return _lie(request, near[: self.count])


@dataclass(slots=True)
class InventsContacts:
    """Names peers that do not exist, all at one address, which could be a victim's; drops records."""

    rng: Random
    victim: Contact
    count: int

    def answer(self, request: DhtRequest, honest: DhtAnswer) -> DhtAnswer | None:
        """As the class says."""
        invented = [
            Contact(PeerId.from_public_key(self.rng.randbytes(32)), self.victim.addresses) for _ in range(self.count)
        ]
        return _lie(request, invented)


@dataclass(slots=True)
class NeverAnswers:
    """Is there, and says nothing."""

    def answer(self, request: DhtRequest, honest: DhtAnswer) -> DhtAnswer | None:
        """As the class says."""
        return None


@dataclass(slots=True)
class WithholdsRecords:
    """Names peers as an honest one would, and claims to keep records of which nobody hears again."""

    def answer(self, request: DhtRequest, honest: DhtAnswer) -> DhtAnswer | None:
        """As the class says."""
        match honest:
            case messages.ProvidersFound(_, contacts):
                return messages.ProvidersFound((), contacts)
            case messages.RecordStored():
                return messages.RecordStored(True)
        return honest


@dataclass(slots=True)
class ServesTheFirst:
    """Names peers as an honest one would, and serves the first record that it was offered of each provider, whatever came later."""

    first: dict[tuple[bytes, PeerId], ProviderRecord] = field(default_factory=dict)

    def answer(self, request: DhtRequest, honest: DhtAnswer) -> DhtAnswer | None:
        """As the class says."""
        match request, honest:
            case messages.AddProvider(record=record), _:
                self.first.setdefault((record.fields.key, record.provider), record)
                return messages.RecordStored(True)
            case messages.FindProviders(key), messages.ProvidersFound(_, contacts):
                records = tuple(one for (of, _), one in self.first.items() if of == key_bytes(key))
                return messages.ProvidersFound(records, contacts)
        return honest
