"""Failures that are sent to where they meet: a ``par`` with a failed and an open branch, inside an ``xor`` that would catch the error.

When such a ``par`` is reached, the particle goes to its meeting point (``meetings``), unless somebody has ``sent`` for the ``par``. So each
peer that is the first to know of a failure reports it, and at the meeting point all failures come together. Whoever knows that
somebody has sent for the ``par`` also knows what that peer knew, and so which branch had failed.

Deviation: in the reference such flows stand still, since no peer that knows of all failures is ever asked.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fluvial.air.data.facts import Sent
from fluvial.air.machine.activations import (
    FAILED,
    OPEN,
    Activation,
    FactActivation,
    NextActivation,
    ParActivation,
    StreamFoldActivation,
    XorActivation,
)
from fluvial.air.machine.errors import AirError, NameNotSet
from fluvial.air.machine.findings import Visit
from fluvial.air.machine.meetings import meetings_of
from fluvial.air.machine.positions import Key
from fluvial.air.machine.provenance import Provenance
from fluvial.air.machine.runtime import Runtime
from fluvial.air.syntax import tree


@dataclass(frozen=True, slots=True)
class _Held:
    """The ``par`` activations inside of an ``xor`` that wait until a call of this peer in there has ended."""

    call: FactActivation
    pars: list[ParActivation]


class HalfFailed:
    """The activations of ``par`` in one particle of which one branch has failed and the other one is open.

    Attributes:
        busy: whether there is something to look at when a step ends, whatever happens in it; also while that is being done.
    """

    __slots__ = ("_at_work", "_catchers", "_held", "_held_in", "_pars", "_reporting", "_runtime", "busy")

    def __init__(self, runtime: Runtime) -> None:
        self._runtime: Final = runtime
        self._pars: dict[ParActivation, None] = {}
        self._held: dict[XorActivation, _Held] = {}
        self._held_in: dict[Activation, XorActivation] = {}
        self.busy = False
        self._at_work: _CallsAtWork | None = None
        self._reporting: list[tuple[Key, ParActivation]] = []
        self._catchers: dict[Activation, XorActivation | None] = {}

    def clear(self) -> None:
        """Forget everything: it is not used any more."""
        for found in (self._pars, self._held, self._held_in, self._reporting, self._catchers):
            found.clear()
        self._at_work = None

    def report(self) -> bool:
        """At the end of a step, if it acts: send the particle to where failures meet. Whether all was looked at, or the slice is over.

        While a call inside of the ``xor`` is at work on this peer nothing is sent: its outcome may decide the ``par`` here.
        """
        runtime = self._runtime
        if not self._reporting:
            self._collect()
            self.busy = True
        while self._reporting:
            _, par = self._reporting.pop()
            if self._report(par):
                self._pars[par] = None
            if runtime.charge(1) and self._reporting:
                return False
        self._catchers.clear()
        self.busy = bool(self._pars or self._held or self._at_work is not None)
        return True

    def _collect(self) -> None:
        """Find the activations of ``par`` that are to be looked at in this step."""
        runtime = self._runtime
        if self._at_work is not None:
            self._at_work.add(runtime, (request.instance for request in runtime.findings.requests))
        self._pars.update((par, None) for par in runtime.half_failed if par not in self._held_in)
        runtime.half_failed.clear()
        if self._held:
            self._release()
        if self._pars and (runtime.acting or runtime.observer is not None):
            # The first one last: they are taken from the end.
            self._reporting = sorted(((par.key, par) for par in self._pars), key=_first, reverse=True)
            self._pars.clear()

    def _report(self, par: ParActivation) -> bool:
        """Send the particle to where the failure of a ``par`` meets others; whether to look at it again in the next step."""
        runtime = self._runtime
        meetings = meetings_of(runtime.script)
        undecided = par.status is OPEN and (_has_failed(par.left) or _has_failed(par.right))
        xor = _catcher(par, meetings.failing, self._catchers, self._held_in) if undecided else None
        operand = None if xor is None else meetings.peers.get(xor.node.number)
        if xor is None or operand is None:
            return False
        peer = _peer(runtime, operand, xor)
        if runtime.observer is not None:
            runtime.observer(par.id, Visit(par.node, Provenance(peer)))
        if not runtime.acting:
            return True
        if not self._holds(xor, par) and runtime.knowledge.about(par.id).sent is None:
            _send(runtime, par, peer)
        return False

    def _release(self) -> None:
        """Look again at those that were held back by calls which have ended."""
        for xor in [xor for xor, held in self._held.items() if held.call.status is not OPEN]:
            for par in self._held.pop(xor).pars:
                del self._held_in[par]
                self._pars[par] = None

    def _holds(self, xor: XorActivation, par: ParActivation) -> bool:
        """Keep a ``par`` back if a call of this peer in the left part of its ``xor`` is at work."""
        runtime = self._runtime
        if (held := self._held.get(xor)) is None:
            if self._at_work is None:
                self._at_work = _CallsAtWork()
                requested = (request.instance for request in runtime.findings.requests)
                self._at_work.add(runtime, (*runtime.in_flight, *requested))
            call = self._at_work.last(xor.key, xor.place.key(xor.node.right.number))
            if call is None:
                return False
            held = self._held[xor] = _Held(call, [])
        held.pars.append(par)
        self._held_in[par] = xor
        return True


class _CallsAtWork:
    """The calls that services of this peer work on, in the order of positions."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: list[tuple[Key, FactActivation]] = []

    def add(self, runtime: Runtime, instances: Iterable[tuple[bytes, int]]) -> None:
        """Services have been asked for these."""
        for instance in instances:
            if (call := runtime.waiters.facts.get(runtime.knowledge.about(instance))) is not None:
                insort(self._calls, (call.key, call), key=_first)

    def last(self, begin: Key, end: Key) -> FactActivation | None:
        """The last one between two positions."""
        index = bisect_left(self._calls, end, key=_first) - 1
        while index >= 0 and self._calls[index][0] > begin:
            call = self._calls[index][1]
            if call.status is OPEN:
                return call
            del self._calls[index]
            index -= 1
        return None


def _first(pair: tuple[Key, Activation]) -> Key:
    return pair[0]


def _send(runtime: Runtime, par: ParActivation, peer: str) -> None:
    """Write that the failure is reported; at the meeting point itself that is all."""
    fact = Sent(*par.id, True)
    runtime.knowledge.add(fact, runtime.me)
    runtime.findings.facts.append(fact)
    if peer != runtime.me:
        runtime.findings.next_peers[peer] = None


def _catcher(
    par: ParActivation,
    failing: frozenset[int],
    known: dict[Activation, XorActivation | None],
    held_in: Mapping[Activation, XorActivation],
) -> XorActivation | None:
    """The ``xor`` whose left part would fail if all open branches on the way to it failed; None if there is none.

    Args:
        par: where to begin.
        failing: numbers of the instructions that can fail.
        known: what was found in this step; grows.
        held_in: what was found before for those that are held back; it is looked at anew before anything is sent.
    """
    passed: list[Activation] = []
    found: XorActivation | None = None
    now: Activation | None = par
    while now is not None:
        if now in held_in or now in known:
            found = held_in.get(now) or known[now]
            break
        passed.append(now)
        if isinstance(now, ParActivation) and not (_can_fail(now.left, failing) and _can_fail(now.right, failing)):
            break
        if isinstance(now, StreamFoldActivation):
            break
        parent = now.parent
        if isinstance(parent, XorActivation) and parent.left is now:
            found = parent
            break
        now = parent
    known.update(dict.fromkeys(passed, found))
    return found


def _has_failed(branch: Activation | None) -> bool:
    return branch is not None and branch.status is FAILED


def _can_fail(branch: Activation | None, failing: frozenset[int]) -> bool:
    """Whether a branch has failed or may still fail."""
    assert branch is not None, "in a step that has ended both branches have begun"
    if branch.status is not OPEN:
        return branch.status is FAILED
    at_end = isinstance(branch, NextActivation) and branch.child is None
    return not at_end and branch.node.number in failing


def _peer(runtime: Runtime, operand: tree.Triplet, xor: XorActivation) -> str:
    """The meeting point; the initiator where the handler itself could not name its peer."""
    try:
        return runtime.operands.text(operand, xor)
    except (AirError, NameNotSet):
        return runtime.operands.text(tree.InitPeerId(), xor)
