"""The machine: requests of others, answers and the time go in; requests to send and ended operations come out.

It does no I/O and has no clock. Whoever drives it calls, always with the time in milliseconds:

- :meth:`Kademlia.receive` for a request of another peer, and sends the answer back;
- :meth:`Kademlia.answered` or :meth:`Kademlia.failed` once for each :class:`AskPeer`;
- :meth:`Kademlia.tick` when ``wake_at`` has come.

All four return effects, in order. A request that nobody reports on fails by itself after ``request_timeout_ms``.

Source: Maymounkov, Mazières: "Kademlia"; Fluence white paper, "DHT" (challenges, order by weight). Records are put on the nearest peers and on the
nearest with weight, so that whoever makes ids around a key hides only a part of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from itertools import islice
from typing import Final, Literal, TypeAlias

import msgspec
from fluvial.addresses import Contact
from fluvial.errors import ResourceLimit
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine import messages
from fluvial_dht_kademlia.machine.challenges import Challenge
from fluvial_dht_kademlia.machine.contact_table import ContactTable
from fluvial_dht_kademlia.machine.in_progress import LookupRun, OutstandingRequest
from fluvial_dht_kademlia.machine.keyspace import Draws, Key, PlaceOf, Weigh, peer_key, random_key_in_bucket
from fluvial_dht_kademlia.machine.limits import MINUTE_MS, KademliaLimits
from fluvial_dht_kademlia.machine.lookup import Lookup, LookupShape
from fluvial_dht_kademlia.machine.messages import DhtAnswer, DhtRequest
from fluvial_dht_kademlia.machine.outcomes import AskPeer, DhtEffect, LookupEnded
from fluvial_dht_kademlia.machine.provider_search import ProviderSearch
from fluvial_dht_kademlia.machine.publications import Publications
from fluvial_dht_kademlia.machine.record_offers import RecordOffer, choose_replicas, keep_record
from fluvial_dht_kademlia.machine.record_store import RecordStore
from fluvial_dht_kademlia.machine.records import ProviderRecord, RecordChecks
from fluvial_dht_kademlia.machine.round_trips import RoundTripEstimator
from fluvial_dht_kademlia.machine.standing import PeerStanding

UPKEEP_MS: Final = 5 * MINUTE_MS
"""Mean time between two rounds of upkeep."""
REFRESHED_MAX: Final = 4
"""Buckets refreshed in one round."""
SILENT_PINGED_MAX: Final = 8
"""Silent contacts that are pinged in one round; so a part of the network that was cut off is taken in again."""
OFFERED_MAX: Final = 64
"""Records published again or handed on in one round; the others wait for the next."""

KEYS_AT_ONCE: Final = 512
"""Keys whose records are looked at in one go, a few milliseconds; others have their turn before the next ones are."""
KEYS_PAUSE_MS: Final = 20

_Timer: TypeAlias = Literal["slow", "too slow", "expired", "upkeep", "records"]


class Kademlia:
    """One peer of the DHT.

    Args:
        own: this peer, with the addresses that it tells others.
        limits: sizes, times and bounds.
        checks: what records must pass.
        publications: the records of this peer.
        weigh: the weight of a peer now.
        rng: for refreshes and for spreading upkeep over time.
        now: the time.
        place: where a peer is.
        weights_version: changes whenever a weight may have changed.
    """

    def __init__(
        self,
        own: Contact,
        *,
        limits: KademliaLimits,
        checks: RecordChecks,
        publications: Publications,
        weigh: Weigh,
        rng: Draws,
        now: int,
        place: PlaceOf = peer_key,
        weights_version: Callable[[], int] | None = None,
    ) -> None:
        self.own: Final = own
        self.key: Final = place(own.peer)
        self._limits = limits
        self._checks = checks
        self._weigh = weigh
        self._rng = rng
        self._place = place
        self.table: Final = ContactTable(
            self.key,
            k=limits.k,
            reserve=limits.bucket_reserve,
            place=place,
            weigh=weigh,
            weights_version=weights_version,
        )
        self.store: Final = RecordStore(self.key, checks=checks, limits=limits, weigh=weigh)
        self.publications: Final = publications
        self._standing = PeerStanding()
        self._round_trips = RoundTripEstimator(limits.patience_max_ms)
        self._number = 0
        self._outstanding: dict[int, OutstandingRequest] = {}
        self._lookups: dict[int, LookupRun] = {}
        self._offers: dict[int, RecordOffer] = {}
        self._pinged: set[PeerId] = set()
        self._timers: list[tuple[int, int, _Timer]] = []
        self._offers_left = 0  # of the round of upkeep
        self._shape = LookupShape(
            k=limits.k, alpha=limits.alpha, paths=limits.disjoint_paths, requests_max=limits.requests_max
        )
        self._set_timer(now + rng.randrange(UPKEEP_MS), 0, "upkeep")

    @property
    def wake_at(self) -> int:
        """When :meth:`tick` is due."""
        return self._timers[0][0]

    # --- operations ---------------------------------------------------------------------------------------------------

    def find_peers(self, target: Key, now: int, *, seeds: Iterable[Contact] = ()) -> tuple[int, list[DhtEffect]]:
        """Look up the peers nearest to a key; returns the operation's number and effects.

        Args:
            target: the key.
            now: the time.
            seeds: contacts to begin with beside the table's, such as bootstrap peers.

        Raises:
            ResourceLimit: too many lookups are in progress.
        """
        return self._start(self._new_run(target, now), seeds, now)

    def find_peer(self, peer: PeerId, now: int) -> tuple[int, list[DhtEffect]]:
        """Look up one peer: as :meth:`find_peers` of its place, but over as soon as the peer itself has answered. It is the nearest then."""
        run = self._new_run(self._place(peer), now)
        run.wanted = peer
        return self._start(run, (), now)

    def find_providers(self, challenge: Challenge, now: int) -> tuple[int, list[DhtEffect]]:
        """Look up the providers at a challenge's key; as :meth:`find_peers`. This peer's own records count as those of one replica."""
        run = self._new_run(challenge.key, now)
        limit = self._limits.providers_max
        run.search = ProviderSearch(challenge, self._checks, quorum=self._limits.quorum, providers_max=limit)
        run.search.heard(self.store.read(challenge.key, now, limit=limit), now, hops=0)
        return self._start(run, (), now)

    def add_provider(self, challenge: Challenge, record: ProviderRecord, now: int) -> tuple[int, list[DhtEffect]]:
        """Offer a signed record to the replicas of its key; as :meth:`find_peers`.

        Raises:
            Refused: the record does not pass the checks here, so no replica would take it.
            RemoteProtocolError: the challenge is ill-formed.
            ResourceLimit: too many lookups are in progress.
        """
        self._checks.check(challenge, record, now)
        run = self._new_run(challenge.key, now)
        run.offer = (challenge, record)
        return self._start(run, (), now)

    def join(self, now: int, seeds: Iterable[Contact], *, width: int | None = None) -> tuple[int, list[DhtEffect]]:
        """Look up the own place, which makes this peer known to its neighbours; afterwards call :meth:`fill`.

        Args:
            now: the time.
            seeds: as for :meth:`find_peers`.
            width: how many neighbours the lookup ends with; ``k`` by default.

        Raises:
            ResourceLimit: too many lookups are in progress.
        """
        shape = msgspec.structs.replace(self._shape, k=width or self._limits.k)
        return self._start(self._new_run(self.key, now, shape), seeds, now)

    def fill(self, now: int) -> list[DhtEffect]:
        """Look into the buckets that are less than half full, for so many peers as make them half full; the second half of joining.

        Source: Kademlia, section 2.3: a new node refreshes all buckets farther away than its closest neighbour.
        """
        shape = msgspec.structs.replace(self._shape, k=max(1, self._limits.k // 2))
        return [effect for index in self.table.sparse() for effect in self._refresh(index, now, shape)]

    def contacts_taken(self, of: PeerId) -> int:
        """How many contacts of an answer of this peer are looked at; it is not worth reading more."""
        return self._shape.taken_max if self._standing.may_name(of) else 0

    # --- inputs -------------------------------------------------------------------------------------------------------

    def receive(self, sender: Contact, request: DhtRequest, now: int) -> tuple[DhtAnswer, list[DhtEffect]]:
        """Answer a request of an authenticated peer. One without addresses is a client and does not enter the table."""
        effects = self.met(sender, now)
        match request:
            case messages.Ping():
                return messages.Pong(), effects
            case messages.FindPeers(target):
                return messages.PeersFound(self._near(target, sender)), effects
            case messages.FindProviders(key, limit):
                wanted = max(0, min(limit, self._limits.providers_max))
                records = tuple(self.store.read(key, now, limit=wanted))
                return messages.ProvidersFound(records, self._near(key, sender)), effects
            case messages.AddProvider(challenge, record):
                return keep_record(self.store, challenge, record, now, sender.peer), effects

    def met(self, contact: Contact, now: int) -> list[DhtEffect]:
        """A peer that speaks the protocol has proven to be at these addresses."""
        return self._seen(contact, now) if contact.addresses else []

    def answered(self, ticket: int, answer: DhtAnswer, now: int, *, met: Contact | None = None) -> list[DhtEffect]:
        """A peer has answered a request; late answers of requests that have failed are ignored.

        Args:
            ticket: of the request.
            answer: as it came.
            now: the time.
            met: the peer with the addresses that are proven, perhaps none; by default those at which it was asked.
        """
        request = self._outstanding.pop(ticket, None)
        if request is None:
            return []
        self._standing.advance(now)
        self._round_trips.measured(now - request.sent_at)
        effects = self.met(request.contact if met is None else met, now)
        run = self._lookups.get(request.operation) if request.operation is not None else None
        if run is not None and request.operation is not None:
            self._hear(run, request.contact, answer, now)
            return effects + self._go_on(request.operation, now)
        return effects + self._settle(request, answer)

    def failed(self, ticket: int, now: int, *, noise: bool = False) -> list[DhtEffect]:
        """A request could not be delivered, or its answer was no answer, which is ``noise``."""
        request = self._outstanding.pop(ticket, None)
        if request is None:
            return []
        self._standing.advance(now)
        self.table.failed(request.contact.peer)
        if noise:
            self._standing.noise(request.contact.peer)
        run = self._lookups.get(request.operation) if request.operation is not None else None
        if run is not None and request.operation is not None:
            run.lookup.failed(request.contact.peer)
            return self._go_on(request.operation, now)
        return self._settle(request, None)

    def tick(self, now: int) -> list[DhtEffect]:
        """Do what is due."""
        self._standing.advance(now)
        effects: list[DhtEffect] = []
        while self._timers[0][0] <= now:
            _, ticket, what = heappop(self._timers)
            if what == "upkeep":
                effects += self._upkeep(now)
            elif what == "records":
                effects += self._tend_records(now)
            elif what == "expired":
                effects += self.failed(ticket, now)
            elif (request := self._outstanding.get(ticket)) is not None and request.operation in self._lookups:
                lookup = self._lookups[request.operation].lookup
                if what == "slow":
                    self._set_timer(lookup.slow(request.contact.peer, now), ticket, "too slow")
                else:
                    lookup.lose_patience(request.contact.peer)
                effects += self._go_on(request.operation, now)
        return effects

    # --- lookups ------------------------------------------------------------------------------------------------------

    def _new_run(self, target: Key, now: int, shape: LookupShape | None = None) -> LookupRun:
        if len(self._lookups) >= self._limits.lookups_max:
            raise ResourceLimit(f"{len(self._lookups)} lookups are in progress", hint="wait until some have ended")
        lookup = Lookup(target, self.own.peer, shape or self._shape, self._place, self._weigh, self._standing)
        return LookupRun(lookup, now)

    def _start(self, run: LookupRun, seeds: Iterable[Contact], now: int) -> tuple[int, list[DhtEffect]]:
        self._standing.advance(now)
        target, k = run.lookup.target, self._limits.k
        self.table.looked_up(target, now)
        known = self.table.nearest(target, k) + self.table.nearest_weighted(target, max(1, k // 2))
        run.lookup.start({contact.peer: contact for contact in (*(known or self.table.everybody()), *seeds)}.values())
        self._number += 1
        operation = self._number
        self._lookups[operation] = run
        return operation, self._go_on(operation, now)

    def _hear(self, run: LookupRun, contact: Contact, answer: DhtAnswer, now: int) -> None:
        """Take the answer of a peer into a lookup; one that does not fit the request, or lies about records, counts as a failure."""
        fits = True
        match answer:
            case messages.PeersFound(contacts) if run.search is None:
                run.lookup.answered(contact.peer, contacts)
            case messages.ProvidersFound(records, contacts) if run.search is not None:
                if run.search.heard(records, now, hops=run.lookup.hops(contact.peer)):
                    run.lookup.answered(contact.peer, contacts)
                else:
                    fits = False
            case _:
                fits = False
        if not fits:
            self._standing.noise(contact.peer)
            run.lookup.failed(contact.peer)

    def _go_on(self, operation: int, now: int) -> list[DhtEffect]:
        run = self._lookups[operation]
        found = run.wanted is not None and run.lookup.has_answered(run.wanted)
        if found or (run.search is not None and run.search.satisfied) or run.lookup.done:
            return self._end(operation, now)
        request: DhtRequest = messages.FindPeers(run.lookup.target)
        if run.search is not None:
            request = messages.FindProviders(run.lookup.target, self._limits.providers_max)
        asked: list[DhtEffect] = [self._ask(contact, request, operation, now) for contact in run.lookup.next()]
        return asked if asked or not run.lookup.done else self._end(operation, now)

    def _end(self, operation: int, now: int) -> list[DhtEffect]:
        run = self._lookups.pop(operation)
        if run.offer is not None:
            return self._offer(operation, run, now)
        if not run.reported:
            return []
        search, k = run.search, self._limits.k
        return [
            LookupEnded(
                operation=operation,
                target=run.lookup.target,
                nearest=tuple(run.lookup.nearest(k)),
                nearest_weighted=tuple(run.lookup.nearest(k, weighted=True)),
                records=search.result(self._weigh) if search is not None else (),
                requests=run.lookup.requests,
                hops=search.hops if search is not None else 0,
                took_ms=now - run.started_at,
            )
        ]

    # --- records ------------------------------------------------------------------------------------------------------

    def _offer(self, operation: int, run: LookupRun, now: int) -> list[DhtEffect]:
        """Send a record to the replicas that a lookup has found; this peer is one of them if it is near enough."""
        assert run.offer is not None
        challenge, record = run.offer
        wanted = self._limits.replicas
        near = run.lookup.nearest(wanted)
        replicas = choose_replicas(near, run.lookup.nearest(wanted, weighted=True), wanted)
        offer = RecordOffer(operation, challenge.key, len(replicas))
        if len(near) < wanted or self.key ^ challenge.key < self._place(near[-1].peer) ^ challenge.key:
            offer.stored += keep_record(self.store, challenge, record, now, self.own.peer).accepted
        if not replicas:
            return [offer.end()] if run.reported else []
        if run.reported:
            self._offers[operation] = offer
        request = messages.AddProvider(challenge, record)
        return [self._ask(contact, request, operation, now) for contact in replicas]

    def _settle(self, request: OutstandingRequest, answer: DhtAnswer | None) -> list[DhtEffect]:
        """The answer to a ping or to an offer; None if there is none."""
        if request.operation is None:
            self._pinged.discard(request.contact.peer)
            return []
        offer = self._offers.get(request.operation)
        if offer is None:
            return []
        offer.settle(answer)
        if offer.waiting:
            return []
        del self._offers[request.operation]
        return [offer.end()]

    # --- upkeep -------------------------------------------------------------------------------------------------------

    def _upkeep(self, now: int) -> list[DhtEffect]:
        """Ping the silent, refresh, republish, replicate, expire; spread over rounds, so that no round is large."""
        limits = self._limits
        self._set_timer(now + UPKEEP_MS // 2 + self._rng.randrange(UPKEEP_MS), 0, "upkeep")
        effects: list[DhtEffect] = []
        silent = [contact for contact in self.table.silent() if contact.peer not in self._pinged]
        for contact in silent[:SILENT_PINGED_MAX]:
            self._pinged.add(contact.peer)
            effects.append(self._ask(contact, messages.Ping(), None, now))
        for index in self.table.stale(now - limits.refresh_ms)[:REFRESHED_MAX]:
            effects += self._refresh(index, now, self._shape)
        self._offers_left = OFFERED_MAX
        effects += self._offer_again(
            self.publications.due(now, limits.republish_ms) if limits.republish_ms else (), now
        )
        return effects + (self._tend_records(now) if not self.store.is_expiring else [])

    def _tend_records(self, now: int) -> list[DhtEffect]:
        """Drop some of the records that have expired, and hand on some of the others; then the next ones."""
        limits = self._limits
        keys = self.store.expire(now, most=KEYS_AT_ONCE)
        if self.store.is_expiring:
            self._set_timer(now + KEYS_PAUSE_MS, 0, "records")
        return self._offer_again(self.store.due(now, limits.replicate_ms, keys) if limits.replicate_ms else (), now)

    def _offer_again(self, records: Iterable[tuple[Challenge, ProviderRecord]], now: int) -> list[DhtEffect]:
        """Offer records to their replicas once more, as many as there is room for."""
        effects: list[DhtEffect] = []
        room = max(
            0, self._limits.lookups_max // 2 - len(self._lookups)
        )  # the other half is for whoever uses this peer
        for challenge, record in list(islice(records, min(room, self._offers_left))):
            self._offers_left -= 1
            run = msgspec.structs.replace(self._new_run(challenge.key, now), reported=False, offer=(challenge, record))
            effects += self._start(run, (), now)[1]
        return effects

    def _refresh(self, index: int, now: int, shape: LookupShape) -> list[DhtEffect]:
        if len(self._lookups) >= self._limits.lookups_max:
            return []
        target = random_key_in_bucket(self.key, index, self._rng)
        return self._start(msgspec.structs.replace(self._new_run(target, now, shape), reported=False), (), now)[1]

    # --- requests and contacts ----------------------------------------------------------------------------------------

    def _near(self, target: Key, sender: Contact) -> tuple[Contact, ...]:
        k = self._limits.k
        found = self.table.nearest(target, k) + self.table.nearest_weighted(target, max(1, k // 2))
        return tuple({contact.peer: contact for contact in found if contact.peer != sender.peer}.values())

    def _seen(self, contact: Contact, now: int) -> list[DhtEffect]:
        ping = self.table.seen(contact)
        if ping is None or ping.peer in self._pinged:
            return []
        self._pinged.add(ping.peer)
        return [self._ask(ping, messages.Ping(), None, now)]

    def _ask(self, contact: Contact, request: DhtRequest, operation: int | None, now: int) -> AskPeer:
        self._number += 1
        ticket = self._number
        self._outstanding[ticket] = OutstandingRequest(contact, operation, now)
        if operation in self._lookups:
            self._set_timer(now + self._round_trips.patience_ms, ticket, "slow")
        self._set_timer(now + self._limits.request_timeout_ms, ticket, "expired")
        return AskPeer(ticket, contact, request)

    def _set_timer(self, at: int, ticket: int, what: _Timer) -> None:
        heappush(self._timers, (at, ticket, what))
