"""What an evaluation needs to know and to do, but for walking through the script: reading operands, calls and canons.

Next peers come from exactly one thing: calls and canons that are reached, belong to another peer and have no fact by that peer.

- All arguments known, and nobody has a complete ``sent``: send, write ``sent`` (complete).
- An argument unknown, and nobody has any ``sent``: send, write ``sent`` (not complete); the waiting peer collects them.

Deviation: whoever learns the last argument sends once more; the reference does not, and such flows stand still.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Sequence
from typing import Any, Final, TypeVar

from fluvial.air.data.facts import CallFailure, CanonFact, Element, Instance, Outcome, Sent, Taken
from fluvial.air.machine import errors
from fluvial.air.machine.canon_values import CanonMapValue, CanonStreamValue, object_of
from fluvial.air.machine.canons import naming_elements
from fluvial.air.machine.errors import Catchable, NameCleared, NameNotSet
from fluvial.air.machine.findings import Request, Wait
from fluvial.air.machine.knowledge import Knowledge
from fluvial.air.machine.operands import Environment
from fluvial.air.machine.provenance import Provenance, Source
from fluvial.air.machine.scopes import Bound, Scope, StreamKey
from fluvial.air.machine.values import Value, is_pair, key_of
from fluvial.air.syntax import tree
from msgspec.structs import replace

from tests.reevaluating.findings import Findings
from tests.reevaluating.operands import Operands
from tests.reevaluating.streams import Entry, Stream, StreamMemory

VISITS_MAX: Final = 300_000
"""Instructions that one evaluation may execute, arguments and elements of folds included: exponential scripts exist."""


ResultT = TypeVar("ResultT")


def at_once(work: Generator[None, None, ResultT]) -> ResultT:
    """What sliced work returns."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            result: ResultT = end.value
            return result


class Performing:
    """The state of one evaluation.

    Args:
        environment, knowledge: what the script may know.
        memories: where elements of streams stand; outlive the evaluation.
        in_flight: calls that this peer's services are at work on.
        act: false while received steps are repeated: then nothing new is requested, sent or fixed.
        read: what instructions have read; outlives the evaluation.
        written: what instructions have written to streams; outlives the evaluation.
        fresh: calls whose outcomes this peer's services have given in this step; only rules of the reference ask for it.
    """

    def __init__(
        self,
        environment: Environment,
        knowledge: Knowledge,
        memories: dict[StreamKey, StreamMemory],
        read: dict[tuple[Instance, str], Any],
        written: dict[tuple[StreamKey, Instance], Value],
        in_flight: Container[tuple[bytes, int]],
        *,
        act: bool,
        fresh: Container[tuple[bytes, int]] = (),
    ) -> None:
        self.findings: Final = Findings()
        self._environment = environment
        self._me = environment.me
        self._knowledge = knowledge
        self._memories = memories
        self._in_flight = in_flight
        self._act = act
        self._fresh = fresh
        self._read = read
        self._written = written
        # None: as it was before, where that was neither.
        self._complete: bool | None = True
        self._depth = 0
        self._own_calls = 0
        # The readings in this evaluation that failed since a name was cleared, and that no handler may have caught yet.
        self._cleared: list[tuple[Instance, str]] = []
        self._streams: dict[StreamKey, Stream] = {}
        self._operands = Operands(environment)
        for memory in memories.values():
            memory.begin_generation()

    # --- notes

    def _set(self, scope: Scope, name: str, bound: Bound) -> None:
        scope.check_settable(name)
        scope.set(name, bound)

    def _visit(self, count: int) -> None:
        self.findings.visits += count
        if self.findings.visits > VISITS_MAX:
            raise errors.too_much("executed instructions", VISITS_MAX)

    def _wait(self, node: tree.Instruction, frame: bytes, reason: str, peer: str | None = None) -> None:
        self._complete = False
        self.findings.waits.append(Wait(node, Instance(frame, node.number), reason, peer))

    def _report(self, error: Catchable, node: tree.Instruction, call: Provenance | None) -> None:
        """Note on an error which instruction failed: the innermost one does it."""
        error.instruction = node
        error.peer = call.peer if call is not None else self._me
        error.origin = call
        if error.code not in (10001, 10002):
            self._operands.set_last_error(error.report(with_peer=True), call)

    # --- operands

    def _once(self, reader: Instance, what: str, read: Callable[[], Any]) -> Any:
        """Operands are read when an instruction first has all of them, and then never again.

        Names that an iteration sets later, in another branch, hide the outer ones that were read; so a name could mean something else.
        """
        key = (reader, what)
        if key not in self._read or self._is_cleared(key):
            try:
                self._read[key] = read()
            except Catchable as error:
                self._read[key] = error
        if isinstance(found := self._read[key], Catchable):
            if self._is_cleared(key):
                self._cleared.append(key)
            raise Catchable(found.code, found.message)
        return found

    def _is_cleared(self, key: tuple[Instance, str]) -> bool:
        """Whether a reading has failed since a name was cleared by ``new``, and no handler has begun for that: it is tried again."""
        return isinstance(self._read.get(key), NameCleared) and (key[0], "caught") not in self._read

    def _catch(self, cleared: Sequence[tuple[Instance, str]]) -> None:
        """A handler begins: what it has caught stays so."""
        for reader, _ in cleared:
            self._read[reader, "caught"] = True

    def _value(self, operand: tree.Value, scope: Scope) -> Value:
        value = self._operands.value(operand, scope)
        self._visit(len(value.origins))
        return value

    def _append(self, target: tree.Stream | tree.StreamMap, writer: Instance, scope: Scope, value: Value) -> None:
        stream = scope.stream(target.name)
        self._written[stream, writer] = value
        self._stream(stream, target.name).append(writer, value)

    def _stream(self, key: StreamKey, name: str) -> Stream:
        if key not in self._streams:
            self._streams[key] = self._new_stream(key, name, self._memories.setdefault(key, StreamMemory()))
        return self._streams[key]

    def _new_stream(self, key: StreamKey, name: str, memory: StreamMemory) -> Stream:
        return Stream(name, memory)

    # --- canon

    def _canon(self, node: tree.Canon, frame: bytes, scope: Scope) -> None:
        instance = Instance(frame, node.number)
        peer = self._once(instance, "peer", lambda: self._operands.text(node.peer, scope))
        fact = self._knowledge.about(instance).canon(peer)
        if fact is None and peer == self._me and self._act:
            fact = self._fix(node, instance, scope)
        values = None if fact is None else self._fixed(node, instance, scope, peer, fact)
        if values is None:
            self._wait(
                node, frame, f"{peer} has not fixed `{node.source.name}` yet", peer if peer != self._me else None
            )
            if peer != self._me:
                self._send(instance, peer, complete=True)
            return
        match node.target:
            case tree.CanonStream(name):
                self._set(scope, name, CanonStreamValue(peer, values))
            case tree.CanonMap(name):
                self._set(scope, name, CanonMapValue(peer, values))
            case tree.Scalar(name):
                self._set(scope, name, object_of(values, peer))

    def _fixed(
        self, node: tree.Canon, instance: Instance, scope: Scope, peer: str, fact: CanonFact
    ) -> tuple[Value, ...] | None:
        """The values with their origins, once; None while one of them does not follow from what this evaluation has come to."""
        if (found := self._read.get((instance, "fixed"))) is None:
            stream = scope.stream(node.source.name)
            values = [
                self._proven(node, element, self._written.get((stream, Instance(element.frame, element.node))), peer)
                for element in fact.elements
            ]
            if None in values:
                return None
            found = self._read[instance, "fixed"] = tuple(values)
        return found

    def _proven(self, node: tree.Canon, element: Element, written: Value | None, peer: str) -> Value | None:
        if written is None:
            return None
        root = self._knowledge.value(element.value)
        origin, source = written.origins[0], written.source
        if peer != self._me and at_once(written.naming()) != element.value:
            if not written.volatile:
                return None
            origin, source = Provenance(peer), Source.LITERAL
        if source is Source.COUNTED:
            origin, source = replace(origin, peer=peer), Source.CANON
        value = Value(root.content, (origin,), source, root)
        return value if isinstance(node.source, tree.Stream) or is_pair(value) else None

    def _fix(self, node: tree.Canon, instance: Instance, scope: Scope) -> CanonFact:
        stream = self._streams.get(scope.stream(node.source.name))
        entries = stream.entries() if stream is not None else ()
        if isinstance(node.target, tree.Scalar):
            firsts: dict[str, Entry] = {}
            for entry in entries:
                firsts.setdefault(str(key_of(entry.value)), entry)
            entries = tuple(firsts.values())
        try:
            elements, _ = at_once(naming_elements((entry.value, entry.writer) for entry in entries))
        except ValueError as error:
            raise errors.unfit_to_fix(node.source.name, str(error)) from error
        contents = {element.value: content for element, content in elements}
        self.findings.contents.update(contents)
        self._knowledge.learn(contents)
        fact = CanonFact(instance.frame, instance.node, tuple(element for element, _ in elements))
        self._add(fact)
        return fact

    # --- call

    def _call(self, node: tree.CallInstruction, frame: bytes, scope: Scope) -> None:
        instance, text = Instance(frame, node.number), self._operands.text
        call = self._once(
            instance,
            "call",
            lambda: Provenance(text(node.peer, scope), text(node.service, scope), text(node.function, scope)),
        )
        if isinstance(node.output, tree.Scalar):
            scope.check_settable(node.output.name)
        try:
            self._perform(node, instance, scope, call)
        except Catchable as error:
            if error.instruction is None:
                self._report(error, node, call)
            raise

    def _perform(self, node: tree.CallInstruction, instance: Instance, scope: Scope, call: Provenance) -> None:
        if self._is_closed(instance, call.peer):
            return
        arguments: tuple[Value, ...] | None
        missing, cleared = "", self._is_cleared((instance, "arguments"))
        try:
            arguments = self._arguments(node, instance, scope)
        except NameNotSet as waiting:
            arguments, missing = None, waiting.name
        if cleared and self._knowledge.about(instance).closed_by(call.peer):
            self._read[instance, "closed"] = True
            return
        outcome = self._knowledge.about(instance).outcome(call.peer)
        if outcome is not None and arguments is not None and self._fits(outcome, call, arguments):
            self._keep(instance, arguments)
            self._use(node, instance, scope, call, outcome)
        elif call.peer != self._me:
            self._wait(node, instance.frame, f"{call.peer} has not answered yet", call.peer)
            if not self._knowledge.about(instance).taken_by(call.peer):
                self._send(instance, call.peer, complete=arguments is not None)
        elif arguments is None:
            self._wait(node, instance.frame, f"`{missing}` has no value yet")
        else:
            self._own_calls += 1
            self._wait(node, instance.frame, "the service has not answered yet")
            self._ask(node, instance, call, arguments)

    def _is_closed(self, instance: Instance, peer: str) -> bool:
        """Whether the call's peer says no more than that it is answered; if so once, for ever. A call that has failed stays so."""
        if isinstance(self._read.get((instance, "arguments")), Catchable):
            return False
        if self._knowledge.about(instance).closed_by(peer):
            self._read[instance, "closed"] = True
        return (instance, "closed") in self._read

    def _arguments(self, node: tree.CallInstruction, instance: Instance, scope: Scope) -> tuple[Value, ...]:
        """Until the service is asked, what an error register holds may still change."""
        arguments: tuple[Value, ...] = self._once(
            instance, "arguments", lambda: tuple(self._value(argument, scope) for argument in node.arguments)
        )
        if any(value.volatile for value in arguments) and (instance, "asked") not in self._read:
            self._read.pop((instance, "arguments"), None)
        return arguments

    def _keep(self, instance: Instance, arguments: tuple[Value, ...]) -> None:
        """What the service was asked with."""
        self._read[instance, "asked"] = True
        self._read[instance, "arguments"] = arguments

    def _fits(self, outcome: Outcome, call: Provenance, arguments: tuple[Value, ...]) -> bool:
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

    def _use(
        self, node: tree.CallInstruction, instance: Instance, scope: Scope, call: Provenance, outcome: Outcome
    ) -> None:
        if isinstance(outcome, CallFailure):
            # Deviation: a failed call is incomplete always, also in the run in which the failure arrives.
            self._complete = False
            raise errors.service_failed(outcome.status, outcome.message)
        whole = self._knowledge.value(outcome.value)
        value = Value(whole.content, (call,), Source.CALL, whole)
        match node.output:
            case tree.Scalar(name):
                self._set(scope, name, value)
            case tree.Stream() as target:
                self._append(target, instance, scope, value)

    def _ask(
        self, node: tree.CallInstruction, instance: Instance, call: Provenance, arguments: tuple[Value, ...]
    ) -> None:
        if not self._act or instance in self._in_flight:
            return
        self._keep(instance, arguments)
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
        if not self._knowledge.about(instance).taken_by(self._me):
            self._add(Taken(instance.frame, instance.node))

    def _send(self, instance: Instance, peer: str, *, complete: bool) -> None:
        sent = self._knowledge.about(instance).sent
        if self._act and (sent is None or (complete and not sent)):
            self.findings.next_peers[peer] = None
            self._add(Sent(instance.frame, instance.node, complete))

    def _add(self, fact: CanonFact | Sent | Taken) -> None:
        self._knowledge.add(fact, self._me)
        self.findings.facts.append(fact)
