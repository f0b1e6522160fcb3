"""The shell around a particle's session: it writes, delivers and calls what the session asks for, one run strictly after another.

The session (``session.py``) decides; it has the particle's states and their transitions. An actor adds what needs the world: the lock
that puts runs in order, the transaction, the tasks of the calls. An actor whose session is broken is dropped by its keeper, which makes
another one from the store when the particle is needed again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from logging import WARNING
from typing import Final, Protocol

import anyio
import structlog

from fluvial.air.data.batch import Known
from fluvial.air.data.content import ContentId
from fluvial.air.data.weight import is_light, is_short
from fluvial.air.machine.findings import Request
from fluvial.air.machine.machine import Effects
from fluvial.begun import shielded
from fluvial.errors import FluvialError, Refused, RemoteProtocolError, StorageError
from fluvial.fairness import Payer, Upstream
from fluvial.identity import PeerId
from fluvial.particles.advance import AT_ONCE_BYTES, AT_ONCE_MAX, Advance, Begin
from fluvial.particles.answers import Answers
from fluvial.particles.calling import make_call
from fluvial.particles.containment import Contained
from fluvial.particles.context import ActorContext
from fluvial.particles.exclusive import ExclusiveTurn, ExclusiveTurns
from fluvial.particles.journal import FlowFailed
from fluvial.particles.notice import SignedNotice
from fluvial.particles.promises import Look
from fluvial.particles.recording import outbox_rows, report_undeliverable, store_writes
from fluvial.particles.session import ParticlePhase, ParticleSession
from fluvial.particles.session_outputs import Parcel
from fluvial.particles.workplace import Workplace
from fluvial.storage.entries import ParticleGone
from fluvial.waiting import Lock, others_have_a_turn

BEGUN_AT_ONCE: Final = 64
"""Calls of a particle that are begun in one turn of the loop: some milliseconds."""
CALL_BYTES: Final = 10_000
"""What a call that is under way takes, about: its task, and what that waits for."""
ANSWERS_BYTES: Final = 65_536
"""If how calls ended takes more than that, the budget is asked before they wait for the machine."""


class ActorOwner(Protocol):
    """Who keeps actors; the keeper."""

    def broken(self, actor: Actor, error: BaseException) -> None:
        """The actor's session is broken, once: it must be dropped."""
        ...

    def grown(self, session: ParticleSession, held: int) -> None:
        """A long run of a particle's machine is under way, and so many bytes are held by now.

        Raises:
            Refused: it must not go on: ``memory``; ``busy``, the session is broken.
        """
        ...

    def rested(self, actor: Actor) -> None:
        """A turn is over, or a call, perhaps of an actor that was dropped meanwhile."""
        ...


class Actor:
    """See the module's docstring.

    Args:
        session: the particle's session, new or restored. The first run of a new one stores the particle.
        context: what actors work with.
        owner: who keeps it.
        payer: see the attribute.

    Attributes:
        particle: the particle.
        upstream: who brought it first, and for whom.
        payer: who pays for the memory that it takes.
        stored: whether it is in the store.
        was_new: whether nothing of it was stored when the session was broken.
    """

    def __init__(self, session: ParticleSession, context: ActorContext, *, owner: ActorOwner, payer: Payer) -> None:
        self.particle = session.particle
        self.upstream = session.upstream
        self.payer = payer
        self.stored = session.phase is not ParticlePhase.NEW
        self._session = session
        self._context = context
        self._owner = owner
        self.was_new = False
        self._turns = ExclusiveTurns()
        self._heavy: Lock | None = None
        self._quick: list[Request] = []
        self._is_answering = False
        self._to_begin: deque[Request] | None = None
        self._under_way = 0  # calls that are to be begun are among them
        self._stopped = self._stays = False
        self._answers = Answers()
        self._calls: dict[anyio.CancelScope, None] = {}
        self._bound_log: structlog.stdlib.BoundLogger | None = None
        self._place = Workplace(session, context.processor)
        self._advance = Advance(session, context, grown=owner.grown, payer=payer)

    @property
    def _log(self) -> structlog.stdlib.BoundLogger:
        """Made for each stretch of work: who waits has none."""
        if self._bound_log is None:
            self._bound_log = self._context.log.bind(particle=self.particle.id)
        return self._bound_log

    def _turn(self) -> ExclusiveTurn:
        return self._turns.turn(partial(self._owner.rested, self))

    def rest(self) -> None:
        """Give up what is only needed while something is done; called when it is idle."""
        self._bound_log = self._heavy = None

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do for the particle on this peer."""
        return self._session.finished

    @property
    def stays_here(self) -> bool:
        """Whether the particle goes to no other peer, as far as is known."""
        return self._session.stays_here

    def awaits(self, peer: PeerId) -> bool:
        """Whether something waits for a call or canon of this peer."""
        return self._session.awaits(peer)

    def begun_by(self, sender: PeerId) -> PeerId | None:
        """Who has brought the particle, or this peer, if something in it waits for another one, which now hands it over; None if nothing does."""
        brought_by = self.upstream.sender
        if brought_by == sender or (self._place.machine_is_small and not self._session.awaits(sender)):
            return None  # of a large machine that would take long to find out
        return brought_by

    @property
    def steps(self) -> int:
        """How many steps its machine has made."""
        return self._session.steps

    @property
    def failure(self) -> FlowFailed | None:
        """The limit of this peer to which the flow has come, if it has."""
        return self._session.failure

    @property
    def idle(self) -> bool:
        """Whether it can be dropped from memory without a loss: no call is in flight, and nobody waits for it."""
        return not self._under_way and not self._calls and not self._quick and self.waiting

    @property
    def waiting(self) -> bool:
        """Whether nothing is done with it: at most calls are in flight, which would have to be made again if it were dropped."""
        return not self._answers and not self._turns.wanted

    @property
    def held(self) -> int:
        """How many bytes of memory it holds, about."""
        return self._session.held + self._answers.held + CALL_BYTES * self._under_way

    # --- runs

    async def begin(self) -> None:
        """The first run of a particle of this peer's own; also goes on with a restored one. Raises as :meth:`merge`."""
        await self._run(self._session.beginning)

    async def merge(self, known: Known, *, upstream: Upstream, hops: int) -> bool:
        """Take in what came with a copy of the particle; returns when that is durable. False if nothing of it was new.

        Args:
            known: what came.
            upstream: who handed it over, and for whom.
            hops: how many peers this copy has been handed to.

        Raises:
            RemoteProtocolError: the data do not hold together; nothing was taken in.
            StorageError: it could not be stored; the actor is broken then.
            Refused: ``busy``, the actor is broken: ask the keeper for another one; ``broken``, the machine cannot go on.
        """
        effects = await self._run(lambda: self._session.merging(known, upstream=upstream, hops=hops))
        return bool(effects.records)

    async def _run(self, begin: Begin) -> Effects:
        async with self._turn():
            # Who handed the particle over may give up meanwhile, but a machine whose run is given up is lost, and its work with it.
            effects, calls = await shielded(self._run_locked(begin))
            self._begin_calls(calls)
            return effects

    async def _run_locked(self, begin: Begin, *, coming: int = 0) -> tuple[Effects, Sequence[Request]]:
        """What a run came to, and the calls that its caller must begin."""
        was_finished = self.finished
        effects = await self._advanced(begin, coming)
        await self._commit()
        calls = self._carry_out(effects)
        if effects.finished and not was_finished:
            self._log.info("particle_finished")
        self._watch_promises(news=bool(effects.records))
        self._context.on_run(self.particle, effects, self._session.waits)
        return effects, calls

    async def _advanced(self, begin: Begin, coming: int) -> Effects:
        try:
            effects = await self._advance.run(begin, coming=coming, log=self._log)
        except RemoteProtocolError as error:
            if self._session.phase is ParticlePhase.NEW:
                self._break(error)  # nothing came of it: it need not be remembered
            raise
        except FluvialError as error:
            if isinstance(error, Refused):
                self._break(error)
            raise
        except BaseException as error:  # the peer stops: nobody knows how far the machine has come
            self._break(error)
            raise
        try:
            return await self._advance.answer_at_once(effects, log=self._log)
        except BaseException as error:
            self._break(error)  # what these calls came to is lost
            raise

    def _break(self, error: BaseException) -> None:
        if self._session.phase is not ParticlePhase.BROKEN:
            self.was_new = self._session.phase is ParticlePhase.NEW
            self._session.fail()
            self._owner.broken(self, error)

    def _carry_out(self, effects: Effects) -> Sequence[Request]:
        """Do what follows from a run that is durable, but for the calls that are no inline functions', which are returned."""
        if effects.equivocations:
            self._context.evidence.found(self.particle, effects.equivocations)
        calls: list[Request] = []
        for request in effects.requests:
            (self._quick if self._is_inline(request) else calls).append(request)
        self._under_way += len(calls)  # at once: the turn ends before they begin
        if self._quick and not self._is_answering:
            self._is_answering = True
            scope = anyio.CancelScope()
            self._context.tasks.start(self._answer_quick(scope), scope)
        if effects.error is not None:
            error = effects.error
            at = str(error.instruction.at) if error.instruction is not None else ""
            self._log.info("flow_failed", code=error.code, error=error.message, at=at)
            self._context.reporter.failed(self.particle, self.payer, error)
        return calls

    def _begin_calls(self, requests: Sequence[Request]) -> None:
        """Begin calls: few at once, and of many the others in the next turns of the loop."""
        if self._to_begin:
            self._to_begin.extend(requests)
            return
        for request in requests[:BEGUN_AT_ONCE]:
            self._begin_call(request)
        if len(requests) > BEGUN_AT_ONCE:
            self._to_begin = deque(requests[BEGUN_AT_ONCE:])
            self._context.tasks.start(self._begin_others(self._to_begin))

    def _begin_call(self, request: Request) -> None:
        scope = anyio.CancelScope()
        self._context.tasks.start(self._call(request, scope), scope)

    async def _begin_others(self, requests: deque[Request]) -> None:
        """The root of the one task that begins calls, until there are no more; those that are not begun when the actor is dropped never are."""
        try:
            while requests and not self._stopped:
                await others_have_a_turn()
                for _ in range(min(BEGUN_AT_ONCE, len(requests))):
                    self._begin_call(requests.popleft())
        finally:
            self._under_way -= len(requests)
            requests.clear()
            self._to_begin = None

    def _watch_promises(self, *, news: bool) -> None:
        since_ms = self._session.relies_since_ms
        if since_ms is not None and news:
            since_ms = self._context.clock.now_ms()
        self._context.resender.watch(self.particle, since_ms)

    # --- written before it is sent

    async def _commit(self) -> None:
        """Make durable what the session asks for, then let the outbox deliver it; whoever may be cancelled shields it."""
        now_ms, small = self._context.clock.now_ms(), self._place.commit_is_small()
        commit = partial(self._session.commit, now_ms, self._context.keys.sign)
        try:
            with Contained(self._log):
                writes = commit() if small else await self._place.off_loop(commit)
        except FluvialError as error:  # the session is ahead of what will ever be written
            self._break(error)
            raise
        report_undeliverable(writes, self.particle, self._context, payer=self.payer)
        if not writes.needed:
            return
        try:
            entries = writes.entries() if small else await self._place.off_loop(writes.entries)
            version = await store_writes(writes, entries, self._session, self._context)
        except BaseException as error:
            # The session is ahead of the store: it must be rebuilt from there.
            self._break(error)
            if isinstance(error, Refused) and self.stored:
                await self._end()
            raise
        self.stored = True
        self._session.durable(writes)
        self._place.committed()
        rows = outbox_rows(writes, version, self._session)
        self._context.outbox.put(rows, self.particle, upstream=self.upstream)

    async def _end(self) -> None:
        """There is no room for what comes next: what the store has of the particle is all that there will be."""
        with suppress(StorageError):  # then it goes on when the store is back, perhaps with less to write
            await self._context.store.record(self.particle.key, now_ms=self._context.clock.now_ms(), finished=True)
        self._context.throttled.note(
            "particle_over_quota", "quota", cause=self.particle.initiator, level=WARNING, particle=self.particle.id
        )

    # --- deliveries

    async def parcel(self, to: PeerId) -> Parcel:
        """What to hand to a peer now: all of it is durable. Raises Refused, ``busy``, if the actor is broken."""
        parcel = partial(self._session.parcel, to, branch=self._context.branches.of(self.upstream.sender))
        with Contained(self._log):
            if self._place.machine_is_small and not self._turns.wanted:
                return parcel()  # at once: nothing else is done with it meanwhile
            async with self._turn():
                self._session.check()
                if self._place.machine_is_small:
                    return parcel()
                # Who waits may give up meanwhile, but nobody else may use the session before the thread has left it.
                return await shielded(self._place.off_loop(parcel))

    def handed_over(self, to: PeerId, parcel: Parcel) -> None:
        """A peer has taken a parcel in."""
        self._session.handed_over(to, parcel)

    def lacks(self, peer: PeerId, contents: Sequence[ContentId]) -> None:
        """A peer asks for values that it lacks; if none are named, it gets everything the next time."""
        self._session.lacks(peer, contents)

    # --- notices and promises

    async def note(self, signed: SignedNotice) -> bool:
        """Keep a failure notice, which the machine need not know of; returns when it is durable. False if it is no news.

        Raises:
            StorageError: it could not be stored; the actor is broken then.
            Refused: ``busy``, enough were kept, or the actor is broken.
        """
        async with self._turn():
            if not self._session.note(signed):
                return False
            await shielded(self._commit())
            return True

    async def resend(self, *, after_ms: int, room: int) -> Look:
        """Send the particle where others have promised to send it, and nothing shows that they did; what was found is durable then.

        Args:
            after_ms: how long a promise is relied on, in milliseconds.
            room: for how many peers there is room.

        Raises:
            StorageError: it could not be stored; the actor is broken then.
            Refused: ``busy``, something is being done with it, which may take long, or the actor is broken; ``broken``, the machine cannot go on.
        """
        if self._turns.wanted:
            raise Refused("something is being done with the particle", reason="busy")
        find = partial(
            self._session.look,
            on_way=partial(self._context.outbox.holds, self.particle.key),
            now_ms=self._context.clock.now_ms(),
            after_ms=after_ms,
            room=room,
        )
        async with self._turn():
            with Contained(self._log):
                small = self._place.machine_is_small
                # As in ``parcel``; nothing of this particle is put into the outbox meanwhile.
                look = find() if small else await shielded(self._place.off_loop(find))
                self._session.looked(look)
            if look.broken:
                await shielded(self._commit())
            return look

    # --- calls

    def leave(self, *, stays: bool) -> None:
        """The owner has dropped it: end the calls in flight, and begin none; nothing can be asked of it any more.

        Args:
            stays: whether what it waits for may still be looked at: :meth:`release` gives nothing back.
        """
        self._stopped, self._stays = True, stays
        self._session.fail()  # a run that is under way ends with its slice
        for scope in tuple(self._calls):
            scope.cancel()

    def release(self) -> Iterator[None]:
        """Give back the memory of an actor that has left, in slices; nothing as long as a turn is under way, or again."""
        if self._stays or self._turns.wanted:
            return iter(())
        self._stays = True
        return self._session.release()

    async def _call(self, request: Request, scope: anyio.CancelScope) -> None:
        """The root of a task. It makes a call, then the first of those that follow from it: a task for each costs more than a step of a flow."""
        following: Sequence[Request] = (request,)
        while following and not self._stopped:
            self._begin_calls(following[1:])
            following = await self._answered(following[0], scope)
            if following:  # perhaps neither a service nor the disk had to be waited for: everybody else has a turn
                await others_have_a_turn()
        self._under_way -= len(following)

    async def _answered(self, request: Request, scope: anyio.CancelScope) -> Sequence[Request]:
        """Make a call and hand in how it ended; the calls that follow from that."""
        try:
            self._calls[scope] = None
            try:
                await self._make(request)
            finally:
                self._under_way -= 1
                self._calls.pop(scope, None)  # from here on nobody ends it
            return await self._resolve()
        except FluvialError as error:
            self._failed(error)
            return ()

    async def _answer_quick(self, scope: anyio.CancelScope) -> None:
        """The root of the one task for calls of inline functions: nothing is won by making hundreds of them side by side."""
        try:
            while self._quick and not self._stopped:
                self._calls[scope] = None
                made = 0
                while self._quick and made < AT_ONCE_MAX and self._answers.held <= AT_ONCE_BYTES:
                    await self._make(self._quick.pop(0))
                    made += 1
                self._calls.pop(scope, None)
                while self._answers and not self._stopped:
                    self._begin_calls(await self._resolve())
        except FluvialError as error:
            self._failed(error)
        finally:
            self._is_answering = False
            self._calls.pop(scope, None)
            self._owner.rested(self)

    def _failed(self, error: FluvialError) -> None:
        """Something went wrong at the root of a task, and the session is broken by it."""
        if isinstance(error, StorageError) and not isinstance(error, ParticleGone):
            self._log.error("storage_failed", error=error.message)
        self._break(error)

    def _is_inline(self, request: Request) -> bool:
        particle = self.particle
        return self._context.services.is_inline(particle.id, particle.initiator, request.service, request.function)

    async def _make(self, request: Request) -> None:
        """Make a call, those with heavy arguments one after another; how it ended is there for the machine then."""
        light = partial(is_light, request.arguments)
        if is_short(request.arguments) or await self._context.processor.in_turn(
            self.particle.initiator, light, upstream=self.upstream, light=True
        ):
            await self._end_of(request)
        else:
            self._heavy = self._heavy or Lock()
            async with self._heavy:
                await self._end_of(request)

    async def _end_of(self, request: Request) -> None:
        with Contained(self._log):
            outcome = await make_call(self.particle, request, self._context, self._log, payer=self.payer)
        self._answers.put(request.instance, outcome)
        if self._answers.held > ANSWERS_BYTES:
            self._owner.grown(self._session, self.held)

    async def _resolve(self) -> Sequence[Request]:
        """Hand in outcomes that are there: all light ones, and one heavy one. Each call does this once, so none is left over.

        Returns:
            The calls that the caller must begin.
        """
        async with self._turn():
            if self._session.phase is ParticlePhase.BROKEN or not self._answers:
                return ()
            outcomes, coming = self._answers.take()
            return (await self._run_locked(partial(self._session.resolving, outcomes), coming=coming))[1]
