"""The life of one particle on one peer as a state machine without I/O, clock or randomness.

A session holds all that a peer knows of a particle in memory: the AIR machine, what other peers have of it (the exchange), what they
have promised, and what the journal will have to say. It has one shell, which works with it one run at a time:

1. An input. ``begin``, ``merge`` and ``resolve`` run the machine and return its effects; ``note`` and ``looked`` need no run. What can
   take long is done in slices by ``beginning``, ``merging``, ``resolving`` and ``restoring``.
2. ``commit`` closes the run: it signs what leaves, and says what must be written. From the input on the session is *ahead* of the store.
3. The shell writes that in one transaction and says ``durable``. If the write fails it says ``fail`` and drops the session;
   ``restore`` makes another one from the journal.
4. Only then the shell carries the effects out: it makes the calls, and hands ``parcel`` over to the peers. *Written before it is sent.*

The phases; an input that is not in the table leaves the phase as it is::

    phase           input                                       next phase
    NEW             durable                                     LIVE, or FINISHED if nothing is left to do
    LIVE, FINISHED  durable                                     LIVE, or FINISHED if nothing is left to do
    LIVE, FINISHED  commit that has nothing to write            unchanged, and not ahead any more
    any             merge that raises RemoteProtocolError       unchanged, and as if it had not come
    any             fail                                        BROKEN
    BROKEN          every input, and parcel                     BROKEN: raises Refused, "busy"

A simulation has no store: it may answer calls before it commits, and commit several runs at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum, auto
from sys import getsizeof
from typing import Any, Final

from fluvial.air.data.batch import Known
from fluvial.air.data.content import ContentId
from fluvial.air.data.facts import Instance
from fluvial.air.data.log import Merged, Sealed, Stepped
from fluvial.air.data.wire import encode_data
from fluvial.air.machine.errors import AirError
from fluvial.air.machine.exchange import Exchange
from fluvial.air.machine.findings import Observer, Wait
from fluvial.air.machine.machine import MEMORY_UNBOUNDED, Effects, Machine
from fluvial.air.machine.outcomes import CallOutcome
from fluvial.air.syntax import Script
from fluvial.errors import Refused
from fluvial.fairness import Upstream
from fluvial.few import EMPTY, Members, added
from fluvial.identity import PeerId
from fluvial.particle import Delivery, Particle
from fluvial.particles.journal import Arrival, FlowFailed, JournalItem, Resent, reading
from fluvial.particles.notice import Notice, SignedNotice, is_news
from fluvial.particles.promises import Look, Promises
from fluvial.particles.session_outputs import Parcel, Writes
from fluvial.particles.sliced import SlicedInput
from fluvial.stored import ParticleState, StoredParticle

DESTINATIONS_MAX: Final = 512
"""Peers to which a session asks to send its particle, unless told otherwise: every one of them is tried until the particle dies."""


class ParticlePhase(Enum):
    """Where a particle is in its life on this peer; the module's docstring has the transitions."""

    NEW = auto()
    """Nothing of it is stored."""
    LIVE = auto()
    """It is stored, and something is left to do."""
    FINISHED = auto()
    """It is stored, and nothing is left to do."""
    BROKEN = auto()
    """Its state in memory cannot be trusted any more."""


class ParticleSession:
    """See the module's docstring. Made by :meth:`new` and :meth:`restore`.

    Attributes:
        particle: the particle.
        upstream: who handed it over first; this peer itself for a particle of its own.
        hops: the most hops that a copy had made when it came here.
        phase: see :class:`ParticlePhase`.
        failure: the limit of this peer to which the flow has come, if it has.
        journal_bytes: what its journal takes on the disk; counted by whoever writes it.
    """

    def __init__(
        self,
        particle: Particle,
        machine: Machine,
        me: PeerId,
        *,
        upstream: Upstream,
        hops: int,
        pruning: bool = True,
        destinations_max: int = DESTINATIONS_MAX,
    ) -> None:
        self.particle = particle
        self.upstream = upstream
        self.hops = hops
        self.phase = ParticlePhase.NEW
        self.failure: FlowFailed | None = None
        self.journal_bytes = 0
        self._particle_bytes = getsizeof(particle.script) + particle.header.listed_bytes
        self._machine = machine
        self._pruning = pruning
        self._destinations_max = destinations_max
        self._destinations: Members[str] = ()
        self._exchange = Exchange()
        self._promises = Promises(me, particle.initiator)
        self._notices: tuple[Notice, ...] = ()
        self._entries = 0
        # What a commit will ask for:
        self._ahead = False
        self._items: list[JournalItem] = []
        self._next_peers: dict[str, None] = EMPTY
        self._resend_to: Sequence[PeerId] = ()
        self._finishes = False

    @classmethod
    def new(
        cls,
        particle: Particle,
        script: Script,
        me: PeerId,
        *,
        upstream: Upstream,
        hops: int = 0,
        machine: type[Machine] = Machine,
        pruning: bool = True,
        destinations_max: int = DESTINATIONS_MAX,
        memory_bytes_max: int = MEMORY_UNBOUNDED,
    ) -> ParticleSession:
        """The session of a particle that this peer does not have yet.

        Args:
            particle: the particle.
            script: its script, parsed.
            me: this peer.
            upstream: who hands it over; ``me`` for a particle of this peer's own.
            hops: how many peers this copy has been handed to.
            machine: what runs the script.
            pruning: whether deliveries leave out what the rest of the flow cannot read; off to compare.
            destinations_max: to how many peers the particle is sent from here.
            memory_bytes_max: how much the machine may hold, see :class:`Machine`.
        """
        environment = _environment(particle)
        return cls(
            particle,
            machine(script, particle.key, me, **environment, memory_bytes_max=memory_bytes_max),
            me,
            upstream=upstream,
            hops=hops,
            pruning=pruning,
            destinations_max=destinations_max,
        )

    @classmethod
    def restore(
        cls, stored: StoredParticle, script: Script, me: PeerId, *, observer: Observer | None = None
    ) -> ParticleSession:
        """The session as it was when the last journal entry was written, without the calls that were in flight.

        What other peers have is not stored: they are sent everything once more. ``begin`` asks again for the calls in flight.

        Args:
            stored: all that is stored of the particle.
            script: its script, parsed.
            me: this peer.
            observer: is called for every call and canon that the machine reaches.

        Raises:
            RemoteProtocolError: the journal is damaged.
        """
        return cls.restoring(stored, script, me, observer=observer).finish()

    @classmethod
    def restoring(
        cls,
        stored: StoredParticle,
        script: Script,
        me: PeerId,
        *,
        observer: Observer | None = None,
        destinations_max: int = DESTINATIONS_MAX,
        memory_bytes_max: int = MEMORY_UNBOUNDED,
    ) -> SlicedInput[Machine, ParticleSession]:
        """As :meth:`restore`, in slices; limits as for :meth:`new`, not counting the peers who had the particle before."""
        particle = stored.particle
        items: list[JournalItem] = []
        environment = _environment(particle)
        machine = Machine(script, particle.key, me, **environment, observer=observer, memory_bytes_max=memory_bytes_max)
        upstream, hops = Upstream(stored.sender), stored.hops
        session = cls(particle, machine, me, upstream=upstream, hops=hops, destinations_max=destinations_max)
        session._destinations = added((), (row.peer for row in stored.outbox))
        restoring = machine.restoring(reading(stored.journal, items))
        return SlicedInput(restoring, lambda _: session._restored(stored, items), session)

    def _restored(self, stored: StoredParticle, items: Sequence[JournalItem]) -> ParticleSession:
        for entry, item in zip(stored.journal, items, strict=True):
            self._apply(item, entry.at_ms)
        self._entries = len(items)
        self.journal_bytes = sum(len(one.payload) for one in stored.journal)
        self._finishes = stored.state is ParticleState.FINISHED
        self.phase = ParticlePhase.FINISHED if self._finishes else ParticlePhase.LIVE
        return self

    # --- inputs

    def begin(self) -> Effects:
        """The first run of a particle of this peer's own; goes on with a restored one."""
        self.check()
        return self._ran(self._machine.merge(Known((), {})))

    def beginning(self) -> SlicedInput[Effects, Effects]:
        """As :meth:`begin`, in slices. Nothing else may be asked of the session until the last one is over."""
        self.check()
        return SlicedInput(self._machine.merging(Known((), {})), self._ran, self)

    def merge(self, known: Known, *, upstream: Upstream, hops: int) -> Effects:
        """Take in what came with a copy of the particle; the effects have no records if nothing of it was new.

        Args:
            known: what came.
            upstream: who handed it over, and for whom.
            hops: how many peers this copy has been handed to.

        Raises:
            MissingError: something is missing that belongs to what came; nothing was taken in.
            RemoteProtocolError: the data do not hold together; nothing was taken in.
            Refused: ``busy``, the session is broken.
        """
        self._takes(hops)
        effects = self._machine.merge(known)
        self._exchange.received(upstream.sender, known, self._machine.contents())
        return self._merged(effects, upstream, hops)

    def merging(self, known: Known, *, upstream: Upstream, hops: int) -> SlicedInput[Effects, Effects]:
        """As :meth:`merge`, in slices. Nothing else may be asked of the session until the last one is over."""
        self._takes(hops)
        merging = self._machine.merging(known)
        merging.then(lambda: self._exchange.receiving(upstream.sender, known, self._machine.contents()))
        return SlicedInput(merging, lambda effects: self._merged(effects, upstream, hops), self)

    def _takes(self, hops: int) -> None:
        self.check()
        self.hops = max(self.hops, hops)

    def _merged(self, effects: Effects, upstream: Upstream, hops: int) -> Effects:
        if upstream.sender == self.upstream.sender:
            self.upstream = upstream  # it knows best for whom; and after a restart nobody else does
        if effects.records:
            self._items.append(Arrival(upstream.sender.public_key, hops))
        return self._ran(effects)

    def resolve(self, outcomes: Mapping[Instance, CallOutcome]) -> Effects:
        """Take in how calls ended, by instance; raises Refused, ``busy``, if the session is broken."""
        self.check()
        return self._ran(self._machine.resolve(outcomes))

    def resolving(self, outcomes: Mapping[Instance, CallOutcome]) -> SlicedInput[Effects, Effects]:
        """As :meth:`resolve`, in slices. Nothing else may be asked of the session until the last one is over."""
        self.check()
        return SlicedInput(self._machine.resolving(outcomes), self._ran, self)

    def _ran(self, effects: Effects) -> Effects:
        self._ahead = True
        self._items.extend(effects.records)
        if effects.next_peers:
            self._next_peers = {**self._next_peers, **dict.fromkeys(effects.next_peers)}
        self._finishes = effects.finished or effects.failed
        if effects.failed and effects.error is not None and self.failure is None:
            self.failure = FlowFailed(effects.error.code, effects.error.message)
            self._items.append(self.failure)
        return effects

    def note(self, signed: SignedNotice) -> bool:
        """Keep a failure notice, which the machine need not know of; False if it is no news.

        Raises:
            Refused: ``busy``, enough were kept, or the session is broken.
        """
        self.check()
        if self.phase is ParticlePhase.NEW or not is_news(signed.notice, self._notices):
            return False
        self._ahead = True
        self._items.append(signed)
        return True

    def look(self, *, on_way: Callable[[PeerId], bool], now_ms: int, after_ms: int, room: int) -> Look:
        """Find out where the particle must be sent: others have promised it, nothing shows that they did. Changes nothing; a thread may do it.

        Args:
            on_way: whether a delivery to a peer is under way already.
            now_ms: milliseconds since 1970.
            after_ms: how long a promise is relied on, in milliseconds.
            room: for how many peers there is room.

        Raises:
            Refused: ``busy``, the session is broken.
        """
        self.check()
        # Who gets the particle with the last hop that is allowed cannot hand it on.
        if self.finished or self.hops >= self.particle.header.max_hops or self.particle.deadline_ms <= now_ms:
            return Look()
        return self._promises.look(
            self._machine.awaited(),
            self._machine.batches(),
            self._exchange,
            # A name that is no peer id was reported by the run that reached it first.
            on_way=lambda name: (peer := _peer_id(name)) is None or on_way(peer),
            now_ms=now_ms,
            after_ms=after_ms,
            room=room,
        )

    def looked(self, look: Look) -> None:
        """Take in what :meth:`look` has found; raises Refused, ``busy``, if the session is broken."""
        self.check()
        for peer, batches in look.shown.items():
            self._exchange.shown(peer, batches)
        if look.broken:
            self._ahead = True
            self._resend_to = [PeerId.parse(promise.peer) for promise in look.broken]
            self._items.extend(
                Resent(peer.public_key, *promise.instance)
                for peer, promise in zip(self._resend_to, look.broken, strict=True)
            )

    @property
    def leaves(self) -> bool:
        """Whether the next commit has something to sign for other peers."""
        return bool(self._next_peers)

    @property
    def held(self) -> int:
        """How many bytes of memory it holds, about."""
        return self._machine.held + self._exchange.held + self._particle_bytes

    def release(self) -> Iterator[None]:
        """Give back the memory, in slices. Nothing can be asked of the session any more: another one must be restored."""
        self.fail()
        yield from self._machine.dismantle()

    def check(self) -> None:
        """Raise Refused, ``busy``, if the session is broken: another one must be restored."""
        if self.phase is ParticlePhase.BROKEN:
            raise Refused("the particle is being read from the store again", reason="busy")

    def fail(self) -> None:
        """A write has failed, or the machine has: what is in memory cannot be trusted any more."""
        self.phase = ParticlePhase.BROKEN

    # --- what must be written

    def commit(self, now_ms: int, sign: Callable[[bytes], bytes]) -> Writes:
        """Close what has been put in since the last commit.

        Args:
            now_ms: milliseconds since 1970.
            sign: makes this peer's signature over a message. It is needed when the particle goes to other peers.

        Raises:
            Refused: ``busy``, the session is broken.
        """
        self.check()
        items, peers, lost, beyond = self._items, list(self._resend_to), [], 0
        if self.leaves and (sealed := self._machine.seal(sign, closing=self._pruning)) is not None:
            items.append(sealed)
        for name in self._next_peers:
            if name not in self._destinations and len(self._destinations) >= self._destinations_max:
                beyond += 1
                continue
            self._destinations = added(self._destinations, (name,))
            if (peer := _peer_id(name)) is None:
                lost.append(name)
            else:
                peers.append(peer)
        self._items, self._resend_to, self._next_peers = [], (), EMPTY
        needed = bool(self.phase is ParticlePhase.NEW or items or peers or self._finishes != self.finished)
        self._ahead = self._ahead and needed
        return Writes(
            needed=needed,
            items=items,
            first=self._entries,
            at_ms=now_ms,
            peers=peers,
            lost=lost,
            beyond=beyond,
            finished=self._finishes,
        )

    def durable(self, writes: Writes) -> None:
        """What a commit asked for is written."""
        for item in writes.items:
            if type(item) is not Stepped:
                self._apply(item, writes.at_ms)
        self._entries += len(writes.items)
        self._ahead = False
        if self.phase is not ParticlePhase.BROKEN:  # meanwhile
            self.phase = ParticlePhase.FINISHED if writes.finished else ParticlePhase.LIVE

    def _apply(self, item: JournalItem, at_ms: int) -> None:
        """What follows from an item that is in the journal, apart from the machine's state."""
        match item:
            case Merged() | Sealed():
                self._promises.record(item, at_ms)
            case Arrival() if item.hops > self.hops:
                self.hops = item.hops
            case Resent():
                self._promises.resent(PeerId.from_public_key(item.peer), at_ms)
            case SignedNotice():
                self._notices += (item.notice,)
            case FlowFailed():
                self.failure = item

    # --- what goes to other peers

    def parcel(self, to: PeerId, *, branch: int = 0) -> Parcel:
        """What to hand to a peer now, for this branch; raises Refused, ``busy``, if the session is broken."""
        self.check()
        assert not self._ahead, "nothing is sent that is not written"
        machine, particle = self._machine, self.particle
        needs = machine.needs(to) if self._pruning else None
        brings = self._exchange.owed(to, machine.batches(), machine.contents(), needs)
        data = encode_data(brings.batches, brings.contents)
        signed = particle.header, particle.signature, particle.script
        delivery = Delivery(to.public_key, self.hops + 1, *signed, data, branch)
        return Parcel(delivery, brings)

    def handed_over(self, to: PeerId, parcel: Parcel) -> None:
        """A peer has taken a parcel in."""
        self._exchange.given(to, parcel.brings)

    def lacks(self, peer: PeerId, contents: Sequence[ContentId]) -> None:
        """A peer asks for values that it lacks: it gets these the next time.

        Args:
            peer: who asks.
            contents: ids of the values. None at all means that it lacks something else that it was thought to have: it gets everything.
        """
        if not contents:
            self._exchange.forget(peer)
        self._exchange.asks(peer, contents, self._machine.contents())

    # --- what is known

    @property
    def finished(self) -> bool:
        """Whether nothing is left to do, as far as it is stored."""
        return self.phase is ParticlePhase.FINISHED

    @property
    def stays_here(self) -> bool:
        """Whether the particle goes to no other peer, as far as is known."""
        return not self._destinations

    @property
    def relies_since_ms(self) -> int | None:
        """When the last of what this peer has not handed on came, milliseconds since 1970; None if it relies on nobody's promise."""
        return None if self.finished else self._promises.last_came_ms

    @property
    def known(self) -> Known:
        """All batches and values that are here."""
        return Known(tuple(self._machine.batches()), self._machine.contents())

    def waits(self) -> Sequence[Wait]:
        """What waits now, in the order of the script; for people."""
        return self._machine.waits()

    def awaits(self, peer: PeerId) -> bool:
        """Whether a call or canon of this peer has no fact yet."""
        return self.phase in (ParticlePhase.NEW, ParticlePhase.LIVE) and self._machine.awaits(peer)

    @property
    def steps(self) -> int:
        """How many steps the machine has made: the time that ``parcel`` and ``commit`` take grows with them."""
        return self._machine.steps

    @property
    def error(self) -> AirError | None:
        """What ended the script, if something did that nothing caught."""
        return self._machine.error


def _environment(particle: Particle) -> dict[str, Any]:
    """What a machine must know of the particle besides its script and key."""
    return {
        "initiator": particle.initiator,
        "timestamp_ms": particle.header.timestamp_ms,
        "ttl_ms": particle.header.ttl_ms,
    }


def _peer_id(name: str) -> PeerId | None:
    try:
        return PeerId.parse(name)
    except ValueError:
        return None
