"""One particle on this peer: its machine, its calls in flight, its journal. Runs of one particle are strictly one after another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass

import anyio
import msgspec
import structlog
from msgspec.structs import astuple

from fluvial.air.data.batch import Known
from fluvial.air.data.content import ContentId
from fluvial.air.data.facts import Instance
from fluvial.air.data.log import encode_record
from fluvial.air.data.wire import encode_data
from fluvial.air.machine.exchange import Exchange
from fluvial.air.machine.findings import Request, Waits
from fluvial.air.machine.machine import Answered, CallOutcome, Effects, Failed, Machine
from fluvial.clock import Clock
from fluvial.effectors import Call, Tetraplet
from fluvial.encoding import encode
from fluvial.errors import FluvialError, Refused, RemoteProtocolError, ServiceError, StorageError
from fluvial.identity import KeyPair, PeerId
from fluvial.observers import Observers
from fluvial.particle import Delivery, Particle
from fluvial.particles.containment import contained
from fluvial.particles.journal import ARRIVED, NOTICED, RESENT, Arrival, Resent, kind_of
from fluvial.particles.notice import Notice, SignedNotice, encode_notice, is_news
from fluvial.particles.outbox import Outbox
from fluvial.particles.promises import Look, Promises
from fluvial.particles.reporter import Reporter
from fluvial.particles.resender import Resender
from fluvial.seats import Decision
from fluvial.services.dispatcher import Services
from fluvial.services.status import Status
from fluvial.storage.particle_rows import JournalEntry, OutboxRow
from fluvial.storage.particles import ParticleStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What an actor works with: the same objects for all particles of a peer.

    ``permit`` decides whether a call may be made. ``on_run`` is told what each run came to, once that is durable, with a function that says what waits.
    """

    keys: KeyPair
    clock: Clock
    store: ParticleStore
    services: Services
    permit: Callable[[Call], Awaitable[Decision]]
    observers: Observers
    outbox: Outbox
    reporter: Reporter
    resender: Resender
    tasks: anyio.abc.TaskGroup
    on_run: Callable[[Particle, Effects, Waits], None]
    log: structlog.stdlib.BoundLogger


@dataclass(frozen=True, slots=True)
class Parcel:
    """A delivery, and what the receiver will have of it."""

    delivery: Delivery
    brings: Known


class Actor:
    """See the module's docstring.

    Args:
        particle: the particle.
        machine: its machine, new or restored.
        around: what it works with.
        sender: who handed it over first; this peer itself for a particle of its own.
        entries: how many journal entries are stored; None if it is not stored at all yet: its first run will do it.
        hops: the most hops that a copy had made when it came here.
        notices: the failure notices that are stored.
        promises: what other peers have promised, as far as it is stored.
        on_broken: called with the reason, once, when its state in memory can no longer be trusted; it must be dropped then.
    """

    def __init__(
        self,
        particle: Particle,
        machine: Machine,
        around: Surroundings,
        *,
        sender: PeerId,
        entries: int | None = None,
        hops: int = 0,
        notices: Iterable[Notice] = (),
        promises: Promises | None = None,
        on_broken: Callable[[Actor, BaseException], None],
    ) -> None:
        self.particle = particle
        self.finished = False
        self._machine = machine
        self._around = around
        self._sender = sender
        self._stored = entries is not None
        self._entries = entries or 0
        self._hops = hops
        self._notices = list(notices)
        self._promises = promises or Promises(around.keys.peer_id, particle.initiator)
        self._on_broken = on_broken
        self._broken = False
        self._lock = anyio.Lock(fast_acquire=True)
        self._exchange = Exchange()
        self._outcomes: dict[Instance, CallOutcome] = {}
        self._calls: set[anyio.CancelScope] = set()
        self._log = around.log.bind(particle=particle.id)

    @property
    def idle(self) -> bool:
        """Whether it can be dropped from memory now: no call in flight, nobody waiting for it."""
        return not self._calls and not self._outcomes and not self._lock.locked()

    # --- runs

    async def begin(self) -> None:
        """The first run of a particle of this peer's own; also goes on with a restored one. Raises as :meth:`merge`."""
        await self._run(lambda: self._machine.merge(Known((), {})), ())

    async def merge(self, known: Known, arrival: Arrival) -> bool:
        """Take in what came with a copy of the particle; returns when that is durable. False if nothing of it was new.

        Raises:
            RemoteProtocolError: the data do not hold together; nothing was taken in.
            StorageError: it could not be stored; the actor is broken then.
            Refused: ``busy``, the actor is broken: ask the keeper for another one; ``broken``, the machine cannot go on.
        """
        self._hops = max(self._hops, arrival.hops)
        fresh = await self._run(lambda: self._machine.merge(known), (encode(arrival),))
        self._exchange.received(PeerId.from_public_key(arrival.sender), known, self._machine.contents().keys())
        return fresh

    async def parcel(self, to: PeerId) -> Parcel:
        """What to hand to a peer now: all of it is durable. Raises Refused, ``busy``, if the actor is broken."""
        async with self._lock:
            self._check()
            machine = self._machine
            brings = self._exchange.owed(to, machine.batches(), machine.contents(), machine.needs(to))
            particle, data = self.particle, encode_data(brings.batches, brings.contents)
            delivery = Delivery(
                to.public_key, self._hops + 1, particle.header, particle.signature, particle.script, data
            )
            return Parcel(delivery, brings)

    def handed_over(self, to: PeerId, parcel: Parcel) -> None:
        """A peer has taken a parcel in."""
        self._exchange.given(to, parcel.brings)

    def lacks(self, peer: PeerId, contents: Sequence[ContentId]) -> None:
        """A peer lacks these values, which it gets the next time; or if none are named something that it was thought to have: it gets all."""
        if not contents:
            self._exchange.forget(peer)
        self._exchange.asks(peer, contents)

    async def note(self, signed: SignedNotice) -> bool:
        """Keep a failure notice, which the machine need not know of; returns when it is durable. False if it is no news.

        Raises:
            StorageError: it could not be stored; the actor is broken then.
            Refused: ``busy``, enough were kept, or the actor is broken.
        """
        async with self._lock:
            self._check()
            if not self._stored or not is_news(signed.notice, self._notices):
                return False
            now_ms = self._around.clock.now_ms()
            entry = JournalEntry(self._entries, now_ms, NOTICED, encode_notice(signed))
            await self._write([entry], (), now_ms, finished=self.finished)
            self._notices.append(signed.notice)
            return True

    async def resend(self, *, after_ms: int, room: int) -> Look:
        """Send the particle where others have promised to send it, and nothing shows that they did; what was found is durable then.

        Args:
            after_ms: how long a promise is relied on, in milliseconds.
            room: for how many peers there is room.

        Raises:
            StorageError: it could not be stored; the actor is broken then.
            Refused: ``busy``, the actor is broken; ``broken``, the machine cannot go on.
        """
        async with self._lock:
            self._check()
            particle, now_ms = self.particle, self._around.clock.now_ms()
            # Who got it with the last hop that is allowed cannot hand it on.
            if self.finished or self._hops >= particle.header.max_hops or particle.deadline_ms <= now_ms:
                return Look()
            with contained(self._log):
                look = self._promises.look(
                    self._machine.awaited(),
                    self._machine.batches(),
                    self._exchange,
                    on_way=self._on_way,
                    now_ms=now_ms,
                    after_ms=after_ms,
                    room=room,
                )
            if look.broken:
                peers = [PeerId.parse(promise.peer) for promise in look.broken]
                notes = [
                    encode(Resent(peer.public_key, *promise.instance))
                    for peer, promise in zip(peers, look.broken, strict=True)
                ]
                entries = [JournalEntry(self._entries + i, now_ms, RESENT, note) for i, note in enumerate(notes)]
                self._deliver(peers, await self._write(entries, peers, now_ms, finished=False), now_ms)
                for peer in peers:
                    self._promises.resent(peer, now_ms)
            return look

    def _on_way(self, name: str) -> bool:
        """Whether the outbox is at it, or there is no such peer, which whoever came to it first has told."""
        peer = _peer_id(name)
        return peer is None or self._around.outbox.holds(self.particle.key, peer)

    def stop(self) -> None:
        """End the calls in flight."""
        for scope in tuple(self._calls):
            scope.cancel()

    async def _run(self, advance: Callable[[], Effects], arrivals: Sequence[bytes]) -> bool:
        async with self._lock:
            self._check()
            effects = self._advance(advance)
            await self._commit(effects, arrivals if effects.records else ())
            self._carry_out(effects)
            return bool(effects.records)

    def _advance(self, advance: Callable[[], Effects]) -> Effects:
        try:
            with contained(self._log):
                return advance()
        except RemoteProtocolError as error:
            if not self._stored:
                self._break(error)  # nothing came of it: it need not be remembered
            raise
        except Refused as error:
            self._break(error)
            raise

    def _check(self) -> None:
        """Whoever waited for the lock may find the actor broken."""
        if self._broken:
            raise Refused("the particle is being read from the store again", reason="busy")

    def _break(self, error: BaseException) -> None:
        if not self._broken:
            self._broken = True
            self._on_broken(self, error)

    async def _commit(self, effects: Effects, arrivals: Sequence[bytes]) -> None:
        records = list(effects.records)
        if effects.next_peers and (sealed := self._machine.seal(self._around.keys.sign)) is not None:
            records.append(sealed)
        peers = tuple(peer for peer in map(_peer_id, effects.next_peers) if peer is not None)
        for lost in set(effects.next_peers) - set(peers):
            self._log.warning("delivery_impossible", to=lost, error="this is no peer id")
            self._around.reporter.impossible(self.particle, lost)
        if self._stored and not records and not peers and effects.finished == self.finished:
            return
        now_ms = self._around.clock.now_ms()
        kinds = [
            *((ARRIVED, data) for data in arrivals),
            *((kind_of(record), encode_record(record)) for record in records),
        ]
        entries = [JournalEntry(self._entries + i, now_ms, kind, data) for i, (kind, data) in enumerate(kinds)]
        version = await self._write(entries, peers, now_ms, finished=effects.finished)
        self._promises.record(records, now_ms)
        self._deliver(peers, version, now_ms)

    def _deliver(self, peers: Iterable[PeerId], version: int, now_ms: int) -> None:
        """Let the outbox deliver what it has in the store."""
        self._around.outbox.put(
            OutboxRow(
                key=self.particle.key,
                peer=peer,
                version=version,
                since_ms=now_ms,
                attempts=0,
                last_error="",
                deadline_ms=self.particle.deadline_ms,
            )
            for peer in peers
        )

    async def _write(
        self, entries: Sequence[JournalEntry], peers: Sequence[PeerId], now_ms: int, *, finished: bool
    ) -> int:
        """Make it durable; the version of what is in the outbox then."""
        try:
            # Who handed the particle over may give up meanwhile, but what has begun to be written will be there.
            with anyio.CancelScope(shield=True):
                version = await self._store(entries, peers, now_ms, finished=finished)
        except BaseException as error:
            # The machine is ahead of the store: it must be rebuilt from there.
            self._break(error)
            raise
        self._entries += len(entries)
        return version

    async def _store(
        self, entries: Sequence[JournalEntry], peers: Sequence[PeerId], now_ms: int, *, finished: bool
    ) -> int:
        """One or two transactions; the version of what is in the outbox then."""
        store, particle = self._around.store, self.particle
        if self._stored:
            return await store.record(particle.key, now_ms=now_ms, entries=entries, peers=peers, finished=finished)
        admission = await store.admit(
            particle, sender=self._sender, hops=self._hops, now_ms=now_ms, entries=entries, peers=peers
        )
        self._stored = True
        if finished:
            await store.record(particle.key, now_ms=now_ms, finished=True)
        return admission.version

    def _carry_out(self, effects: Effects) -> None:
        for request in effects.requests:
            self._around.tasks.start_soon(self._call, request)
        if effects.error is not None:
            error = effects.error
            at = str(error.instruction.at) if error.instruction is not None else ""
            self._log.info("flow_failed", code=error.code, error=error.message, at=at)
            self._around.reporter.failed(self.particle, error)
        if effects.finished and not self.finished:
            self._log.info("particle_finished")
        self.finished = effects.finished
        self._watch_promises(news=bool(effects.records))
        self._around.on_run(self.particle, effects, self._machine.waits)

    def _watch_promises(self, *, news: bool) -> None:
        came_ms = None if self.finished else self._promises.last_came_ms
        if came_ms is not None and news:
            came_ms = self._around.clock.now_ms()
        self._around.resender.watch(self.particle, came_ms)

    # --- calls

    async def _call(self, request: Request) -> None:
        """The root of a call's task."""
        with anyio.CancelScope() as scope:
            self._calls.add(scope)
            try:
                with contained(self._log):
                    self._outcomes[request.instance] = await self._outcome(request)
                self._calls.discard(scope)  # from here on nobody ends it
                await self._resolve()
            except FluvialError as error:
                if isinstance(error, StorageError):
                    self._log.error("storage_failed", error=error.message)
                self._break(error)
            finally:
                self._calls.discard(scope)

    async def _outcome(self, request: Request) -> CallOutcome:
        call = self._as_call(request)
        began = anyio.current_time()
        outcome: CallOutcome
        decision = await self._around.permit(call)
        try:
            if not decision.allowed:
                raise ServiceError(
                    Status.NOT_ALLOWED, f"{call.service}.{call.function} is not allowed: {decision.explanation}"
                )
            outcome = Answered(await self._around.services.call(call))
        except ServiceError as error:
            outcome = Failed(error.status, msgspec.json.encode(error.message).decode())
        status = int(outcome.status) if isinstance(outcome, Failed) else 0
        seconds = anyio.current_time() - began
        self._around.observers.call_done(call, status, seconds)
        self._log.info(
            "call_done", service=call.service, function=call.function, status=status, seconds=round(seconds, 6)
        )
        self._log.debug(
            "call_values",
            service=call.service,
            function=call.function,
            status=status,
            seconds=round(seconds, 6),
            arguments=list(call.arguments),
            outcome=outcome.value if isinstance(outcome, Answered) else outcome.message,
        )
        return outcome

    async def _resolve(self) -> None:
        """Hand in every outcome that is there; whoever comes first does it for the others."""
        async with self._lock:
            if self._broken or not self._outcomes:
                return
            outcomes, self._outcomes = self._outcomes, {}
            effects = self._advance(lambda: self._machine.resolve(outcomes))
            await self._commit(effects, ())
            self._carry_out(effects)

    def _as_call(self, request: Request) -> Call:
        return Call(
            particle_id=self.particle.id,
            initiator=self.particle.initiator,
            service=request.service,
            function=request.function,
            arguments=request.arguments,
            tetraplets=[[Tetraplet(*astuple(origin)) for origin in origins] for origins in request.tetraplets],
            timestamp_ms=self.particle.header.timestamp_ms,
            ttl_ms=self.particle.header.ttl_ms,
        )


def _peer_id(text: str) -> PeerId | None:
    try:
        return PeerId.parse(text)
    except ValueError:
        return None
