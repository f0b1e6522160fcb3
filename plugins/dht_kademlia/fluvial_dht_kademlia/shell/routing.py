"""Routing ``kademlia``: the machine in the seat."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import anyio
from anyio.abc import TaskStatus
from fluvial.addresses import Address, Contact
from fluvial.challenges import ChallengeKind
from fluvial.errors import StorageError
from fluvial.findings import Finding
from fluvial.hooks import hookimpl
from fluvial.identity import PeerId
from fluvial.ports import Capability, Context, Provider
from fluvial.seats import Answer, Contributions, Routing
from prometheus_client import Counter, Gauge

from fluvial_dht_kademlia.machine.challenges import Challenge, ChallengeKinds
from fluvial_dht_kademlia.machine.kademlia import Kademlia
from fluvial_dht_kademlia.machine.keyspace import Key
from fluvial_dht_kademlia.machine.limits import ADDRESSES_MAX
from fluvial_dht_kademlia.machine.messages import AddProvider, RecordStored
from fluvial_dht_kademlia.machine.outcomes import LookupEnded, ProvideEnded
from fluvial_dht_kademlia.machine.publications import Publications
from fluvial_dht_kademlia.machine.records import ProviderRecord, RecordChecks, sign_record
from fluvial_dht_kademlia.mandate import Mandate, holds
from fluvial_dht_kademlia.shell.address_book import AddressBook
from fluvial_dht_kademlia.shell.announcing import Announcer, WantedRecord
from fluvial_dht_kademlia.shell.asking import ContactAsker
from fluvial_dht_kademlia.shell.capability_keys import challenge_of
from fluvial_dht_kademlia.shell.contained_kinds import ContainedKind
from fluvial_dht_kademlia.shell.driver import MachineDriver
from fluvial_dht_kademlia.shell.finding import PeerFinder
from fluvial_dht_kademlia.shell.joining import Joiner
from fluvial_dht_kademlia.shell.local_discovery import LocalDiscovery
from fluvial_dht_kademlia.shell.lookup_pace import Lane
from fluvial_dht_kademlia.shell.options import KademliaOptions
from fluvial_dht_kademlia.shell.persisting import StateKeeper
from fluvial_dht_kademlia.shell.proving import AddressProver
from fluvial_dht_kademlia.shell.provisions import Provisions
from fluvial_dht_kademlia.shell.reachability import Reachability
from fluvial_dht_kademlia.shell.service import DhtService
from fluvial_dht_kademlia.shell.tables import Provided
from fluvial_dht_kademlia.shell.weights import WeightCache
from fluvial_dht_kademlia.wire import PROTOCOL, REQUEST_BYTES_MAX, decode_request, encode_answer

MANY: Final = ("blob", "relay")
"""Kinds of capabilities of which there may be many."""
AT_ONCE: Final = 1_024
PER_SENDER: Final = 64
"""Requests are answered at once, except for offers of records, which are written first."""
SPEAKERS_MAX: Final = 4_096
"""Peers of which it is remembered that they speak the protocol."""
PROVIDERS_S: Final = 4.0
"""What a lookup of providers may take: the node gives a routing five seconds."""


class KademliaRouting(Routing):
    """Takes the seat ``routing`` as ``kademlia``.

    Args:
        context: of the node it sits in.
        options: its section of the config.
    """

    def __init__(self, context: Context, options: KademliaOptions) -> None:
        self._context: Final = context
        self._options = options
        self._me = me = context.keys.peer_id
        self._clock = context.clock
        limits = options.limits()
        self._weights = WeightCache(context.trust)
        self._speakers: OrderedDict[PeerId, None] = OrderedDict()
        self._kinds = ChallengeKinds(self._proves, self._prove)
        self._checks = RecordChecks(context.network, self._kinds, limits)
        self._machine = Kademlia(
            Contact(me),
            limits=limits,
            checks=self._checks,
            publications=Publications(
                me, sign=lambda fields: sign_record(context.keys, context.network, fields), limits=limits
            ),
            weigh=self._weights.weigh,
            rng=context.rng,
            now=context.clock.now_ms(),
            weights_version=self._weights.version,
        )
        self._book = AddressBook(me, options.contacts_max, self._weights.weigh)
        self._book.fix(options.seeds())
        asker = ContactAsker(context.peers, limits.request_timeout_ms, self._machine.contacts_taken)
        self._driver = MachineDriver(
            self._machine, asker.ask, shown=self._shown, clock=context.clock, before=self._weights.refresh
        )
        self._prover = AddressProver(
            context.peers, context.clock, wanted=self._unproven, enough=lambda: len(self._machine.table) >= limits.k
        )
        self._measure()
        self._finder = self._peer_finder()
        self._joiner = Joiner(
            seeds=lambda: self._book,
            contacts=lambda: len(self._machine.table),
            enough=limits.k,
            join=self._join,
            log=context.log,
        )
        self._keeper = StateKeeper(
            context.database,
            book=self._book,
            store=self._machine.store,
            publications=self._machine.publications,
            log=context.log,
        )
        self._reachability = Reachability(
            context.peers,
            told=self._book.contact,
            neighbours=lambda: [member.contact for member in self._machine.table],
            rng=context.rng,
        )
        self._local = self._local_discovery() if options.local_discovery else None
        self._provisions = Provisions(context.database)
        self._announcer = Announcer(
            me,
            wanted=self._wanted,
            wanted_max=limits.own_records_max,
            publications=self._machine.publications,
            kinds=self._kinds,
            offer=self._offer,
            write=self._keeper.write_own,
            clock=context.clock,
            log=context.log,
        )

    def _local_discovery(self) -> LocalDiscovery:
        context = self._context
        return LocalDiscovery(
            self._me,
            context.network,
            interfaces=self._options.local_interfaces,
            addresses=lambda: context.peers.addresses(),
            found=self.learn,
            log=context.log,
        )

    def _peer_finder(self) -> PeerFinder:
        return PeerFinder(
            self._me,
            self._book,
            lookups=(self._look_up_peer, self._look_up_relays),
            turn=partial(self._driver.turn, "way"),
            clock=self._clock,
            ways=self._ways,
        )

    def _measure(self) -> None:
        metrics = self._context.metrics
        gauge = Gauge("fluvial_routing_contacts", "Peers with a known contact", registry=metrics)
        gauge.set_function(lambda: len(self._book))
        gauge = Gauge("fluvial_dht_table_peers", "Peers in the buckets of the DHT", registry=metrics)
        gauge.set_function(lambda: len(self._machine.table))
        gauge = Gauge("fluvial_dht_keys", "Keys for which records are kept for others", registry=metrics)
        gauge.set_function(lambda: len(self._machine.store))
        gauge = Gauge("fluvial_dht_records_bytes", "Memory of the records that are kept for others", registry=metrics)
        gauge.set_function(lambda: self._machine.store.bytes)
        self._ways = Counter(
            "fluvial_routing_finds",
            "Peers that the routing was asked for, by where they were found",
            ["way"],
            registry=metrics,
        )
        self._requests = Counter(
            "fluvial_dht_requests",
            "Requests of other peers to the DHT, by kind and outcome",
            ["kind", "outcome"],
            registry=metrics,
        )

    # --- as a part ----------------------------------------------------------------------------------------------------

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Join the network and serve it until cancelled.

        Raises:
            StorageError: what was kept before cannot be read.
            PluginError: two kinds of challenges have one name.
        """
        log = self._context.log
        self._kinds.add(*(ContainedKind(kind, log) for kind in self._context.extensions.all(ChallengeKind)))
        await self._provisions.load()
        await self._keeper.load(self._clock.now_ms(), self._options.contacts_max)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._driver.run, tasks)
                self._finder.start(tasks)
                tasks.start_soon(self._prover.run, tasks)
                tasks.start_soon(self._keeper.run)
                task_status.started()
                tasks.start_soon(self._joiner.run)
                tasks.start_soon(self._reachability.run)
                if self._local is not None:
                    tasks.start_soon(self._local.run)
                await self._joiner.tried.wait()
                await self._announcer.run()
        finally:
            self._finder.stop()

    def contributions(self) -> Contributions:
        """Two protocols, the service ``dht``, a watcher of capabilities, and what doctor is told."""
        answer = Answer(
            protocol=PROTOCOL, by=self._answer, bytes_max=REQUEST_BYTES_MAX, at_once=AT_ONCE, per_sender=PER_SENDER
        )
        return Contributions(
            answers=(answer, self._reachability.answer),
            services=(DhtService(self),),
            watchers=(self,),
            health=self._health,
        )

    @hookimpl
    def fluvial_capabilities_changed(self) -> None:
        """A reason to announce."""
        self._announcer.wake()

    def _health(self) -> Iterable[Finding]:
        known, peers = len(self._book), len(self._machine.table)
        if peers:
            yield Finding(level="ok", text=f"{peers} peers in the table, {known} in the address book")
            yield from self._reachability.findings()
        else:
            yield Finding(
                level="warn",
                text=f"no peer of the DHT has answered yet; {known} in the address book",
                hint="give the address of a peer that runs, as `peers` in [routing]",
            )

    # --- the seat's protocol ------------------------------------------------------------------------------------------

    async def find(self, peer: PeerId) -> Contact | None:
        """The best contact known or found for a peer; None if there is none."""
        return await self._finder.find(peer)

    def known(self, peer: PeerId) -> Contact | None:
        """What the address book has, unless it led nowhere lately."""
        return self._book.contact(peer) if self._book.has_way(peer, self._clock.now_ms()) else None

    def failed(self, contact: Contact) -> None:
        """None of these addresses has led to the peer."""
        self._book.failed(contact.peer, self._clock.now_ms())

    def learn(self, contact: Contact) -> None:
        """A connected peer announced addresses of its own."""
        if self._book.learn(contact, self._clock.now_ms()):
            self._joiner.hope()

    def proven(self, peer: PeerId, address: Address) -> None:
        """A peer has shown its key at an address; if it has asked this one, it can be named to others now."""
        self._book.prove(peer, address, self._clock.now_ms())
        if peer in self._speakers:
            self._weights.refresh()
            self._driver.carry_out(self._machine.met(self._book.shown(peer), self._clock.now_ms()))

    def contacts(self) -> Sequence[Contact]:
        """All contacts that others may be told of."""
        return list(self._book.all_shown())

    async def providers(self, capability: Capability, *, limit: int) -> Sequence[Provider]:
        """Peers that have a capability, heaviest first, at most ``limit`` of them."""
        if limit < 1:
            return ()
        found = await self.records(self.challenge(capability))
        return [provider for provider, _ in found[:limit]]

    @property
    def joined(self) -> anyio.Event:
        """Set once this peer has joined the network: it has looked up its own place, and somebody has answered."""
        return self._joiner.joined

    # --- what the service asks ----------------------------------------------------------------------------------------

    async def nearest(self, key: Key, count: int) -> list[Contact]:
        """The peers nearest to a key that answered a lookup; raises ResourceLimit, Unreachable."""
        end = await self._driver.operate(lambda now: self._machine.find_peers(key, now), LookupEnded, lane="call")
        return list(end.nearest[:count])

    async def records(self, challenge: Challenge, *, lane: Lane | None = None) -> list[tuple[Provider, ProviderRecord]]:
        """The records at a challenge's key, heaviest first; none if the lookup takes too long."""
        with anyio.move_on_after(PROVIDERS_S):
            end = await self._driver.operate(
                lambda now: self._machine.find_providers(challenge, now), LookupEnded, lane=lane
            )
            return [(self._provider(record), record) for record in end.records]
        return []

    async def provide(self, challenge: Challenge, value: bytes, service: str) -> int:
        """Provide something from now on; how many replicas know of it now.

        Raises:
            Refused: this peer does not solve the challenge. ResourceLimit, StorageError: there is no room for it.
        """
        self._kinds.solve(challenge, self._me)
        await self._provisions.add(Provided(challenge, value, service))
        await self._announcer.announce()
        published = self._machine.publications.get(challenge.key)
        if published is None:
            return 0
        return (await self._offer(challenge, published.record)).stored

    async def withdraw(self, challenge: Challenge) -> bool:
        """Provide something no more; whether it was provided. Raises StorageError."""
        removed = await self._provisions.remove(challenge.key)
        await self._announcer.announce()
        return removed

    def challenge(self, capability: Capability) -> Challenge:
        """The challenge of a capability."""
        return challenge_of(capability, self._kinds)

    def summary(self) -> tuple[list[Contact], int, int, int]:
        """Peers of the table; keys kept, records published, peers in the address book."""
        peers = [member.contact for member in self._machine.table]
        return peers, len(self._machine.store), len(list(self._machine.publications)), len(self._book)

    def may_change(self, initiator: PeerId, mandate: Mandate | None) -> bool:
        """Whether a particle of an initiator may change what this peer provides."""
        if initiator == self._me:
            return True
        network, now_ms = self._context.network, self._clock.now_ms()
        return mandate is not None and holds(mandate, owner=self._me, client=initiator, network=network, now_ms=now_ms)

    # --- requests of others -------------------------------------------------------------------------------------------

    async def _answer(self, sender: PeerId, payload: bytes) -> bytes:
        request = decode_request(payload)
        kind = type(request).__name__
        if isinstance(request, AddProvider) and self._keeper.behind:
            self._requests.labels(kind=kind, outcome="refused").inc()
            return encode_answer(RecordStored(False, "storage"))
        self._weights.refresh()
        answer, effects = self._machine.receive(self._shown(sender), request, self._clock.now_ms())
        self._driver.carry_out(effects)
        if isinstance(request, AddProvider):
            try:
                await self._keeper.write_records()  # an accepted record is a promise
            except StorageError:
                answer = RecordStored(False, "storage")
        refused = isinstance(answer, RecordStored) and not answer.accepted
        self._requests.labels(kind=kind, outcome="refused" if refused else "answered").inc()
        return encode_answer(answer)

    def _shown(self, speaker: PeerId) -> Contact:
        """A peer that speaks the protocol, with the addresses that others may be told; if there are none, these are going to be proven."""
        self._speakers[speaker] = None
        self._speakers.move_to_end(speaker)
        if len(self._speakers) > SPEAKERS_MAX:
            self._speakers.popitem(last=False)
        if self._unproven(speaker).addresses:
            self._prover.ask(speaker)
        return self._book.shown(speaker)

    def _unproven(self, speaker: PeerId) -> Contact:
        """Where a peer says that it is, if the table has room for it once that is proven."""
        if self._book.shown(speaker).addresses or not self._machine.table.has_room(speaker):
            return Contact(speaker)
        return self._book.contact(speaker)

    # --- lookups ------------------------------------------------------------------------------------------------------

    async def _join(self, seeds: list[Contact]) -> None:
        k = self._options.k
        width = (
            k if self.joined.is_set() else max(1, k // 2)
        )  # all who join at one time would connect to each other at once
        await self._driver.operate(lambda now: self._machine.join(now, seeds, width=width), LookupEnded)
        self._driver.carry_out(self._machine.fill(self._clock.now_ms()))

    async def _look_up_peer(self, peer: PeerId) -> Contact | None:
        end = await self._driver.operate(lambda now: self._machine.find_peer(peer, now), LookupEnded)
        return next((contact for contact in end.nearest if contact.peer == peer), None)

    async def _look_up_relays(self, peer: PeerId) -> Contact | None:
        """A client behind relays, by the addresses of these."""
        ways: list[Address] = []
        for relay, _ in await self.records(self.challenge(Capability("relay", str(peer)))):
            ways += [
                Address(host_kind=at.host_kind, host=at.host, port=at.port, relay=relay.peer, peer=peer)
                for at in relay.contact.addresses
                if at.relay is None
            ]
        return Contact(peer, tuple(ways[:ADDRESSES_MAX])) if ways else None

    def _provider(self, record: ProviderRecord) -> Provider:
        peer = record.provider
        told: list[Address] = []
        for text in record.fields.addresses:
            try:
                address = Address.parse(text)
            except ValueError:  # of another version
                continue
            if address.peer in (None, peer):
                told.append(address.with_peer(peer))
        contact = Contact(peer, tuple(told))
        if told:
            self._book.learn(contact, self._clock.now_ms())
        return Provider(contact=self._book.contact(peer), weight=self._weights.weigh(peer))

    # --- records of this peer -----------------------------------------------------------------------------------------

    def _wanted(self) -> Iterable[WantedRecord]:
        """What this peer was told to provide and its capabilities; last those of which there may be many, which others decide on."""
        addresses = tuple(str(address) for address in self._reachability.own_addresses()[:ADDRESSES_MAX])
        for one in self._provisions:
            yield WantedRecord(one.challenge, value=one.value, service=one.service, addresses=addresses)
        for capability in sorted(self._context.directory.own(), key=lambda one: (one.kind in MANY, one)):
            if self._options.announces(capability):
                yield WantedRecord(self.challenge(capability), addresses=addresses)

    async def _offer(self, challenge: Challenge, record: ProviderRecord) -> ProvideEnded:
        ended = await self._driver.operate(lambda now: self._machine.add_provider(challenge, record, now), ProvideEnded)
        await self._keeper.write_records()
        return ended

    # --- trust --------------------------------------------------------------------------------------------------------

    def _proves(self, proof: bytes, owner: PeerId, provider: PeerId, length_max: int) -> bool:
        return self._context.trust.proves(proof, owner, provider, length_max=length_max)

    def _prove(self, owner: PeerId, provider: PeerId, length_max: int) -> bytes | None:
        return self._context.trust.prove(owner, provider, length_max=length_max)
