"""Keeps the DHT's records of this peer in step with what it can be looked up by.

What is wanted is read, never told: the node's capabilities, and what the peer was told to provide. A pass compares it with what is published; new and
changed records are signed, written and offered, those that are not wanted any more get a tombstone. Nothing is forgotten at a restart, since
publications are in the database. The machine itself publishes again what does not change.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from itertools import islice
from typing import Final, TypeAlias

import anyio
import msgspec
import structlog
from fluvial.clock import Clock
from fluvial.errors import FluvialError, Refused, RemoteProtocolError, ResourceLimit
from fluvial.identity import PeerId

from fluvial_dht_kademlia.machine.challenges import Challenge, ChallengeKinds
from fluvial_dht_kademlia.machine.keyspace import Key
from fluvial_dht_kademlia.machine.outcomes import ProvideEnded
from fluvial_dht_kademlia.machine.publications import Publications
from fluvial_dht_kademlia.machine.records import ProviderRecord

EVERY_S: Final = 60.0
"""How often it is looked at what is wanted, also without a reason."""
SETTLE_S: Final = 0.05
"""Changes in quick succession are published together."""
OFFERS_AT_ONCE: Final = 16

OfferToReplicas: TypeAlias = Callable[[Challenge, ProviderRecord], Awaitable[ProvideEnded]]
"""Offers a record to its replicas and returns what became of it; raises FluvialError."""


class WantedRecord(msgspec.Struct, frozen=True):
    """A record that this peer should have in the DHT."""

    challenge: Challenge
    value: bytes = b""
    service: str = ""
    addresses: tuple[str, ...] = ()


class Announcer:
    """See the module's docstring.

    Args:
        own: this peer.
        wanted: what it should have now, the most important first.
        wanted_max: records that it may have; what is beyond is left out.
        publications: what it has.
        kinds: solve challenges.
        offer: to the replicas.
        write: makes publications durable; raises StorageError.
        clock, log: as usual.
    """

    def __init__(
        self,
        own: PeerId,
        *,
        wanted: Callable[[], Iterable[WantedRecord]],
        wanted_max: int,
        publications: Publications,
        kinds: ChallengeKinds,
        offer: OfferToReplicas,
        write: Callable[[], Awaitable[None]],
        clock: Clock,
        log: structlog.stdlib.BoundLogger,
    ) -> None:
        self._own: Final = own
        self._wanted = wanted
        self._wanted_max = wanted_max
        self._publications = publications
        self._kinds = kinds
        self._offer = offer
        self._write = write
        self._clock = clock
        self._log = log
        self._news = anyio.Event()
        self._waiting: dict[Key, tuple[Challenge, ProviderRecord]] = {}

    @property
    def waiting(self) -> int:
        """How many records no replica has taken yet."""
        return len(self._waiting)

    def wake(self) -> None:
        """There may be something new."""
        self._news.set()

    async def run(self) -> None:
        """Look now, and then whenever there is a reason, until cancelled."""
        while True:
            self._news = anyio.Event()
            try:
                await self.announce()
            except FluvialError as error:
                self._log.warning("dht_not_announced", error=error.message)
            with anyio.move_on_after(EVERY_S):
                await self._news.wait()
            await anyio.sleep(SETTLE_S)

    async def announce(self) -> None:
        """One pass.

        Raises:
            StorageError: the publications cannot be written; they are offered with the next pass.
        """
        now = self._clock.now_ms()
        wanted = {one.challenge.key: one for one in islice(self._wanted(), self._wanted_max)}
        for publication in self._publications:
            if publication.challenge.key not in wanted:
                tombstone = self._publications.withdraw(publication.challenge, now)
                if tombstone is not None:
                    self._waiting[publication.challenge.key] = (publication.challenge, tombstone)
        for key, one in wanted.items():
            try:
                if (record := self._renewed(one, now)) is not None:
                    self._waiting[key] = (one.challenge, record)
            except ResourceLimit as error:
                self._log.warning("dht_not_announced", error=error.message, wanted=len(wanted))
                break
            except (Refused, RemoteProtocolError) as error:  # without a solution no replica would take it
                self._log.debug("dht_not_announced", error=error.message)
        await self._write()
        await self._offer_all()

    def _renewed(self, one: WantedRecord, now: int) -> ProviderRecord | None:
        """A new record for something wanted; None if what is published says the same."""
        solution = self._kinds.solve(one.challenge, self._own)
        published = self._publications.get(one.challenge.key)
        if published is not None:
            fields = published.record.fields
            same = (fields.value, fields.service, fields.addresses, fields.solution)
            if same == (one.value, one.service, one.addresses, solution) and fields.expires_at_ms > now:
                return None
        return self._publications.publish(
            one.challenge, now, solution=solution, value=one.value, addresses=one.addresses, service=one.service
        )

    async def _offer_all(self) -> None:
        places = anyio.Semaphore(OFFERS_AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for key, (challenge, record) in list(self._waiting.items()):
                await places.acquire()
                tasks.start_soon(self._offer_one, key, challenge, record, places)

    async def _offer_one(self, key: Key, challenge: Challenge, record: ProviderRecord, places: anyio.Semaphore) -> None:
        try:
            ended = await self._offer(challenge, record)
        except (Refused, RemoteProtocolError) as error:  # lapsed meanwhile: the next pass makes another one
            self._log.debug("dht_not_announced", error=error.message)
            ended = None
        except FluvialError as error:
            self._log.warning("dht_not_announced", error=error.message)
            return
        finally:
            places.release()
        if (ended is None or ended.stored) and self._waiting.get(key) == (challenge, record):
            del self._waiting[key]
