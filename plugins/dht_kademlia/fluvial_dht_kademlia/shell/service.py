"""``dht``: looks into the distributed hash table for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Final, Protocol, TypeAlias

import msgspec
from fluvial.addresses import Contact
from fluvial.effectors import Call, Effector, EffectorError, NoConfig, function
from fluvial.errors import FluvialError
from fluvial.identity import PeerId
from fluvial.ports import Capability, Provider

from fluvial_dht_kademlia.machine.challenges import PATH_LENGTH_MAX, Challenge, owned_challenge
from fluvial_dht_kademlia.machine.keyspace import Key, challenge_key, peer_key
from fluvial_dht_kademlia.machine.limits import VALUE_BYTES_MAX
from fluvial_dht_kademlia.machine.records import ProviderRecord
from fluvial_dht_kademlia.mandate import Mandate
from fluvial_dht_kademlia.shell.lookup_pace import Lane

FAILED: Final = 100
NOT_ALLOWED: Final = 8
"""As built-in services answer who may not do something."""
COUNT_MAX: Final = 64
LOOKUP_S: Final = 10.0
CALLS_MAX: Final = 32
"""Lookups of scripts at the same time; whoever brought their flows has a fair share of them."""


class OwnedKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key with an owner, as scripts write it."""

    owner: str
    path_length_max: Annotated[int, msgspec.Meta(ge=0, le=PATH_LENGTH_MAX)] = 1
    nonce: Annotated[str, msgspec.Meta(max_length=64)] = ""


KeyText: TypeAlias = str | OwnedKey
"""``kind:name`` for a capability, or a key with an owner."""


class FoundPeer(msgspec.Struct, frozen=True):
    """A peer and where it can be reached."""

    peer_id: PeerId
    addresses: list[str]


class FoundProvider(msgspec.Struct, frozen=True):
    """A provider with what it says of itself, and its weight for the peer that was asked."""

    peer_id: PeerId
    addresses: list[str]
    service: str
    value: str
    weight: int


class TableSummary(msgspec.Struct, frozen=True):
    """What a peer has of the table."""

    peers: list[FoundPeer]
    keys: int
    published: int
    address_book: int


class Dht(Protocol):
    """What the service asks of the routing."""

    async def find(self, peer: PeerId) -> Contact | None:
        """The best contact of a peer."""
        ...

    async def nearest(self, key: Key, count: int) -> list[Contact]:
        """The peers nearest to a key that answered a lookup."""
        ...

    async def records(self, challenge: Challenge, *, lane: Lane) -> list[tuple[Provider, ProviderRecord]]:
        """The records at a key, heaviest provider first."""
        ...

    async def provide(self, challenge: Challenge, value: bytes, service: str) -> int:
        """Provide something from now on; how many replicas know of it now."""
        ...

    async def withdraw(self, challenge: Challenge) -> bool:
        """Provide something no more."""
        ...

    def challenge(self, capability: Capability) -> Challenge:
        """The challenge of a capability."""
        ...

    def summary(self) -> tuple[list[Contact], int, int, int]:
        """Peers of the table; keys kept, records published, peers in the address book."""
        ...

    def may_change(self, initiator: PeerId, mandate: Mandate | None) -> bool:
        """Whether a particle may change what this peer provides."""
        ...


@contextmanager
def _for_scripts() -> Iterator[None]:
    """What could not be done is no bug: scripts may know."""
    try:
        yield
    except FluvialError as error:
        raise EffectorError(FAILED, error.message) from error


class DhtService(Effector[NoConfig]):
    """The distributed hash table, as the peer that answers sees it.

    Args:
        dht: the routing.
    """

    service_id = "dht"
    timeout_s = LOOKUP_S
    calls_max = CALLS_MAX

    def __init__(self, dht: Dht) -> None:
        super().__init__()
        self._dht = dht

    @function
    async def resolve(self, peer: PeerId) -> FoundPeer | None:
        """A peer and its addresses, looked up if they are not known; null if it cannot be found."""
        with _for_scripts():
            found = await self._dht.find(peer)
        return None if found is None else _found(found)

    @function
    async def neighbourhood(self, key: str, count: int = 20) -> list[FoundPeer]:
        """The peers nearest to a key that answer a lookup, nearest first: a peer id, or any other text."""
        place = peer_key(peer) if (peer := _peer(key)) is not None else challenge_key(key.encode())
        with _for_scripts():
            near = await self._dht.nearest(place, max(0, min(count, COUNT_MAX)))
        return [_found(contact) for contact in near]

    @function
    async def providers(self, key: KeyText, limit: int = 8) -> list[FoundProvider]:
        """Who provides something, heaviest first: `service:weather`, or `{"owner": PEER, "path_length_max": 2, "nonce": ""}`."""
        with _for_scripts():
            found = await self._dht.records(self._challenge(key), lane="call")
        return [
            FoundProvider(
                peer_id=provider.peer,
                addresses=[str(address) for address in provider.contact.addresses],
                service=record.fields.service,
                value=record.fields.value.decode(errors="replace"),
                weight=provider.weight,
            )
            for provider, record in found[: max(0, min(limit, COUNT_MAX))]
        ]

    @function
    async def add_provider(
        self, call: Call, key: KeyText, value: str = "", service: str = "", mandate: Mandate | None = None
    ) -> int:
        """Let the peer that answers provide something from now on, until it is removed; how many replicas know of it.

        Only for particles that it began itself, or with a mandate of its owner (else status 8).
        """
        self._check_may(call, mandate)
        if len(value.encode()) > VALUE_BYTES_MAX or len(service) > 256:
            raise EffectorError(FAILED, f"a value has {VALUE_BYTES_MAX} bytes at most, a service 256 characters")
        with _for_scripts():
            return await self._dht.provide(self._challenge(key), value.encode(), service)

    @function
    async def remove_provider(self, call: Call, key: KeyText, mandate: Mandate | None = None) -> bool:
        """Let it provide that no more; whether it did. Who may: as with `add_provider`."""
        self._check_may(call, mandate)
        with _for_scripts():
            return await self._dht.withdraw(self._challenge(key))

    @function
    async def table(self, call: Call, mandate: Mandate | None = None) -> TableSummary:
        """What the peer that answers has of the table. Who may: as with `add_provider`."""
        self._check_may(call, mandate)
        peers, keys, published, known = self._dht.summary()
        return TableSummary([_found(contact) for contact in peers[:COUNT_MAX]], keys, published, known)

    def _check_may(self, call: Call, mandate: Mandate | None) -> None:
        if not self._dht.may_change(call.initiator, mandate):
            raise EffectorError(
                NOT_ALLOWED, f"only the peer itself and its owner may do this with its table, not {call.initiator}"
            )

    def _challenge(self, key: KeyText) -> Challenge:
        try:
            if isinstance(key, OwnedKey):
                return owned_challenge(PeerId.parse(key.owner), key.path_length_max, key.nonce.encode())
            return self._dht.challenge(Capability.parse(key))
        except ValueError as error:
            raise EffectorError(FAILED, str(error)) from error


def _found(contact: Contact) -> FoundPeer:
    return FoundPeer(contact.peer, [str(address) for address in contact.addresses])


def _peer(text: str) -> PeerId | None:
    try:
        return PeerId.parse(text)
    except ValueError:
        return None
