"""What other peers have promised about one particle, and whether this peer still relies on it; pure.

A fact ``sent`` is a promise: its signer hands the particle on to the peer of a call or canon, and nobody else does. If the signer lies,
or has lost what it had to send, that branch stands still, although others have all that is needed. So a peer that waits for the call
sends the particle there itself, if for a time nothing has shown that it arrived.

Deviation: the reference relies on every such fact for ever.

If all promises are kept, sending again is wasted; and a peer that has done its part and handed the particle on may never hear of it
again. So these promises are relied on for good:

- This peer's own promises: its outbox ends only with a receipt. The initiator's promises: the flow is its own.
- All promises, while this peer has handed on everything that it knows: those who have it know of the promises and look after them.
- A promise of which the promised peer has shown that it knows: in what it sent here, in anything that it signed, or by taking it from here.

Peers that were promised the particle by the same batch would all look after each other. They form a ring instead, in the order of their
ids: the next peer behind the silent one waits the usual time before it sends, the one after that twice that time, and so on. The initiator
does not wait for its turn, nor does a peer that has a call of its own to make.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Final

import msgspec

from fluvial.air.data.batch import Batch, BatchId
from fluvial.air.data.facts import Instance, Sent, Step, instances_of
from fluvial.air.data.log import Merged, Sealed
from fluvial.air.machine.exchange import Exchange
from fluvial.few import EMPTY

RESENDS_MAX: Final = 4
"""How often one particle is sent to one peer in place of others."""

DOUBLINGS_MAX: Final = 20
"""How often the time that a promise is given can double."""


class Promise(msgspec.Struct, frozen=True):
    """Somebody else has promised to hand the particle on, and nothing shows that it was done.

    Attributes:
        peer: to whom.
        instance: for which call or canon.
        signer: who promised it, as far as is known first.
        batches: those that say so.
        since_ms: when the first of them came here, milliseconds since 1970.
        turn: how many other peers look after it before this one does.
    """

    peer: str
    instance: Instance
    signer: str
    batches: tuple[BatchId, ...]
    since_ms: int
    turn: int = 0


class Look(msgspec.Struct, frozen=True):
    """What is to be done about a particle's promises.

    Attributes:
        broken: those that are not relied on any more, at most one for each peer: the particle is to be sent there.
        again_ms: when to look again, milliseconds since 1970; None if only something new can give a reason for it.
        shown: the batches that peers were found to have, by peer.
    """

    broken: tuple[Promise, ...] = ()
    again_ms: int | None = None
    shown: Mapping[str, Set[BatchId]] = {}


class _Said(msgspec.Struct):
    """The facts ``sent`` about one instance: the strongest form that was found, and the places of the batches that have it."""

    complete: bool = False
    places: list[int] = msgspec.field(default_factory=list)

    def add(self, place: int, *, complete: bool) -> None:
        if complete and not self.complete:
            self.complete = True
            self.places.clear()
        if complete == self.complete:
            self.places.append(place)


class Promises:
    """See the module's docstring. One object follows one particle on one peer; its owner reports everything that was stored.

    Args:
        me: this peer.
        initiator: the peer that began the particle.
    """

    __slots__ = ("_ends", "_initiator", "_me", "_resent", "_times")

    def __init__(self, me: str, initiator: str) -> None:
        self._me = me
        self._initiator = initiator
        self._ends: list[int] = []
        self._times: list[int | None] = []
        self._resent: dict[str, tuple[int, int]] = EMPTY

    # --- what happens

    def record(self, record: Merged | Sealed, at_ms: int) -> None:
        """A record of the machine was stored at this time; those of its own steps make no difference."""
        if isinstance(record, Sealed):
            self._add(1, None)
        elif record.batches:
            self._add(len(record.batches), at_ms)

    def _add(self, batches: int, at_ms: int | None) -> None:
        self._ends.append((self._ends[-1] if self._ends else 0) + batches)
        self._times.append(at_ms)

    def resent(self, peer: str, at_ms: int) -> None:
        """The particle was to be sent to a peer in place of others at this time."""
        times, _ = self._resent.get(peer, (0, 0))
        if self._resent is EMPTY:
            self._resent = {}
        self._resent[peer] = (times + 1, at_ms)

    @property
    def last_came_ms(self) -> int | None:
        """When the last batch came that this peer has not handed on since, milliseconds since 1970; None if it has handed on everything."""
        return self._times[-1] if self._times else None

    def _came_ms(self, place: int) -> int | None:
        """When the batch in this place came; None if this peer has sealed it here."""
        return self._times[bisect_right(self._ends, place)]

    # --- what to do

    def look(
        self,
        awaited: Mapping[Instance, str],
        batches: Sequence[Batch],
        exchange: Exchange,
        *,
        on_way: Callable[[str], bool],
        now_ms: int,
        after_ms: int,
        room: int,
    ) -> Look:
        """Which promises are not relied on any more. Changes nothing, so that a thread may do it.

        Args:
            awaited: the calls and canons that have no fact yet, with the peers that must make them.
            batches: all that are known, as the machine has them.
            exchange: what other peers have. It may learn more meanwhile.
            on_way: whether the particle need not be sent to a peer: it is on its way already, or there is no such peer.
            now_ms: milliseconds since 1970.
            after_ms: how long a promise is given, in milliseconds.
            room: how many promises may be examined now. If there are more, ``again_ms`` is now.
        """
        if self.last_came_ms is None:
            return Look()
        chosen: dict[str, Promise] = {}
        times: list[int] = []
        shown: dict[str, Set[BatchId]] = {}
        left = room
        for promise in self._open(awaited, batches):
            if promise.peer in chosen or on_way(promise.peer) or _kept(promise, exchange, shown):
                continue
            if (due_ms := self._due_ms(promise, after_ms)) is None:
                continue
            if due_ms > now_ms:
                times.append(due_ms)
                continue
            if not left:
                times.append(now_ms)
                break
            left -= 1
            if promise.peer not in shown:
                shown[promise.peer] = shown_to(promise.peer, batches)
            if shown[promise.peer].isdisjoint(promise.batches):
                chosen[promise.peer] = promise
        return Look(tuple(chosen.values()), min(times, default=None), shown)

    def _due_ms(self, promise: Promise, after_ms: int) -> int | None:
        """Until when a promise is relied on, milliseconds since 1970; None if for good."""
        times, last_ms = self._resent.get(promise.peer, (0, 0))
        if times >= RESENDS_MAX:
            return None
        return max(promise.since_ms, last_ms) + (after_ms << min(promise.turn + times, DOUBLINGS_MAX))

    def _open(self, awaited: Mapping[Instance, str], batches: Sequence[Batch]) -> Iterator[Promise]:
        """The promises that others have given, in the order in which their instances were reached."""
        wanted = {instance: peer for instance, peer in awaited.items() if peer != self._me}
        said = _said(wanted, batches)
        turns: Mapping[Instance, int] = {}
        if self._me != self._initiator and self._me not in awaited.values():
            turns = _turns({instance: (one.places[0], wanted[instance]) for instance, one in said.items()}, self._me)
        for instance, peer in wanted.items():
            if instance not in said:
                continue
            givers = [batches[place] for place in said[instance].places]
            came_ms = [self._came_ms(place) for place in said[instance].places]
            if None in came_ms or any(batch.signer == self._initiator for batch in givers):
                continue
            yield Promise(
                peer,
                instance,
                givers[0].signer,
                tuple(batch.id for batch in givers),
                min(one for one in came_ms if one is not None),
                turns.get(instance, 0),
            )


def _kept(promise: Promise, exchange: Exchange, shown: Mapping[str, Set[BatchId]]) -> bool:
    if promise.peer in shown and not shown[promise.peer].isdisjoint(promise.batches):
        return True
    try:
        return any(exchange.has(promise.peer, batch) for batch in promise.batches)
    except KeyError:  # forgotten at this moment, for it lacks something: it gets everything
        return False


def _said(wanted: Mapping[Instance, str], batches: Sequence[Batch]) -> dict[Instance, _Said]:
    """The ``sent`` facts by awaited instance, without the instances about which their own peer has signed something."""
    said: dict[Instance, _Said] = {}
    heard: set[Instance] = set()
    for place, batch in enumerate(batches):
        for item in batch.signed.items:
            for instance in () if isinstance(item, Step) else instances_of(item):
                if instance not in wanted:
                    continue
                if isinstance(item, Sent):
                    said.setdefault(instance, _Said()).add(place, complete=item.complete)
                elif batch.signer == wanted[instance]:
                    heard.add(instance)
    return {instance: one for instance, one in said.items() if instance not in heard}


def _turns(promised: Mapping[Instance, tuple[int, str]], me: str) -> Mapping[Instance, int]:
    """How many other peers look after each instance before this one does.

    Args:
        promised: by instance the place of the batch that promises it, and the peer that it is promised to.
        me: this peer.
    """
    together: dict[int, set[str]] = {}
    for place, peer in promised.values():
        together.setdefault(place, {me}).add(peer)
    rings = {place: {peer: at for at, peer in enumerate(sorted(peers))} for place, peers in together.items()}
    return {
        instance: (rings[place][me] - rings[place][peer] - 1) % len(rings[place])
        for instance, (place, peer) in promised.items()
    }


def shown_to(peer: str, batches: Sequence[Batch]) -> Set[BatchId]:
    """The batches that a peer must have had, because something that it signed builds on them.

    Args:
        peer: which peer.
        batches: all that are known, each after those that its steps name.
    """
    shown: set[BatchId] = set()
    for batch in reversed(batches):
        if batch.signer == peer or batch.id in shown:
            shown.add(batch.id)
            for item in batch.signed.items:
                if isinstance(item, Step):
                    shown.update(map(BatchId, item.seen))
    return shown
