"""One evaluation of a script over what is known: the plain form, which walks the whole script from the beginning.

*Completeness* is one flag that steers the flow: true at the start, false when something before this point is still open. An instruction
that needs a name without a value does nothing and sets it to false; ``seq`` goes on only while it is true.
Source: AIR semantics as of AquaVM 0.62 (docs/air.md), over facts instead of a trace (docs/data.md).

A ``par`` with a failed and an open branch, inside an ``xor`` that would catch the error, sends the particle to where failures meet, unless
somebody has sent for it. Which instructions may fail and where failures meet the script alone says (``fluvial.air.machine.meetings``).

Deviation: in the reference nobody who knows of all failures is ever asked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final

from fluvial.air.data.content import Json
from fluvial.air.data.facts import ROOT_FRAME, Instance, Sent, index_element, iteration_frame, written_element
from fluvial.air.machine import errors
from fluvial.air.machine.equality import same_json
from fluvial.air.machine.errors import AirError, Catchable, NameNotSet, Uncatchable
from fluvial.air.machine.meetings import meetings_of
from fluvial.air.machine.provenance import Provenance
from fluvial.air.machine.scopes import Iteration, Scope, StreamKey, Traversal
from fluvial.air.machine.values import (
    Value,
)
from fluvial.air.syntax import tree
from fluvial.air.syntax.printer import head
from msgspec.structs import replace

from tests.reevaluating.performing import Performing

DEPTH_MAX: Final = 30_000
"""Instructions nested in one another at run time: one level or more per element of a fold."""


class Evaluation(Performing):
    """Walks a script once.

    Args:
        script: the script.
        known: the arguments of :class:`Performing`.
    """

    def __init__(self, script: tree.Script, *known: Any, **options: Any) -> None:
        super().__init__(*known, **options)
        self._script = script
        self._meetings = meetings_of(script)
        self._half_failed: list[tuple[int, Instance]] = []
        self._to_hand_on: list[tuple[int, Instance, str]] = []

    def run(self) -> None:
        """Evaluate from the outermost instruction.

        Raises:
            Catchable: an error that nothing in the script caught; the findings are valid.
            Uncatchable: the findings are void and what came with this run must be undone.
        """
        try:
            self._execute(self._script.root, ROOT_FRAME, Scope())
        finally:
            self._hand_on()

    # --- walking

    def _execute(self, node: tree.Instruction, frame: bytes, scope: Scope) -> None:
        self._visit(1)
        self._depth += 1
        if self._depth > DEPTH_MAX:
            raise errors.too_much("instructions nested in one another", DEPTH_MAX)
        try:
            _STEPS[type(node)](self, node, frame, scope)
        except NameNotSet as waiting:
            self._wait(node, frame, f"`{waiting.name}` has no value yet")
        except Catchable as error:
            if error.instruction is None:
                self._report(error, node, None)
            raise
        except Uncatchable as error:
            if error.instruction is None:
                error.instruction = node
            raise
        finally:
            self._depth -= 1

    def _seq(self, node: tree.Seq, frame: bytes, scope: Scope) -> None:
        for child in node.children[:-1]:
            self._complete = True
            self._execute(child, frame, scope)
            if not self._complete:
                return
        self._execute(node.children[-1], frame, scope)

    def _par(self, node: tree.Par, frame: bytes, scope: Scope) -> None:
        failures: list[Catchable] = []
        complete, can_fail = False, True
        place, before, cleared = self.findings.visits, len(self._half_failed), len(self._cleared)
        for branch in (node.left, node.right):
            # A branch that is directly a `next` counts as incomplete where the fold ends, else every
            # `fold … (par … (next x))` would be complete at once.
            self._complete = None if isinstance(branch, tree.Next) else True
            try:
                self._execute(branch, frame, scope)
            except Catchable as error:
                self._complete = False
                failures.append(error)
            else:
                at_end = isinstance(branch, tree.Next) and self._complete is None
                can_fail = can_fail and not self._complete and not at_end and branch.number in self._meetings.failing
            complete = complete or bool(self._complete)
        self._complete = complete
        if len(failures) == 2:
            raise failures[1]
        del self._cleared[cleared:]
        self._operands.unlock_last_error()
        if not can_fail:
            del self._half_failed[before:]
        elif failures:
            self._half_failed.append((place, Instance(frame, node.number)))

    def _xor(self, node: tree.Xor, frame: bytes, scope: Scope) -> None:
        # Deviation: `:error:` belongs to its handler and is not lost when another xor inside it succeeds.
        if (caught := self._left(node, frame, scope)) is not None:
            self._execute(node.right, frame, scope.handle(caught))

    def _left(self, node: tree.Xor, frame: bytes, scope: Scope) -> Catchable | None:
        """Execute the left part; what it failed with."""
        self._complete = True
        half_failed, own_calls, cleared = len(self._half_failed), self._own_calls, len(self._cleared)
        try:
            self._execute(node.left, frame, scope)
        except Catchable as error:
            self._complete = True
            self._operands.unlock_last_error()
            self._catch(self._cleared[cleared:])
            del self._cleared[cleared:]
            return error
        if self._own_calls == own_calls:
            self._meet(node, scope, self._half_failed[half_failed:])
        del self._half_failed[half_failed:]
        return None

    def _meet(self, node: tree.Xor, scope: Scope, pars: Sequence[tuple[int, Instance]]) -> None:
        """What these wait for is decided where failures inside of this ``xor`` meet."""
        operand = self._meetings.peers.get(node.number)
        if operand is None or not pars:
            return
        try:
            peer = self._operands.text(operand, scope)
        except (AirError, NameNotSet):
            peer = self._environment.initiator
        self._to_hand_on += [(place, instance, peer) for place, instance in pars]

    def _hand_on(self) -> None:
        for _, instance, peer in sorted(self._to_hand_on):
            if self._act and self._knowledge.about(instance).sent is None:
                self._add(Sent(instance.frame, instance.node, True))
                if peer != self._me:
                    self.findings.next_peers[peer] = None

    def _match(self, node: tree.Match, frame: bytes, scope: Scope) -> None:
        if not self._equal(node, frame, scope):
            raise errors.no_match()
        self._execute(node.body, frame, scope)

    def _mismatch(self, node: tree.Mismatch, frame: bytes, scope: Scope) -> None:
        if self._equal(node, frame, scope):
            raise errors.no_mismatch()
        self._execute(node.body, frame, scope)

    def _equal(self, node: tree.Match | tree.Mismatch, frame: bytes, scope: Scope) -> bool:
        left, right = self._once(
            Instance(frame, node.number),
            "sides",
            lambda: (self._value(node.left, scope), self._value(node.right, scope)),
        )
        return same_json(left.read(), right.read())

    def _null(self, node: tree.Null, frame: bytes, scope: Scope) -> None:
        pass

    def _never(self, node: tree.Never, frame: bytes, scope: Scope) -> None:
        self._complete = False

    def _fail_literal(self, node: tree.FailLiteral, frame: bytes, scope: Scope) -> None:
        initiator = self._environment.initiator
        error = {
            "error_code": node.error_code,
            "message": node.message,
            "instruction": head(node),
            "peer_id": initiator,
        }
        self._fail(error, Provenance(initiator))

    def _fail_value(self, node: tree.FailValue, frame: bytes, scope: Scope) -> None:
        try:
            value = self._once(Instance(frame, node.number), "error", lambda: self._operands.value(node.value, scope))
        except NameNotSet as waiting:
            raise errors.not_set(waiting.name) from None
        self._operands.check_error_object(value.read())
        if isinstance(node.value, tree.Error) and node.value.path is None and (caught := scope.caught) is not None:
            self._operands.set_last_error(value.json, value.origins[0], always=True)
            self._complete = False
            raise caught
        self._fail(value.json, value.origins[0])

    def _fail(self, error: Json, origin: Provenance) -> None:
        self._operands.set_last_error(error, origin, always=True)
        self._complete = False
        raise errors.failed_by_script(error)

    def _new(self, node: tree.New, frame: bytes, scope: Scope) -> None:
        instance = Instance(frame, node.number)
        if isinstance(node.target, tree.Stream | tree.StreamMap):
            self._stream(instance, node.target.name)
        self._execute(node.body, frame, scope.renew(node.target.name, instance))

    # --- values

    def _ap(self, node: tree.Ap, frame: bytes, scope: Scope) -> None:
        writer = Instance(frame, node.number)
        value = self._once(writer, "value", lambda: self._operands.to_bind(node.argument, scope))
        if isinstance(node.target, tree.Stream):
            self._append(node.target, writer, scope, value)
        else:
            self._set(scope, node.target.name, value)

    def _ap_map(self, node: tree.ApMap, frame: bytes, scope: Scope) -> None:
        writer = Instance(frame, node.number)

        def read() -> Value:
            value = self._operands.to_bind(node.argument, scope)
            return value.as_pair(self._operands.map_key(node.key, scope, node.target.name))

        self._append(node.target, writer, scope, self._once(writer, "pair", read))

    # --- folds

    def _fold(self, node: tree.Fold, frame: bytes, scope: Scope) -> None:
        if isinstance(node.iterable, tree.Stream | tree.StreamMap):
            self._fold_stream(node, frame, scope, scope.stream(node.iterable.name))
            return
        iterable = node.iterable
        values = self._once(Instance(frame, node.number), "iterable", lambda: self._operands.iterable(iterable, scope))
        self._visit(len(values))
        if values:
            self._iterate(Traversal(node, values, None, frame, (), scope), 0)

    def _fold_stream(self, node: tree.Fold, frame: bytes, scope: Scope, key: StreamKey) -> None:
        stream = self._streams.get(key)
        if stream is None:
            self._wait(node, frame, f"nothing was written to `{key}` yet")
            return
        complete = False
        for generations in stream.passes():
            for generation in generations:
                names = [written_element(entry.writer) for entry in generation]
                chain = Traversal(node, [entry.value for entry in generation], names, frame, (), scope)
                # A body's error ends the chain of its generation, not the fold: what comes after would depend on local order.
                half_failed, cleared = len(self._half_failed), len(self._cleared)
                with suppress(Catchable):
                    self._iterate(chain, 0)
                del self._half_failed[half_failed:]
                del self._cleared[cleared:]
                complete = complete or bool(self._complete)
        self._wait(node, frame, f"more elements of `{stream.name}` may come")
        self._complete = complete

    def _iterate(self, traversal: Traversal, index: int) -> None:
        node = traversal.fold
        element = index_element(index) if traversal.names is None else traversal.names[index]
        frame = iteration_frame(traversal.base, node.number, element)
        iteration = Iteration(node.iterator, traversal.elements[index], traversal, index, frame)
        self._execute(node.body, frame, traversal.scope.iterate(iteration))

    def _next(self, node: tree.Next, frame: bytes, scope: Scope) -> None:
        now = scope.iteration(node.iterator)
        way, index = now.traversal, now.index + 1
        if index < len(way.elements):
            # Inside an inner fold's iteration that iteration is the base, else one element would be visited twice under one id.
            self._iterate(way if frame == now.frame else replace(way, base=frame), index)
        elif way.fold.last is not None:
            self._complete = True
            self._execute(way.fold.last, frame, scope)
        elif way.of_stream:
            self._complete = None


_STEPS: Final[dict[type[tree.Instruction], Callable[[Evaluation, Any, bytes, Scope], None]]] = {
    tree.Ap: Evaluation._ap,
    tree.ApMap: Evaluation._ap_map,
    tree.CallInstruction: Evaluation._call,
    tree.Canon: Evaluation._canon,
    tree.FailLiteral: Evaluation._fail_literal,
    tree.FailValue: Evaluation._fail_value,
    tree.Fold: Evaluation._fold,
    tree.Match: Evaluation._match,
    tree.Mismatch: Evaluation._mismatch,
    tree.Never: Evaluation._never,
    tree.New: Evaluation._new,
    tree.Next: Evaluation._next,
    tree.Null: Evaluation._null,
    tree.Par: Evaluation._par,
    tree.Seq: Evaluation._seq,
    tree.Xor: Evaluation._xor,
}
