"""One evaluation of a script over what is known: the plain form, which walks the whole script from the beginning.

*Completeness* is one flag that steers the flow: true at the start, false when something before this point is still open. An instruction
that needs a name without a value does nothing and sets it to false; ``seq`` goes on only while it is true.
Source: AIR semantics as of AquaVM 0.62 (docs/air.md), over facts instead of a trace (docs/data.md).

Next peers come from exactly one thing: calls and canons that are reached, belong to another peer and have no fact by that peer.

- All arguments known, and nobody has a complete ``sent``: send, write ``sent`` (complete).
- An argument unknown, and nobody has any ``sent``: send, write ``sent`` (not complete); the waiting peer collects them.

Deviation: whoever learns the last argument sends once more; the reference does not, and such flows stand still.

A ``par`` with a failed and an open branch, inside an ``xor`` that would catch the error, sends the particle to where failures meet, unless
somebody has sent for it. Which instructions may fail and where failures meet the script alone says (``fluvial.air.machine.meetings``).

Deviation: in the reference nobody who knows of all failures is ever asked.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from typing import Any, Final

from fluvial.air.data.content import Json
from fluvial.air.data.facts import (
    ROOT_FRAME,
    Canon,
    Failure,
    Instance,
    Outcome,
    Sent,
    Source,
    Taken,
    Tetraplet,
    index_element,
    iteration_frame,
    written_element,
)
from fluvial.air.machine import errors
from fluvial.air.machine.errors import AirError, Catchable, Uncatchable, Waiting
from fluvial.air.machine.findings import Request, Wait
from fluvial.air.machine.knowledge import Knowledge
from fluvial.air.machine.meetings import meetings_of
from fluvial.air.machine.operands import Environment
from fluvial.air.machine.scopes import Iteration, Scope, StreamKey
from fluvial.air.machine.values import (
    CanonMapValue,
    CanonStreamValue,
    Value,
    Whole,
    elements_of,
    first_values,
    is_pair,
    literal,
    same_json,
    value_of,
)
from fluvial.air.syntax import tree
from fluvial.air.syntax.printer import head

from tests.reevaluating.findings import Findings
from tests.reevaluating.operands import Operands
from tests.reevaluating.streams import Stream, StreamMemory

VISITS_MAX: Final = 300_000
"""Instructions that one evaluation may execute, arguments and elements of folds included: exponential scripts exist."""

DEPTH_MAX: Final = 30_000
"""Instructions nested in one another at run time: one level or more per element of a fold."""


class Evaluation:
    """Walks a script once.

    Args:
        script: the script.
        environment, knowledge: what it may know.
        memories: where elements of streams stand; outlive the evaluation.
        in_flight: calls that this peer's services are at work on.
        act: false while received steps are repeated: then nothing new is requested, sent or fixed.
    """

    def __init__(
        self,
        script: tree.Script,
        environment: Environment,
        knowledge: Knowledge,
        memories: dict[StreamKey, StreamMemory],
        in_flight: Container[tuple[bytes, int]],
        *,
        act: bool,
    ) -> None:
        self.findings: Final = Findings()
        self._script = script
        self._meetings = meetings_of(script)
        self._environment = environment
        self._me = environment.me
        self._knowledge = knowledge
        self._memories = memories
        self._in_flight = in_flight
        self._act = act
        # None: as it was before, where that was neither.
        self._complete: bool | None = True
        self._depth = 0
        self._own_calls = 0
        self._half_failed: list[tuple[int, Instance]] = []
        self._to_hand_on: list[tuple[int, Instance, str]] = []
        self._streams: dict[StreamKey, Stream] = {}
        self._operands = Operands(environment)
        for memory in memories.values():
            memory.begin_generation()

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
        except Waiting as waiting:
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

    def _visit(self, count: int) -> None:
        self.findings.visits += count
        if self.findings.visits > VISITS_MAX:
            raise errors.too_much("executed instructions", VISITS_MAX)

    def _wait(self, node: tree.Instruction, frame: bytes, reason: str, peer: str | None = None) -> None:
        self._complete = False
        self.findings.waits.append(Wait(node, Instance(frame, node.number), reason, peer))

    def _report(self, error: Catchable, node: tree.Instruction, call: Tetraplet | None) -> None:
        """Note on an error which instruction failed: the innermost one does it."""
        error.instruction = node
        report: dict[str, Json] = {"error_code": error.code, "message": error.message, "instruction": head(node)}
        peer = call.peer if call is not None else self._me
        if isinstance(node, tree.Call | tree.Canon):
            error.report = {**report, "peer_id": peer}
        else:
            error.report = report
        error.origin = call
        if error.code not in (10001, 10002):
            self._operands.set_last_error({**report, "peer_id": peer}, call)

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
        place, before = self.findings.visits, len(self._half_failed)
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
        half_failed, own_calls = len(self._half_failed), self._own_calls
        try:
            self._execute(node.left, frame, scope)
        except Catchable as error:
            self._complete = True
            self._operands.unlock_last_error()
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
        except (AirError, Waiting):
            peer = self._environment.initiator
        self._to_hand_on += [(place, instance, peer) for place, instance in pars]

    def _hand_on(self) -> None:
        for _, instance, peer in sorted(self._to_hand_on):
            if self._act and self._knowledge.sent(instance) is None:
                self._add(Sent(instance.frame, instance.node, True))
                if peer != self._me:
                    self.findings.next_peers[peer] = None

    def _match(self, node: tree.Match, frame: bytes, scope: Scope) -> None:
        if not self._equal(node, scope):
            raise errors.no_match()
        self._execute(node.body, frame, scope)

    def _mismatch(self, node: tree.Mismatch, frame: bytes, scope: Scope) -> None:
        if self._equal(node, scope):
            raise errors.no_mismatch()
        self._execute(node.body, frame, scope)

    def _equal(self, node: tree.Match | tree.Mismatch, scope: Scope) -> bool:
        left = self._value(node.left, scope)
        return same_json(left.json, self._value(node.right, scope).json)

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
        self._fail(error, Tetraplet(initiator))

    def _fail_value(self, node: tree.FailValue, frame: bytes, scope: Scope) -> None:
        value = self._operands.value(node.value, scope)
        self._operands.check_error_object(value.json)
        if isinstance(node.value, tree.Error) and node.value.path is None and (caught := scope.caught) is not None:
            self._operands.set_last_error(value.json, value.origins[0], always=True)
            self._complete = False
            raise caught
        self._fail(value.json, value.origins[0])

    def _fail(self, error: Json, origin: Tetraplet) -> None:
        self._operands.set_last_error(error, origin, always=True)
        self._complete = False
        raise errors.failed_by_script(error)

    def _new(self, node: tree.New, frame: bytes, scope: Scope) -> None:
        instance = Instance(frame, node.number)
        if isinstance(node.target, tree.Stream | tree.StreamMap):
            self._stream(instance, node.target.name)
        self._execute(node.body, frame, scope.renew(node.target.name, instance))

    # --- values

    def _value(self, operand: tree.Value, scope: Scope) -> Value:
        value = self._operands.value(operand, scope)
        self._visit(len(value.origins))
        return value

    def _ap(self, node: tree.Ap, frame: bytes, scope: Scope) -> None:
        value = self._operands.to_bind(node.argument, scope)
        if isinstance(node.target, tree.Stream):
            self._append(node.target, Instance(frame, node.number), scope, value)
        else:
            scope.set(node.target.name, value)

    def _ap_map(self, node: tree.ApMap, frame: bytes, scope: Scope) -> None:
        value = self._operands.to_bind(node.argument, scope)
        key = self._operands.map_key(node.key, scope, node.target.name)
        pair = {"key": key, "value": value.json}
        pair_value = Value(pair, value.origins, value.source, Whole(pair), volatile=value.volatile).settled()
        self._append(node.target, Instance(frame, node.number), scope, pair_value)

    def _append(self, target: tree.Stream | tree.StreamMap, writer: Instance, scope: Scope, value: Value) -> None:
        self._stream(scope.stream(target.name), target.name).append(writer, value)

    def _stream(self, key: StreamKey, name: str) -> Stream:
        if key not in self._streams:
            self._streams[key] = Stream(name, self._memories.setdefault(key, StreamMemory()))
        return self._streams[key]

    # --- folds

    def _fold(self, node: tree.Fold, frame: bytes, scope: Scope) -> None:
        if isinstance(node.iterable, tree.Stream | tree.StreamMap):
            self._fold_stream(node, frame, scope, scope.stream(node.iterable.name))
            return
        values = self._operands.iterable(node.iterable, scope)
        self._visit(len(values))
        if values:
            elements = tuple((index_element(i), value) for i, value in enumerate(values))
            self._iterate(node, elements, 0, frame, scope, of_stream=False)

    def _fold_stream(self, node: tree.Fold, frame: bytes, scope: Scope, key: StreamKey) -> None:
        stream = self._streams.get(key)
        if stream is None:
            self._wait(node, frame, f"nothing was written to `{key}` yet")
            return
        complete = False
        for generations in stream.passes():
            for generation in generations:
                elements = tuple((written_element(entry.writer), entry.value) for entry in generation)
                # A body's error ends the chain of its generation, not the fold: what comes after would depend on local order.
                half_failed = len(self._half_failed)
                with suppress(Catchable):
                    self._iterate(node, elements, 0, frame, scope, of_stream=True)
                del self._half_failed[half_failed:]
                complete = complete or bool(self._complete)
        self._wait(node, frame, f"more elements of `{stream.name}` may come")
        self._complete = complete

    def _iterate(
        self,
        node: tree.Fold,
        elements: Sequence[tuple[bytes, Value]],
        index: int,
        base: bytes,
        scope: Scope,
        *,
        of_stream: bool,
    ) -> None:
        frame = iteration_frame(base, node.number, elements[index][0])
        iteration = Iteration(node, tuple(elements), index, base, frame, (), scope, of_stream)
        self._execute(node.body, frame, scope.iterate(iteration))

    def _next(self, node: tree.Next, frame: bytes, scope: Scope) -> None:
        now = scope.iteration(node.iterator)
        index = now.index + 1
        if index < len(now.elements):
            # Inside an inner fold's iteration that iteration is the base, else one element would be visited twice under one id.
            base = now.base if frame == now.frame else frame
            self._iterate(now.fold, now.elements, index, base, now.scope, of_stream=now.of_stream)
        elif now.fold.last is not None:
            self._complete = True
            self._execute(now.fold.last, frame, scope)
        elif now.of_stream:
            self._complete = None

    # --- canon

    def _canon(self, node: tree.Canon, frame: bytes, scope: Scope) -> None:
        peer = self._operands.text(node.peer, scope)
        instance = Instance(frame, node.number)
        fact = self._knowledge.canon(instance, peer)
        if fact is not None and not self._well_formed(node, fact):
            fact = None
        if fact is None and peer == self._me and self._act:
            fact = self._fix(node, instance, scope)
        if fact is None:
            self._wait(
                node, frame, f"{peer} has not fixed `{node.source.name}` yet", peer if peer != self._me else None
            )
            if peer != self._me:
                self._send(instance, peer, complete=True)
            return
        values = tuple(value_of(element, self._knowledge.contents[element.value]) for element in fact.elements)
        match node.target:
            case tree.CanonStream(name):
                scope.set(name, CanonStreamValue(peer, values))
            case tree.CanonMap(name):
                scope.set(name, CanonMapValue(peer, values))
            case tree.Scalar(name):
                scope.set(name, Value(values[0].json, (Tetraplet(peer),), Source.CANON, values[0].whole))

    def _well_formed(self, node: tree.Canon, fact: Canon) -> bool:
        """Whether a canon has the shape of its target; a lying peer's may not, and is then as if it were not there."""
        values = [self._knowledge.contents[element.value] for element in fact.elements]
        match node.target:
            case tree.Scalar():
                return len(values) == 1 and isinstance(values[0], dict)
            case tree.CanonMap():
                return all(is_pair(value) for value in values)
            case _:
                return True

    def _fix(self, node: tree.Canon, instance: Instance, scope: Scope) -> Canon:
        stream = self._streams.get(scope.stream(node.source.name))
        entries = stream.entries() if stream is not None else ()
        if isinstance(node.target, tree.Scalar):
            fixed = [(literal(first_values(entry.value for entry in entries), self._me), instance)]
        else:
            fixed = [(entry.value, entry.writer) for entry in entries]
        try:
            elements = elements_of(fixed)
        except ValueError as error:
            raise errors.unfit_to_fix(node.source.name, str(error)) from error
        contents = {element.value: value.json for element, (value, _) in zip(elements, fixed, strict=True)}
        self.findings.contents.update(contents)
        self._knowledge.learn(contents)
        fact = Canon(instance.frame, instance.node, elements)
        self._add(fact)
        return fact

    # --- call

    def _call(self, node: tree.Call, frame: bytes, scope: Scope) -> None:
        peer = self._operands.text(node.peer, scope)
        call = Tetraplet(peer, self._operands.text(node.service, scope), self._operands.text(node.function, scope))
        if isinstance(node.output, tree.Scalar):
            scope.check_settable(node.output.name)
        try:
            self._perform(node, Instance(frame, node.number), scope, call)
        except Catchable as error:
            if error.instruction is None:
                self._report(error, node, call)
            raise

    def _perform(self, node: tree.Call, instance: Instance, scope: Scope, call: Tetraplet) -> None:
        arguments: tuple[Value, ...] | None
        missing = ""
        try:
            arguments = tuple(self._value(argument, scope) for argument in node.arguments)
        except Waiting as waiting:
            arguments, missing = None, waiting.name
        outcome = self._knowledge.outcome(instance, call.peer)
        if outcome is not None and arguments is not None and self._fits(outcome, call, arguments):
            self._use(node, instance, scope, call, outcome)
        elif call.peer != self._me:
            self._wait(node, instance.frame, f"{call.peer} has not answered yet", call.peer)
            if not self._knowledge.taken(instance, call.peer):
                self._send(instance, call.peer, complete=arguments is not None)
        elif arguments is None:
            self._wait(node, instance.frame, f"`{missing}` has no value yet")
        else:
            self._own_calls += 1
            self._wait(node, instance.frame, "the service has not answered yet")
            self._ask(node, instance, call, arguments)

    def _fits(self, outcome: Outcome, call: Tetraplet, arguments: tuple[Value, ...]) -> bool:
        """Whether a fact is about the call that this evaluation has come to.

        A peer never doubts itself; what came out of an error register is not compared, since it may change.
        """
        if call.peer == self._me:
            return True
        if (outcome.service, outcome.function, len(outcome.arguments)) != (call.service, call.function, len(arguments)):
            return False
        return all(
            value.volatile or value.argument == claimed
            for value, claimed in zip(arguments, outcome.arguments, strict=True)
        )

    def _use(self, node: tree.Call, instance: Instance, scope: Scope, call: Tetraplet, outcome: Outcome) -> None:
        if isinstance(outcome, Failure):
            # Deviation: a failed call is incomplete always, also in the run in which the failure arrives.
            self._complete = False
            raise errors.service_failed(outcome.status, outcome.message)
        json = self._knowledge.contents[outcome.value]
        value = Value(json, (call,), Source.CALL, Whole(json, outcome.value))
        match node.output:
            case tree.Scalar(name):
                scope.set(name, value)
            case tree.Stream() as target:
                self._append(target, instance, scope, value)

    def _ask(self, node: tree.Call, instance: Instance, call: Tetraplet, arguments: tuple[Value, ...]) -> None:
        if not self._act or instance in self._in_flight:
            return
        self.findings.requests.append(
            Request(
                instance,
                node.at,
                call.service,
                call.function,
                tuple(value.json for value in arguments),
                tuple(value.origins for value in arguments),
                tuple(value.argument for value in arguments),
            )
        )
        if not self._knowledge.taken(instance, self._me):
            self._add(Taken(instance.frame, instance.node))

    def _send(self, instance: Instance, peer: str, *, complete: bool) -> None:
        sent = self._knowledge.sent(instance)
        if self._act and (sent is None or (complete and not sent)):
            self.findings.next_peers[peer] = None
            self._add(Sent(instance.frame, instance.node, complete))

    def _add(self, fact: Canon | Sent | Taken) -> None:
        self._knowledge.add(fact, self._me)
        self.findings.facts.append(fact)


_STEPS: Final[dict[type[tree.Instruction], Callable[[Evaluation, Any, bytes, Scope], None]]] = {
    tree.Ap: Evaluation._ap,
    tree.ApMap: Evaluation._ap_map,
    tree.Call: Evaluation._call,
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
