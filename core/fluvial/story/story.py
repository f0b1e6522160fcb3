"""The story of a particle: who was asked what, what came back, where the particle went, what it waits for.

Everything in it comes from the journal of one peer: facts that their peers signed, and the peer's own notes of arrivals.
"""

from __future__ import annotations

import hashlib
import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from fluvial.air.data.batch import Batch, BatchId, unroll
from fluvial.air.data.content import ContentId, Json
from fluvial.air.data.evidence import Answer, equivocations
from fluvial.air.data.facts import CallFailure, CanonFact, Closed, Fact, Instance, Result, Sent, Taken, instances_of
from fluvial.air.data.log import Merged, Record, Sealed, Stepped
from fluvial.air.data.partial import Content, Partial, outline
from fluvial.air.machine.errors import AirError
from fluvial.air.machine.findings import Observer, Visit
from fluvial.air.syntax import head, parse
from fluvial.air.syntax.tree import Instruction, walk
from fluvial.encoding import encode
from fluvial.errors import RemoteProtocolError
from fluvial.identity import PeerId
from fluvial.particles.journal import Arrival, FlowFailed, Resent, read_entry
from fluvial.particles.notice import Notice, SignedNotice
from fluvial.particles.session import ParticleSession
from fluvial.particles.sliced import at_once
from fluvial.particles.wait_times import RESTORED_MAX, name_of, since_when
from fluvial.stored import HandOver, JournalEntry, ParticleState, StoredParticle


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened.

    Attributes:
        kind: ``call`` a service answered; ``failure`` it failed; ``canon`` a stream was fixed; ``hop`` the particle was sent on;
            ``arrival`` a copy came to the peer whose journal this is; ``notice`` a peer said that it cannot go on.
        peer: who did it: the one who answered, fixed, sent or handed over.
        to: the receiver of a hop (empty while it is not known) or of an arrival.
        instruction: the instruction it is about, as text.
        at: ``line:column`` of that instruction in the script.
        instance: names the run-time instance of that instruction, the same on every peer; empty for arrivals.
        service, function: of a call, or of the call for which a particle was sent on.
        arguments: of a call; None while one of them is not known here.
        value: what came back, or the elements that were fixed.
        partial: arguments or value are not all here: nobody on the way to this peer needed them. Texts that begin with ``…`` stand for them.
        closed: its peer has disclosed only that the call is answered, not with what.
        fact: SHA-256 of the fact's bytes, hexadecimal: what was said, the same on every peer; empty for hops and arrivals.
        error: what a failed service said, or the error for which a peer cannot go on.
        hop: number of peers the arriving copy had been handed to.
        way: of a hop of the peer whose journal this is, how it found the receiver: ``connection``, ``known``, ``found`` or ``relay``; empty for other
            hops, for those that have not arrived, and when a peer got the particle many times.
        via: the addresses that it dialled, with commas between, or the relay's peer id.
        known_at_ms: when this peer learned of it, milliseconds since 1970.
        signed: ``verified``: by the signature of ``peer``; ``own``: by this peer, perhaps not given away yet; empty for arrivals, and for
            hops in place of another peer that had promised them: there is no fact of these.
    """

    kind: Literal["call", "failure", "canon", "hop", "arrival", "notice"]
    peer: str
    to: str = ""
    instruction: str = ""
    at: str = ""
    instance: str = ""
    service: str = ""
    function: str = ""
    arguments: list[Json] | None = None
    value: Json = None
    partial: bool = False
    closed: bool = False
    fact: str = ""
    error: str = ""
    hop: int = 0
    way: str = ""
    via: str = ""
    known_at_ms: int = 0
    signed: str = ""


class WaitingInstruction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An instruction that waits.

    Attributes:
        instruction, at: the instruction, and its place in the script.
        instance: names its run-time instance, as in events.
        reason: what it waits for.
        peer: the other peer that has to do something; empty for anything else.
        since_ms: since when it has waited for that on the peer whose journal this is, milliseconds since 1970; None if that is not known.
    """

    instruction: str
    at: str
    reason: str
    instance: str = ""
    peer: str = ""
    since_ms: int | None = None


class Undelivered(msgspec.Struct, frozen=True, kw_only=True):
    """A peer that this peer could not hand the particle to so far.

    Attributes:
        peer: who should get it.
        attempts: how often it was tried.
        error: why it failed last; empty before the first failure.
    """

    peer: str
    attempts: int
    error: str


class Contradiction(msgspec.Struct, frozen=True, kw_only=True):
    """Two different answers of one peer to one question, both signed: with header and script they prove that it lies.

    Attributes:
        peer: who has signed both.
        instruction, at, instance: what both are about, as in events.
        answers: the first one, and another one: a value, the elements of a canon, or the text of a failure.
        batches: ids of the batches that hold them, hexadecimal.
    """

    peer: str
    instruction: str
    at: str
    instance: str
    answers: tuple[Json, Json]
    batches: tuple[str, str]


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """All that one peer knows of a particle.

    Attributes:
        particle_id, initiator: which particle.
        told_by: the peer whose journal this is; of a merged story all of them, with blanks between.
        script: its text.
        began_ms, ttl_ms: the initiator's clock when it began, and how long it lives.
        state: ``live`` or ``finished`` on that peer, or ``expired`` (:func:`as_of`); a merged story is live while something waits.
        peers: everyone in it, in the order of appearance, the initiator first.
        events: in the order in which this peer learned of them.
        waits: what the flow waits for, as far as this peer knows.
        undelivered: whom this peer could not reach.
        error: what ended the last run, if something did.
        contradictions: against which peers there is evidence; of all that one peer has contradicted at most so many are listed.
        shortened: long texts and values are cut: the journal was thrown away because it was large, and nothing can be verified any more; or all of
            them would be too much for a text in JSON.
        left_out: how many events in the middle are not told then, or if none is told how many records there were.
    """

    particle_id: str
    initiator: str
    told_by: str
    script: str
    began_ms: int
    ttl_ms: int
    state: str
    peers: list[str]
    events: list[Event]
    waits: list[WaitingInstruction]
    undelivered: list[Undelivered]
    error: str = ""
    contradictions: list[Contradiction] = []
    shortened: bool = False
    left_out: int = 0


CONTRADICTIONS_MAX: Final = 16
"""Contradictions that a story lists; one is enough to convict a peer."""

OWN: Final = "own"
VERIFIED: Final = "verified"


class _Noted(msgspec.Struct, frozen=True):
    """A fact on its way into the story."""

    signer: str
    fact: Fact
    known_at_ms: int
    signed: str


def tell(stored: StoredParticle, me: PeerId, handed: Sequence[HandOver] = (), *, steps_max: int = sys.maxsize) -> Story:
    """The story of a stored particle.

    Args:
        stored: all that a peer's store has of it.
        me: that peer.
        handed: how that peer found those who have got it from there, in the order of the times.
        steps_max: how many steps the machine makes once more to find out since when what waits has waited, about; where more are needed, that is not told.

    Raises:
        RemoteProtocolError: the journal is damaged.
    """
    teller = _Teller(stored, me)
    story = teller.story(steps_max)
    teller.end()
    ways = _Ways(me, handed)
    return replace(story, events=list(map(ways.told, story.events)))


def as_of(story: Story, now_ms: int) -> Story:
    """The story as it is to be told now, milliseconds since 1970: what was live and is over its time has expired."""
    over = story.state == ParticleState.LIVE and story.began_ms + story.ttl_ms <= now_ms
    return replace(story, state="expired") if over else story


class _Teller:
    def __init__(self, stored: StoredParticle, me: PeerId) -> None:
        self._stored = stored
        self._me = me
        self._script = parse(stored.particle.script)
        self._met: dict[tuple[bytes, int], Visit] = {}
        self._session = self._restore(stored, self._met.__setitem__)
        self._contents = self._session.known.contents
        self._known: set[BatchId] = set()
        self._heads: dict[int, str] = {}
        self._outlines: dict[int, tuple[Partial, Json]] = {}

    def _restore(self, stored: StoredParticle, observer: Observer | None = None) -> ParticleSession:
        return ParticleSession.restore(stored, self._script, self._me, observer=observer)

    def story(self, steps_max: int) -> Story:
        stored, header = self._stored, self._stored.particle.header
        events = _each_once([event for entry in stored.journal for event in self._events(entry)])
        waits, error = self._session.waits(), self._error()
        restored_max = min(RESTORED_MAX, steps_max // (1 + self._session.steps))
        since = since_when(stored, waits, self._restore, restored_max=restored_max)
        peers = {str(stored.particle.initiator): None}
        # An arrival comes before what it brought, so that the last sender would come before those who were asked first.
        for event in sorted(events, key=lambda event: event.kind == "arrival"):
            peers.update(dict.fromkeys(peer for peer in (event.peer, event.to) if peer))
        for waiting in waits:
            peers.update({waiting.peer: None} if waiting.peer else {})
        return Story(
            particle_id=header.id,
            initiator=str(stored.particle.initiator),
            told_by=str(self._me),
            script=stored.particle.script,
            began_ms=header.timestamp_ms,
            ttl_ms=header.ttl_ms,
            state=stored.state.value,
            peers=list(peers),
            events=events,
            waits=[
                WaitingInstruction(
                    instruction=self._head(wait.instruction),
                    at=str(wait.instruction.at),
                    reason=wait.reason,
                    instance=_name(wait.instance),
                    peer=str(wait.peer or ""),
                    since_ms=since.get(name_of(wait)),
                )
                for wait in waits
            ],
            undelivered=[
                Undelivered(peer=str(row.peer), attempts=row.attempts, error=row.last_error) for row in stored.outbox
            ],
            error="" if error is None else f"{error.code}: {error.message}",
            contradictions=self._contradictions(),
        )

    def end(self) -> None:
        """Give back the memory of the session, whose objects refer to each other."""
        at_once(self._session.release())

    def _contradictions(self) -> list[Contradiction]:
        """What the batches of the journal prove."""
        nodes = list(walk(self._script.root))
        return [
            Contradiction(
                peer=str(one.signer),
                instruction=head(nodes[one.instance.node]) if one.instance.node < len(nodes) else "",
                at=str(nodes[one.instance.node].at) if one.instance.node < len(nodes) else "",
                instance=_name(one.instance),
                answers=(self._answer(one.answers[0]), self._answer(one.answers[1])),
                batches=(one.batches[0].hex(), one.batches[1].hex()),
            )
            for one in equivocations(self._session.known.batches)[:CONTRADICTIONS_MAX]
        ]

    def _answer(self, answer: Answer) -> Json:
        if isinstance(answer, CanonFact):
            return [outline(self._content(element.value)) for element in answer.elements]
        if isinstance(answer, CallFailure):
            return f"failed with {answer.status}: {answer.message}"
        return outline(self._content(answer.value))

    def _error(self) -> AirError | FlowFailed | None:
        """What ended the last run. A run that was undone has left nothing behind but what it began with: it is made again."""
        if self._session.failure is not None:
            return self._session.failure
        if self._session.error is not None or self._stored.state is not ParticleState.LIVE:
            return self._session.error
        session = self._restore(self._stored)
        try:
            return session.begin().error
        except RemoteProtocolError:  # values are missing that another peer has
            return None
        finally:
            at_once(session.release())

    def _events(self, entry: JournalEntry) -> Iterator[Event]:
        match read_entry(entry):
            case Arrival() as arrival:
                yield self._arrival(arrival, entry.at_ms)
            case SignedNotice() as signed:
                yield self._notice(signed.notice, entry.at_ms)
            case Resent() as resent:
                hop = self._hop(str(self._me), Instance(resent.frame, resent.node), entry.at_ms)
                yield replace(hop, to=str(PeerId.from_public_key(resent.peer)))
            case FlowFailed() as failed:
                error = f"{failed.code}: {failed.message}"
                yield Event(kind="notice", peer=str(self._me), error=error, known_at_ms=entry.at_ms, signed=OWN)
            case record:
                for noted in self._noted(record, entry.at_ms):
                    yield from self._events_of_fact(noted)

    def _arrival(self, arrival: Arrival, at_ms: int) -> Event:
        sender = PeerId.from_public_key(arrival.sender)
        return Event(kind="arrival", peer=str(sender), to=str(self._me), hop=arrival.hops, known_at_ms=at_ms)

    def _notice(self, notice: Notice, at_ms: int) -> Event:
        return Event(
            kind="notice",
            peer=str(notice.peer_id),
            instruction=notice.instruction,
            at=notice.position,
            error=notice.error,
            known_at_ms=at_ms,
            signed=VERIFIED,
        )

    def _noted(self, record: Record, at_ms: int) -> Iterator[_Noted]:
        match record:
            case Merged():
                fresh = {
                    batch.id: batch
                    for batch in (Batch.stored(self._stored.particle.key, one) for one in record.batches)
                }
                for batch, facts in unroll(fresh, self._known):
                    yield from (_Noted(str(batch.signer), fact, at_ms, VERIFIED) for fact in facts)
                self._known.update(fresh)
            case Stepped():
                yield from (_Noted(str(self._me), fact, at_ms, OWN) for fact in record.facts)
            case Sealed():
                self._known.add(Batch.stored(self._stored.particle.key, record.batch).id)

    def _events_of_fact(self, noted: _Noted) -> Iterator[Event]:
        fact = noted.fact
        if isinstance(fact, Closed):
            yield from (self._closed(noted, instance) for instance in instances_of(fact))
        elif not isinstance(fact, Taken) and (event := self._event(noted, fact)) is not None:
            yield event

    def _closed(self, noted: _Noted, instance: Instance) -> Event:
        """A call was answered; with what is not disclosed."""
        base = self._hop(noted.signer, instance, noted.known_at_ms, noted.signed)
        said, value = hashlib.sha256(encode(noted.fact)).hexdigest(), outline(Partial(None))
        return replace(base, kind="call", to="", value=value, partial=True, closed=True, fact=said)

    def _event(self, noted: _Noted, fact: Result | CallFailure | CanonFact | Sent) -> Event | None:
        instance = Instance(fact.frame, fact.node)
        met = self._met.get(instance)
        base = self._hop(noted.signer, instance, noted.known_at_ms, noted.signed)
        if isinstance(fact, Sent):
            # Where failures meet, and this one was: nothing was sent.
            return None if met is not None and str(met.call.peer) == noted.signer else base
        base = replace(base, to="", service="", function="", fact=hashlib.sha256(encode(fact)).hexdigest())
        if isinstance(fact, CanonFact):
            elements = [self._content(element.value) for element in fact.elements]
            return replace(base, kind="canon", value=list(map(self._outline, elements)), partial=_any_partial(elements))
        arguments = None if met is None else met.arguments
        call = replace(
            base,
            kind="call",
            service=fact.service,
            function=fact.function,
            arguments=None if arguments is None else list(map(self._outline, arguments)),
            partial=_any_partial(arguments or ()),
        )
        if isinstance(fact, CallFailure):
            return replace(call, kind="failure", error=f"{fact.status}: {fact.message}")
        value = self._content(fact.value)
        return replace(call, value=self._outline(value), partial=call.partial or isinstance(value, Partial))

    def _hop(self, peer: str, instance: Instance, known_at_ms: int, signed: str = "") -> Event:
        """The particle was sent on for an instance; the receiver is known if this peer has reached that instance."""
        met = self._met.get(instance)
        return Event(
            kind="hop",
            peer=peer,
            to="" if met is None else str(met.call.peer),
            instruction="" if met is None else self._head(met.instruction),
            at="" if met is None else str(met.instruction.at),
            instance=_name(instance),
            service="" if met is None else met.call.service,
            function="" if met is None else met.call.function,
            known_at_ms=known_at_ms,
            signed=signed,
        )

    def _content(self, key: ContentId) -> Content:
        return self._contents.get(key, Partial(key))

    # What a script says once may happen a thousand times; all events have one text of it, and one outline.

    def _head(self, instruction: Instruction) -> str:
        """The text of an instruction."""
        if (found := self._heads.get(instruction.number)) is None:
            found = self._heads[instruction.number] = head(instruction)
        return found

    def _outline(self, content: Content) -> Json:
        """A value for people."""
        if not isinstance(content, Partial):
            return content
        _, found = self._outlines.get(id(content)) or self._outlines.setdefault(
            id(content), (content, outline(content))
        )
        return found


def _each_once(events: Sequence[Event]) -> list[Event]:
    """The events without repetitions: a closed call is left out if it is also disclosed, or closed twice."""
    seen = {(event.peer, event.instance) for event in events if event.kind == "call" and not event.closed}
    kept = []
    for event in events:
        if event.closed:
            if (event.peer, event.instance) in seen:
                continue
            seen.add((event.peer, event.instance))
        kept.append(event)
    return kept


class _Ways:
    """How the receivers of one peer's hops were found."""

    def __init__(self, me: PeerId, handed: Sequence[HandOver]) -> None:
        self._me = me
        self._handed: dict[str, list[HandOver]] = defaultdict(list)
        for one in handed:
            self._handed[one.peer].append(one)

    def told(self, event: Event) -> Event:
        """The event; a hop with its way: the next hand-over to its receiver is the one that carried what was to be handed over."""
        if event.kind != "hop" or event.peer != self._me:
            return event
        handed = self._handed.get(event.to, [])
        at = bisect_left(handed, event.known_at_ms, key=lambda one: one.at_ms)
        return event if at == len(handed) else replace(event, way=handed[at].way, via=handed[at].via)


def _any_partial(contents: Iterable[Content]) -> bool:
    return any(isinstance(content, Partial) for content in contents)


def _name(instance: Instance) -> str:
    """``NODE`` outside of folds, ``NODE@FRAME`` (hexadecimal) in an iteration."""
    return f"{instance.node}@{instance.frame.hex()}" if instance.frame else str(instance.node)
