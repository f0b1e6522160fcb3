"""Failures that go to where they meet: a ``par`` with a failed and an open branch, inside an ``xor`` that would catch the error.

Such a ``par`` is like a call of the meeting point (``meetings``) that is reached: unless somebody has ``sent`` for it, the particle goes there.
So each peer that is the first to know of a failure tells it, and at the meeting point all of them come together. Whoever knows that
somebody has sent for the ``par`` also knows what that peer knew, and so which branch it was.

Deviation: in the reference such flows stand still, since nobody who knows of all failures is ever asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fluvial.air.data.facts import Sent, Tetraplet
from fluvial.air.machine.errors import AirError, Waiting
from fluvial.air.machine.findings import Met
from fluvial.air.machine.instances import Inst, Key, Status
from fluvial.air.machine.meetings import meetings_of
from fluvial.air.syntax import tree

if TYPE_CHECKING:
    from fluvial.air.machine.evaluator import Evaluator


class HalfFailed:
    """The instances of ``par`` in one particle of which one branch has failed and the other one is open."""

    __slots__ = ("_pars", "_script")

    def __init__(self, script: tree.Script) -> None:
        self._script: Final = script
        self._pars: dict[Inst, None] = {}

    def note(self, par: Inst) -> None:
        """A branch has failed, and the other one is open."""
        self._pars[par] = None

    def hand_on(self, machine: Evaluator) -> None:
        """At the end of a step, if it acts: send the particle to where failures meet.

        While a call inside of the ``xor`` is at work on this peer nothing is sent: its outcome may decide the ``par`` here.
        """
        if not self._pars or not (machine.acting or machine.observer is not None):
            return
        meetings = meetings_of(self._script)
        at_work = _at_work(machine)
        catchers: dict[Inst, Inst | None] = {}
        kept: dict[Inst, None] = {}
        for par in sorted(self._pars, key=lambda inst: inst.key):
            xor = _catcher(par, meetings.failing, catchers) if par.status is Status.OPEN else None
            operand = None if xor is None else meetings.peers.get(xor.node.number)
            if xor is None or operand is None:
                continue
            peer = _peer(machine, operand, xor)
            if machine.observer is not None:
                machine.observer(par.id, Met(par.node, Tetraplet(peer)))
            if not machine.acting or _any_in_left(xor, at_work):
                kept[par] = None
            elif machine.knowledge.sent(par.id) is None:
                _send(machine, par, peer)
        self._pars = kept


def _send(machine: Evaluator, par: Inst, peer: str) -> None:
    """Say that the failure was told; at the meeting point itself that is all."""
    fact = Sent(*par.id, True)
    machine.knowledge.add(fact, machine.me)
    machine.findings.facts.append(fact)
    if peer != machine.me:
        machine.findings.next_peers[peer] = None


def _catcher(par: Inst, failing: frozenset[int], known: dict[Inst, Inst | None]) -> Inst | None:
    """The ``xor`` whose left part would fail if all open branches on the way to it failed; None if there is none.

    Args:
        par: where to begin.
        failing: numbers of the instructions that can fail.
        known: what was found in this step; grows.
    """
    passed: list[Inst] = []
    found: Inst | None = None
    inst: Inst | None = par
    while inst is not None:
        if inst in known:
            found = known[inst]
            break
        passed.append(inst)
        node = inst.node
        if isinstance(node, tree.Par) and not (_can_fail(inst.child, failing) and _can_fail(inst.other, failing)):
            break
        if isinstance(node, tree.Fold) and isinstance(node.iterable, tree.Stream | tree.StreamMap):
            break
        parent = inst.parent
        if parent is not None and isinstance(parent.node, tree.Xor) and parent.child is inst:
            found = parent
            break
        inst = parent
    known.update(dict.fromkeys(passed, found))
    return found


def _can_fail(branch: Inst, failing: frozenset[int]) -> bool:
    """Whether a branch has failed or may still do so."""
    if branch.status is not Status.OPEN:
        return branch.status is Status.FAILED
    at_end = isinstance(branch.node, tree.Next) and branch.child is None
    return not at_end and branch.node.number in failing


def _at_work(machine: Evaluator) -> list[Key]:
    """Where the calls stand whose outcomes will come from services of this peer."""
    requested = (request.instance for request in machine.findings.requests)
    calls = (machine.waiters.awaiting(instance) for instance in (*machine.in_flight, *requested))
    return [call.key for call in calls if call is not None]


def _any_in_left(xor: Inst, keys: list[Key]) -> bool:
    """Whether one of these positions is in the left part of an ``xor``."""
    begin, end = xor.key, xor.place.key(xor.node.right.number)
    return any(begin < key < end for key in keys)


def _peer(machine: Evaluator, operand: tree.Triplet, xor: Inst) -> str:
    """The meeting point; the initiator where the handler itself could not name its peer."""
    try:
        return machine.operands.text(operand, xor)
    except (AirError, Waiting):
        return machine.operands.text(tree.InitPeerId(), xor)
