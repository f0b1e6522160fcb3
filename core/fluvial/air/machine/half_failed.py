"""Failures that go to where they meet: a ``par`` with a failed and an open branch, inside an ``xor`` that would catch the error.

Such a ``par`` is like a call of the meeting point (``meetings``) that is reached: unless somebody has ``sent`` for it, the particle goes there.
So each peer that is the first to know of a failure tells it, and at the meeting point all of them come together. Whoever knows that
somebody has sent for the ``par`` also knows what that peer knew, and so which branch it was.

Deviation: in the reference such flows stand still, since nobody who knows of all failures is ever asked.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fluvial.air.data.facts import Provenance, Sent
from fluvial.air.machine.errors import AirError, NameNotSet
from fluvial.air.machine.findings import Visit
from fluvial.air.machine.instances import Completeness, Inst, Key
from fluvial.air.machine.meetings import meetings_of
from fluvial.air.syntax import tree

if TYPE_CHECKING:
    from fluvial.air.machine.evaluator import Evaluator


@dataclass(frozen=True, slots=True)
class _Held:
    """What waits inside of an ``xor`` because a call of this peer in there is at work."""

    call: Inst
    pars: list[Inst]


class HalfFailed:
    """The instances of ``par`` in one particle of which one branch has failed and the other one is open."""

    __slots__ = ("_at_work", "_held", "_held_in", "_pars", "_script")

    def __init__(self, script: tree.Script) -> None:
        self._script: Final = script
        self._pars: dict[Inst, None] = {}
        self._held: dict[Inst, _Held] = {}
        self._held_in: dict[Inst, Inst] = {}
        self._at_work: _AtWork | None = None

    def note(self, par: Inst) -> None:
        """A branch has failed, and the other one is open."""
        if par not in self._held_in:
            self._pars[par] = None

    def hand_on(self, machine: Evaluator) -> None:
        """At the end of a step, if it acts: send the particle to where failures meet.

        While a call inside of the ``xor`` is at work on this peer nothing is sent: its outcome may decide the ``par`` here.
        """
        if self._at_work is not None:
            self._at_work.add(machine, (request.instance for request in machine.findings.requests))
        if self._held:
            self._release()
        if not self._pars or not (machine.acting or machine.observer is not None):
            return
        meetings = meetings_of(self._script)
        catchers: dict[Inst, Inst | None] = {}
        kept: dict[Inst, None] = {}
        for par in sorted(self._pars, key=lambda inst: inst.key):
            xor = _catcher(par, meetings.failing, catchers, self._held_in) if par.status is Completeness.OPEN else None
            operand = None if xor is None else meetings.peers.get(xor.node.number)
            if xor is None or operand is None:
                continue
            peer = _peer(machine, operand, xor)
            if machine.observer is not None:
                machine.observer(par.id, Visit(par.node, Provenance(peer)))
            if not machine.acting:
                kept[par] = None
            elif not self._holds(machine, xor, par) and machine.knowledge.about(par.id).sent is None:
                _send(machine, par, peer)
        self._pars = kept

    def _release(self) -> None:
        """Look again at those that were held back by calls which have ended."""
        for xor in [xor for xor, held in self._held.items() if held.call.status is not Completeness.OPEN]:
            for par in self._held.pop(xor).pars:
                del self._held_in[par]
                self._pars[par] = None

    def _holds(self, machine: Evaluator, xor: Inst, par: Inst) -> bool:
        """Keep a ``par`` back if a call of this peer in the left part of its ``xor`` is at work."""
        if (held := self._held.get(xor)) is None:
            if self._at_work is None:
                self._at_work = _AtWork()
                requested = (request.instance for request in machine.findings.requests)
                self._at_work.add(machine, (*machine.in_flight, *requested))
            call = self._at_work.last(xor.key, xor.place.key(xor.node.right.number))
            if call is None:
                return False
            held = self._held[xor] = _Held(call, [])
        held.pars.append(par)
        self._held_in[par] = xor
        return True


class _AtWork:
    """The calls whose outcomes will come from services of this peer, in the order of positions."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: list[tuple[Key, Inst]] = []

    def add(self, machine: Evaluator, instances: Iterable[tuple[bytes, int]]) -> None:
        """Services have been asked for these."""
        for instance in instances:
            if (call := machine.knowledge.about(instance).waiting) is not None:
                insort(self._calls, (call.key, call), key=_first)

    def last(self, begin: Key, end: Key) -> Inst | None:
        """The last one between two positions."""
        index = bisect_left(self._calls, end, key=_first) - 1
        while index >= 0 and self._calls[index][0] > begin:
            call = self._calls[index][1]
            if call.status is Completeness.OPEN:
                return call
            del self._calls[index]
            index -= 1
        return None


def _first(pair: tuple[Key, Inst]) -> Key:
    return pair[0]


def _send(machine: Evaluator, par: Inst, peer: str) -> None:
    """Say that the failure was told; at the meeting point itself that is all."""
    fact = Sent(*par.id, True)
    machine.knowledge.add(fact, machine.me)
    machine.findings.facts.append(fact)
    if peer != machine.me:
        machine.findings.next_peers[peer] = None


def _catcher(
    par: Inst, failing: frozenset[int], known: dict[Inst, Inst | None], held_in: Mapping[Inst, Inst]
) -> Inst | None:
    """The ``xor`` whose left part would fail if all open branches on the way to it failed; None if there is none.

    Args:
        par: where to begin.
        failing: numbers of the instructions that can fail.
        known: what was found in this step; grows.
        held_in: what was found before for those that are held back; it is looked at anew before anything is sent.
    """
    passed: list[Inst] = []
    found: Inst | None = None
    inst: Inst | None = par
    while inst is not None:
        if inst in held_in or inst in known:
            found = held_in.get(inst) or known[inst]
            break
        passed.append(inst)
        node = inst.node
        if type(node) is tree.Par and not (_can_fail(inst.child, failing) and _can_fail(inst.other, failing)):
            break
        if type(node) is tree.Fold and type(node.iterable) in tree.STREAMS:
            break
        parent = inst.parent
        if parent is not None and type(parent.node) is tree.Xor and parent.child is inst:
            found = parent
            break
        inst = parent
    known.update(dict.fromkeys(passed, found))
    return found


def _can_fail(branch: Inst, failing: frozenset[int]) -> bool:
    """Whether a branch has failed or may still do so."""
    if branch.status is not Completeness.OPEN:
        return branch.status is Completeness.FAILED
    at_end = type(branch.node) is tree.Next and branch.child is None
    return not at_end and branch.node.number in failing


def _peer(machine: Evaluator, operand: tree.Triplet, xor: Inst) -> str:
    """The meeting point; the initiator where the handler itself could not name its peer."""
    try:
        return machine.operands.text(operand, xor)
    except (AirError, NameNotSet):
        return machine.operands.text(tree.InitPeerId(), xor)
