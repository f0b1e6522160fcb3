"""Which activations wait, and for what: for a fact, for a value of a name, or for permission to act."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, Final

from fluvial.air.data.facts import Instance
from fluvial.air.machine.activations import Activation, CanonActivation, FactActivation
from fluvial.air.machine.findings import Wait
from fluvial.air.machine.knowledge import InstanceFacts
from fluvial.air.machine.positions import Key
from fluvial.air.machine.scopes import Scope, StreamKey
from fluvial.air.syntax import tree
from fluvial.few import EMPTY, emptying

NAME_BYTES: Final = 200
"""An activation that waits for a name in one scope."""
SCANNED_MAX: Final = 100
"""Waiting calls and canons that are gone through for each question."""


_position: Final = attrgetter("key")


class Waiters:
    """The waiting activations of one particle.

    Attributes:
        facts: the calls and canons that wait for a fact, by what is known about their instances.
        missing: the activations that wait for a name, and which name.
        cleared: the activations that have failed since a name was cleared by ``new``, and not set again.
        names: for each scope and name the activations that wait until the scope holds a value of the name, in the order of positions.
        elements: for each stream and writer the canons that name what it writes, and nothing was written.
        postponed: the calls and canons that could act, had they been allowed to.
        held: bytes of memory that were taken by waiting for names; grows.
    """

    __slots__ = ("_many", "cleared", "elements", "facts", "held", "missing", "names", "postponed")

    def __init__(self) -> None:
        self.facts: dict[InstanceFacts, FactActivation] = {}
        self.missing: dict[Activation, str] = EMPTY
        self.cleared: dict[Activation, None] = EMPTY
        self.names: dict[tuple[Scope, str], list[Activation]] = EMPTY
        self.elements: dict[tuple[StreamKey, tuple[bytes, int]], list[CanonActivation]] = EMPTY
        self.postponed: dict[FactActivation, None] = EMPTY
        self.held = 0
        self._many: Counter[str] | None = None  # of whom how much is awaited, where that is much and somebody has asked

    def clearing(self) -> Iterator[None]:
        """Nobody waits any more; in slices."""
        kinds: Sequence[dict[Any, Any]]
        kinds = self.facts, self.missing, self.cleared, self.names, self.elements, self.postponed
        for waiting in kinds:
            yield from emptying(waiting)

    # --- names

    def await_name(self, activation: Activation, name: str) -> None:
        """An activation needs a name that has no value yet: it waits for it in every scope in which the value can appear."""
        if self.missing is EMPTY:
            self.missing = {}
        self.missing[activation] = name
        self._await(activation, name)

    def await_cleared(self, activation: Activation, name: str) -> None:
        """An activation has failed since a name was cleared by ``new``: it is to be told when the name is set."""
        if self.cleared is EMPTY:
            self.cleared = {}
        self.cleared[activation] = None
        self._await(activation, name)

    def _await(self, activation: Activation, name: str) -> None:
        if self.names is EMPTY:
            self.names = {}
        for scope in activation.scope.holders(name):
            insort(self.names.setdefault((scope, name), []), activation, key=_position)
            self.held += NAME_BYTES

    def misses_nothing(self, activation: Activation) -> None:
        """An activation has all the names that it needs."""
        self.missing.pop(activation, None)

    def named(self, scope: Scope, name: str) -> Sequence[Activation]:
        """Take out the activations that wait for a name, now that the scope holds its value."""
        return self.names.pop((scope, name), ())

    def named_after(self, scope: Scope, name: str, key: Key) -> Sequence[Activation]:
        """As :meth:`named`, for a contested name that was set at a position: only those after it; the others go on waiting."""
        waiting = self.names.get((scope, name), [])
        woken = waiting[bisect_right(waiting, key, key=_position) :]
        del waiting[bisect_left(waiting, key, key=_position) :]
        if not waiting:
            self.names.pop((scope, name), None)
        return woken

    # --- facts

    def await_fact(self, activation: FactActivation) -> None:
        """A call or canon that was reached waits for its fact."""
        assert activation.known is not None, "it was reached"
        if self._many is not None and activation.known not in self.facts:
            self._many[activation.peer] += 1
        self.facts[activation.known] = activation

    def await_element(self, canon: CanonActivation, stream: StreamKey, writer: tuple[bytes, int]) -> None:
        """A canon has a fact, which names an element that is not here."""
        if self.elements is EMPTY:
            self.elements = {}
        self.elements.setdefault((stream, writer), []).append(canon)

    def written(self, stream: StreamKey, writer: tuple[bytes, int]) -> Sequence[CanonActivation]:
        """Take out the canons that wait for an element, now that it is there."""
        return self.elements.pop((stream, writer), ())

    def postpone(self, activation: FactActivation) -> None:
        """A call or canon could act now, but may not: it has a turn when the evaluator acts."""
        if self.postponed is EMPTY:
            self.postponed = {}
        self.postponed[activation] = None

    def forget(self, activation: FactActivation) -> None:
        """A call or canon has its fact, or has failed: it waits for nothing more."""
        known = activation.known
        if known is not None and self.facts.pop(known, None) is not None:
            if self._many is not None:
                self._many[activation.peer] -= 1
            if self.postponed:
                self.postponed.pop(activation, None)
        if self.missing:
            self.missing.pop(activation, None)

    def take_postponed(self) -> Sequence[FactActivation]:
        """Take out the activations that may act now."""
        postponed = tuple(self.postponed)
        self.postponed.clear()
        return postponed

    # --- all

    def waiting(self) -> Iterator[Activation]:
        """The activations that wait for a fact or a name."""
        return iter(dict.fromkeys((*self.facts.values(), *self.missing)))

    @property
    def nobody(self) -> bool:
        """Whether no call and no canon waits: then no fact can change anything any more."""
        return not self.facts

    def awaits(self, peer: str) -> bool:
        """Whether a call or canon of this peer has no fact yet; asked again and again, of hundreds of peers."""
        if self._many is None:
            if len(self.facts) <= SCANNED_MAX:
                return any(activation.peer == peer for activation in self.facts.values())
            self._many = Counter([activation.peer for activation in self.facts.values()])
        return self._many[peer] > 0

    def awaited(self) -> Mapping[Instance, str]:
        """The calls and canons that have no fact yet, whether or not their arguments are known, and the peer of each."""
        return {Instance(*activation.id): activation.peer for activation in self.facts.values()}

    def waits(self, me: str, dry: Iterable[Activation]) -> Sequence[Wait]:
        """Describe the waiting activations for people, in the order of positions.

        Args:
            me: this peer.
            dry: folds whose stream has no element yet.
        """
        found = dict.fromkeys((*self.waiting(), *dry))
        return [self._wait(activation, me) for activation in sorted(found, key=lambda one: one.key)]

    def _wait(self, activation: Activation, me: str) -> Wait:
        node: tree.Instruction = activation.node
        peer = None
        if activation in self.missing:
            reason = f"`{self.missing[activation]}` has no value yet"
        elif not isinstance(activation, FactActivation):
            reason = f"nothing was written to `{getattr(getattr(node, 'iterable', None), 'name', '')}` yet"
        elif activation.peer == me:
            reason = "the service has not answered yet"
        else:
            peer = activation.peer
            reason = _lacks(node, peer, activation.known)
        return Wait(node, Instance(*activation.id), reason, peer)


def _lacks(node: tree.Instruction, peer: str, known: InstanceFacts | None) -> str:
    """What a call or canon of another peer waits for."""
    if not isinstance(node, tree.Canon):
        return f"{peer} has not answered yet"
    if known is not None and known.canon(peer) is not None:
        return f"what {peer} has fixed of `{node.source.name}` does not follow from signed facts"
    return f"{peer} has not fixed `{node.source.name}` yet"
