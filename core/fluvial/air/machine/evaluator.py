"""The incremental evaluator: keeps the evaluated tree, wakes only what waited for something new, and never replays.

*Completeness* steers the flow: an instance is open while something in it is still to come; ``seq`` goes on when its part is complete, ``par``
is complete when one branch is. An instruction that needs a name without a value, or a fact that is not there, waits.
Source: AIR semantics as of AquaVM 0.62 (docs/air.md), over facts instead of a trace (docs/data.md).

*Waking*: an instance that waits is registered with what it waits for: a fact with its instance, a name with the scopes that could hold it,
an element with the stream. What comes puts it on the agenda, which is worked off in the order of positions (``instances``): so what
happens, and in which order, is what one walk through the script would do. A change of status goes up until an instance does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Final

from fluvial.air.data.facts import Closed, Fact, Instance, Provenance
from fluvial.air.machine import errors
from fluvial.air.machine.errors import Catchable, NameNotSet, Uncatchable
from fluvial.air.machine.findings import Findings, Observer, Wait
from fluvial.air.machine.half_failed import HalfFailed
from fluvial.air.machine.instances import (
    FAILED,
    KEEP,
    OPEN,
    OUTSIDE,
    TRUE,
    Completeness,
    FramePosition,
    Inst,
    Key,
)
from fluvial.air.machine.knowledge import Knowledge
from fluvial.air.machine.last_error import LastErrorRegister
from fluvial.air.machine.liveness import LivenessAnalysis
from fluvial.air.machine.operands import Environment, Operands
from fluvial.air.machine.plan import plan_of
from fluvial.air.machine.scopes import Bound, Scope, StreamKey
from fluvial.air.machine.streams import LocalStream
from fluvial.air.machine.values import Value, same_json
from fluvial.air.machine.waiters import Waiters
from fluvial.air.syntax import tree

WORK_MAX: Final = 1_000_000
"""Instances of one particle, arguments, elements of folds and calls in facts ``closed`` included: exponential scripts exist."""

DEPTH_MAX: Final = 30_000
"""Instructions nested in one another at run time: one level or more per element of a fold."""


class Evaluator:
    """The instances of one particle on one peer.

    Args:
        script: the checked script.
        environment, knowledge: what it may know.
        in_flight: the calls that this peer's services are at work on; kept by the owner.
        observer: told of every call and canon that is met, and of failures to be told.
    """

    def __init__(
        self,
        script: tree.Script,
        environment: Environment,
        knowledge: Knowledge,
        in_flight: Collection[tuple[bytes, int]],
        observer: Observer | None = None,
    ) -> None:
        self.findings = Findings()
        self.in_flight: Final = in_flight
        self.knowledge: Final = knowledge
        self.me: Final = environment.me
        self.acting = False
        self.observer: Final = observer
        self.script: Final = script
        self.plan: Final = plan_of(script)
        self.initiator: Final = environment.initiator
        self.last_error: Final = LastErrorRegister(used=self.plan.reads_last_error)
        self.operands: Final = Operands(environment, self.last_error)
        self._agenda: list[tuple[Key, int, Inst]] = []
        self._due_later: set[tuple[Key, Inst]] = set()
        self._order = count()
        self._step = 0
        self._work = 0
        self._depth = 0
        self._root: Inst | None = None
        self.streams: Final[dict[StreamKey, LocalStream]] = {}
        self.waiters: Final = Waiters()
        self._half_failed: Final = HalfFailed(script)
        self._liveness: LivenessAnalysis | None = None

    # --- steps

    def take(self, facts: Iterable[Fact], signer: str) -> None:
        """Take in facts of a signer, to be looked at in the next step; raises as :meth:`spend`."""
        self._liveness = None
        for fact in facts:
            if type(fact) is Closed:
                self.spend(len(fact.nodes))
            for about in self.knowledge.add(fact, signer):
                if about.waiting is not None:
                    self.push(about.waiting)

    def step(self, *, act: bool) -> Findings:
        """Go on with what was taken in.

        Args:
            act: whether calls may be requested, canons fixed and peers named now; what is reached without it is postponed.

        Raises:
            Uncatchable: the evaluator cannot be used any more; what came must be undone.
        """
        self._liveness = None
        self._step += 1
        self.spend(1)
        self.acting = act
        if act or self.findings.requests:
            self.findings = Findings()
        if act:
            for postponed in self.waiters.take_postponed():
                self.push(postponed)
        if self._root is None:
            self._root = Inst(self.script.root, OUTSIDE, Scope(), None)
            self.push(self._root)
        agenda = self._agenda
        while agenda:
            key, _, inst = heappop(agenda)
            if key is inst.key:
                inst.due = False
            else:
                self._due_later.discard((key, inst))
            self._settle(inst)
        self._half_failed.hand_on(self)
        return self.findings

    @property
    def error(self) -> Catchable | None:
        """What ended the script, if something did that nothing caught."""
        return None if self._root is None else self._root.error

    @property
    def finished(self) -> bool:
        """Whether no fact can change anything any more."""
        return self.waiters.nobody

    @property
    def liveness(self) -> LivenessAnalysis:
        """What the rest of the flow needs of the values that are known now."""
        if self._liveness is None:
            self._liveness = LivenessAnalysis(self)
        return self._liveness

    def waits(self) -> Sequence[Wait]:
        """What waits now, in the order of positions; for people."""
        dry = [fold for stream in self.streams.values() for fold in stream.dry()]
        return self.waiters.waits(self.me, dry)

    # --- waiting and waking

    def push(self, inst: Inst) -> None:
        """Let an instance look again when its turn comes."""
        if not inst.due:
            inst.due = True
            heappush(self._agenda, (inst.key, next(self._order), inst))

    def push_later(self, inst: Inst, key: Key) -> None:
        """Let an instance look again at a position behind its own."""
        turn = (key, inst)
        if turn not in self._due_later:
            self._due_later.add(turn)
            heappush(self._agenda, (key, next(self._order), inst))

    def claim(self, inst: Inst, name: str) -> None:
        """An instance that was come to is going to set a name; raises as :meth:`Scope.claim`."""
        if name in self.plan.contested:
            inst.scope.claim(name, inst.key)

    def set(self, inst: Inst, name: str, bound: Bound) -> None:
        """Give a name a value where an instance stands, and wake who waited for it; raises as :meth:`Scope.set_at`."""
        scope = inst.scope
        contested = name in self.plan.contested
        for waiting in scope.set_at(name, bound, inst.key) if contested else scope.set(name, bound):
            if waiting.status is OPEN:
                self.push(waiting)

    def append(self, inst: Inst, target: tree.Stream | tree.StreamMap, value: Value) -> None:
        """Append to a stream, and wake the folds that see it."""
        key = inst.key
        stream = self.stream(inst.scope.stream(target.name), target.name)
        stream.append(self._step, inst.id, key, value)
        for visit, fold in stream.watchers(key):
            self.push_later(fold, visit)

    def stream(self, key: StreamKey, name: str) -> LocalStream:
        """The stream or stream map that a key names."""
        if (found := self.streams.get(key)) is None:
            found = self.streams[key] = LocalStream(name)
        return found

    # --- advancing

    def _settle(self, inst: Inst) -> None:
        """Advance an instance, and those around it as long as one changes."""
        now: Inst | None = inst
        while now is not None:
            before = now.status
            if before is OPEN or type(now.node) is tree.Fold:
                self._advance(now)
            if now.status is before:
                return
            if now.parent is not None and isinstance(now.parent.other, LocalStream):
                now.parent.child = now  # which of its chains of iterations has changed
            now = now.parent

    def _advance(self, inst: Inst) -> None:
        try:
            _ADVANCE[type(inst.node)](self, inst)
            if self.waiters.missing:
                self.waiters.misses_nothing(inst)
        except NameNotSet as waiting:
            self.waiters.misses(inst, waiting.name)
            inst.scope.await_name(waiting.name, inst)
        except Catchable as error:
            self.fail(inst, error)
        except Uncatchable as error:
            if error.instruction is None:
                error.instruction = inst.node
            raise

    def fail(self, inst: Inst, error: Catchable, flag: Completeness = KEEP, call: Provenance | None = None) -> None:
        """An instance ends with an error; the innermost one notes on it what ``:error:`` and ``%last_error%`` show.

        Args:
            inst: which.
            error: why.
            flag: how it leaves the completeness flag.
            call: for a call whose peer, service and function were known.
        """
        if error.instruction is None:
            error.instruction = inst.node
            error.peer = self.me if call is None else call.peer
            error.origin = call
            if self.plan.reads_last_error and error.code not in (10001, 10002):
                self.last_error.set(inst.key, error.report(with_peer=True), call)
        inst.fail(error, flag)

    def start(
        self, parent: Inst, node: tree.Instruction, place: FramePosition | None = None, scope: Scope | None = None
    ) -> Inst | None:
        """Begin an instruction inside another one; None if something that stands before it must have its turn first."""
        inst = Inst(node, place or parent.place, scope or parent.scope, parent)
        if self._agenda and self._agenda[0][0] < inst.key:
            self.push_later(parent, inst.key)
            return None
        self._work += 1
        self._depth += 1
        if self._work > WORK_MAX:
            raise errors.too_much("executed instructions", WORK_MAX)
        if self._depth > DEPTH_MAX:
            raise errors.too_much("instructions nested in one another", DEPTH_MAX)
        self._advance(inst)
        self._depth -= 1
        return inst

    def arguments(self, node: tree.CallInstruction, inst: Inst) -> tuple[Value, ...]:
        """The arguments of a call; raises as :meth:`Operands.value`."""
        value = self.operands.value
        values = tuple([value(operand, inst) for operand in node.arguments])
        for one in values:
            self.spend(len(one.origins))
        return values

    def spend(self, more: int) -> None:
        """Count work; raises Uncatchable 20100 when it is too much for one particle."""
        self._work += more
        if self._work > WORK_MAX:
            raise errors.too_much("executed instructions", WORK_MAX)

    def follow(self, inst: Inst) -> None:
        """Come to what the only part came to."""
        child: Inst = inst.child
        if child.status is FAILED:
            assert child.error is not None
            inst.fail(child.error, child.flag)
        else:
            inst.status = child.status

    # --- control

    def _seq(self, inst: Inst) -> None:
        children = inst.node.children
        while inst.status is OPEN:
            if inst.child is None:
                inst.child = self.start(inst, children[inst.index])
                if inst.child is None:
                    return
            status = inst.child.status
            if status is OPEN:
                return
            if status is FAILED:
                inst.fail(inst.child.error, TRUE if inst.child.flag is KEEP else inst.child.flag)
                return
            inst.child = None
            inst.index += 1
            if inst.index == len(children):
                inst.status = TRUE

    def _par(self, inst: Inst) -> None:
        node = inst.node
        if inst.child is None:
            inst.child = self.start(inst, node.left)
            if inst.child is None:
                return
        if inst.other is None:
            inst.other = self.start(inst, node.right)
            if inst.other is None:
                return
            if self.plan.reads_last_error:
                self.last_error.unlock(self._end_of(inst))
        left, right = inst.child, inst.other
        if left.status is FAILED and right.status is FAILED:
            if self.plan.reads_last_error:
                self.last_error.keep_locked(self._end_of(inst))
            inst.fail(right.error, OPEN)
        elif _completes(left) or _completes(right):
            inst.status = TRUE
        elif left.status is FAILED or right.status is FAILED:
            self._half_failed.note(inst)

    def _end_of(self, inst: Inst) -> Key:
        return inst.place.key(self.plan.ends[inst.node.number] + 0.5)

    def _xor(self, inst: Inst) -> None:
        node = inst.node
        if inst.child is None:
            inst.child = self.start(inst, node.left)
            if inst.child is None:
                return
        left = inst.child
        if left.status is not FAILED:
            inst.status = OPEN if left.status is OPEN else TRUE
            return
        if not inst.index:
            inst.index = 1
            self.last_error.unlock(inst.place.key(node.right.number - 0.5))
        if inst.other is None:
            # Deviation: `:error:` belongs to its handler and is not lost when another xor inside it succeeds.
            inst.other = self.start(inst, node.right, scope=inst.scope.handle(left.error))
            if inst.other is None:
                return
        right = inst.other
        if right.status is FAILED:
            inst.fail(right.error, TRUE if right.flag is KEEP else right.flag)
        elif right.status is not OPEN:
            inst.status = TRUE

    def _match(self, inst: Inst) -> None:
        node = inst.node
        if inst.child is None:
            if not inst.index:
                left = self.operands.value(node.left, inst)
                equal = same_json(left.read(), self.operands.value(node.right, inst).read())
                if equal is not (type(node) is tree.Match):
                    raise errors.no_mismatch() if equal else errors.no_match()
                inst.index = 1
            inst.child = self.start(inst, node.body)
            if inst.child is None:
                return
        self.follow(inst)

    def _null(self, inst: Inst) -> None:
        inst.status = KEEP

    def _never(self, inst: Inst) -> None:
        """Open for ever."""

    def _new(self, inst: Inst) -> None:
        if inst.child is None:
            node = inst.node
            instance = Instance(*inst.id)
            if type(node.target) in tree.STREAMS:
                self.stream(instance, node.target.name)
            inst.child = self.start(inst, node.body, scope=inst.scope.renew(node.target.name, instance))
            if inst.child is None:
                return
        self.follow(inst)

    def _ap(self, inst: Inst) -> None:
        node = inst.node
        value = self.operands.to_bind(node.argument, inst)
        if type(node.target) is tree.Stream:
            self.append(inst, node.target, value)
        else:
            self.set(inst, node.target.name, value)
        inst.status = KEEP

    def _ap_map(self, inst: Inst) -> None:
        node = inst.node
        value = self.operands.to_bind(node.argument, inst)
        key = self.operands.map_key(node.key, inst, node.target.name)
        self.append(inst, node.target, value.as_pair(key))
        inst.status = KEEP


def _completes(branch: Inst) -> bool:
    """Whether a branch makes its ``par`` complete.

    One that is directly a ``next`` does not where the fold ends, else every ``fold … (par … (next x))`` would be complete at once.
    """
    return branch.status is TRUE or (branch.status is KEEP and type(branch.node) is not tree.Next)


from fluvial.air.machine.calls import advance_call, advance_canon  # noqa: E402 - they are written in terms of the evaluator
from fluvial.air.machine.folds import advance_fold, advance_next  # noqa: E402 - as are these
from fluvial.air.machine.throwing import advance_fail_literal, advance_fail_value  # noqa: E402 - as are these

_ADVANCE: Final[dict[type[tree.Instruction], Callable[[Evaluator, Inst], None]]] = {
    tree.Ap: Evaluator._ap,
    tree.ApMap: Evaluator._ap_map,
    tree.CallInstruction: advance_call,
    tree.Canon: advance_canon,
    tree.FailLiteral: advance_fail_literal,
    tree.FailValue: advance_fail_value,
    tree.Fold: advance_fold,
    tree.Match: Evaluator._match,
    tree.Mismatch: Evaluator._match,
    tree.Never: Evaluator._never,
    tree.New: Evaluator._new,
    tree.Next: advance_next,
    tree.Null: Evaluator._null,
    tree.Par: Evaluator._par,
    tree.Seq: Evaluator._seq,
    tree.Xor: Evaluator._xor,
}
