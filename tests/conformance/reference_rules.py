"""The evaluation with rules of the reference (AquaVM 0.62) that fluvial has on purpose done away with.

They are here to prove that a difference from the reference comes from exactly one of them and from nothing else:

- *errors*: ``:error:`` is one register for the whole script (AquaVM ``error_descriptor.rs``, ``xor.rs``, ``fail.rs``) instead of belonging to
  the handler around an instruction: the error that an outer handler shows is lost when an ``xor`` inside it succeeds;
- *sent*: a particle that was sent for a call whose arguments were not all known is never sent for it again, so that flows stand still;
- *generations*: a fold counts the generations of its stream, empty ones included, to know which it has visited, but skips that many
  non-empty ones: what a fold puts into a stream that was folded before is then visited a run late (AquaVM ``recursive_stream.rs``). What a
  run has not come to is in no trace, so that nobody has it, an ``ap`` to a stream neither (``reference_streams``);
- *failures*: a failed call leaves the completeness flag as it is in the run in which the service's answer arrives, and sets it to false
  in all others (AquaVM ``call/prev_result_handler.rs``);
- *outcomes*: a run that ends with an error that cannot be caught forgets what services have answered in it, and they are not asked again;
- *arguments*: an outcome that was given for other arguments than those that a peer comes to ends the run with 20017, also where they were
  read from an error register, which holds something else on other peers;
- *states*: a call whose argument turns out to be an error leaves the state ``sent`` that others wrote for it in the trace, and the next call
  takes it for its own: its particle is never sent (AquaVM ``resolved_call.rs`` reads the state after the arguments);
- *rereads*: operands that were read are read anew in every run. ``%last_error%`` may hold something else then, when an earlier branch has
  failed. A name that was cleared by ``new`` and is set later is no matter of this rule: everybody reads it then;
- *meetings*: a ``par`` of which one branch has failed sends nothing, so that nobody learns of all failures of branches on several peers;
- *copies*: every delivery carries all that its sender had when it sent it. In fluvial it carries what the receiver lacks, and one that
  overtakes others makes the receiver ask the sender, which may have learned more by then;
- *nesting*: a service's result that is nested 128 deep is a failure of the call: the reader of JSON goes no deeper than 127 (``serde_json``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, Literal, TypeAlias
from unittest.mock import patch

import msgspec
from fluvial.air.data.batch import Batch, Known
from fluvial.air.data.content import ContentId, Json
from fluvial.air.data.facts import Instance, Outcome, Sent
from fluvial.air.data.partial import Content
from fluvial.air.machine import errors
from fluvial.air.machine import machine as incremental
from fluvial.air.machine.errors import NO_ERROR, Catchable, NameCleared, Uncatchable
from fluvial.air.machine.exchange import Exchange, Needs
from fluvial.air.machine.lambdas import part_of_error
from fluvial.air.machine.machine import Effects
from fluvial.air.machine.operands import Environment
from fluvial.air.machine.outcomes import CallOutcome, Failed
from fluvial.air.machine.provenance import Provenance
from fluvial.air.machine.refusals import Refusals
from fluvial.air.machine.scopes import Scope
from fluvial.air.machine.slices import Sliced
from fluvial.air.machine.values import Value
from fluvial.air.syntax import tree
from fluvial.simulation import network
from fluvial.simulation.scenario import MockedError

from tests.conformance.reference_streams import counted_generations
from tests.reevaluating import evaluation, machine
from tests.reevaluating.evaluation import Evaluation
from tests.reevaluating.operands import Operands

Rule: TypeAlias = Literal[
    "errors",
    "sent",
    "generations",
    "nesting",
    "failures",
    "outcomes",
    "arguments",
    "states",
    "rereads",
    "meetings",
    "copies",
]


@contextmanager
def reference_rules(rules: Collection[Rule]) -> Iterator[None]:
    """Inside, every machine evaluates with these rules of the reference."""
    with ExitStack() as patches:
        if "errors" in rules:
            steps = {tree.Xor: GlobalErrorRegister._xor, tree.FailValue: GlobalErrorRegister._fail_value}
            patches.enter_context(patch.object(machine, "Evaluation", GlobalErrorRegister))
            patches.enter_context(patch.dict(evaluation._STEPS, steps))
        if "sent" in rules:
            patches.enter_context(patch.object(Evaluation, "_send", _send_once))
        if "generations" in rules:
            patches.enter_context(counted_generations())
        if "failures" in rules:
            patches.enter_context(patch.object(Evaluation, "_use", _use_fresh))
        if "arguments" in rules:
            patches.enter_context(patch.object(Evaluation, "_fits", _must_fit))
        if "copies" in rules:
            patches.enter_context(patch.object(Exchange, "owed", _everything))
        if "rereads" in rules:
            patches.enter_context(patch.object(Evaluation, "_once", _read_again))
        if "states" in rules:
            patches.enter_context(patch.object(Evaluation, "_perform", _perform_at_state))
            patches.enter_context(patch.object(Evaluation, "_send", _send_without_state(Evaluation._send)))
        if "outcomes" in rules:
            patches.enter_context(patch.object(machine.Machine, "resolve", _resolve_or_forget))
        if "meetings" in rules:
            patches.enter_context(patch.object(Evaluation, "_hand_on", lambda self: None))
        if "nesting" in rules:
            patches.enter_context(patch.object(network, "_outcome", _readable))
        yield


def _read_again(self: Evaluation, reader: Instance, what: str, read: Callable[[], Any]) -> Any:
    """Nothing that was read is kept, but for readings of names that were cleared by ``new``."""
    if isinstance(self._read.get((reader, what)), NameCleared):
        return _ONCE(self, reader, what, read)
    try:
        return read()
    except NameCleared:
        return _ONCE(self, reader, what, read)


_ONCE: Final = Evaluation._once


def _send_once(self: Evaluation, instance: Instance, peer: str, *, complete: bool) -> None:
    """Whoever learns the last argument does not send again."""
    if self._act and self._knowledge.about(instance).sent is None:
        self.findings.next_peers[peer] = None
        self._add(Sent(instance.frame, instance.node, complete))


def _everything(
    self: Exchange,
    peer: str,
    batches: Sequence[Batch],
    contents: Mapping[ContentId, Content],
    needs: Needs | None = None,
) -> Known:
    """Nothing is left out, whatever the peer has and needs."""
    self.forget(peer)
    return _OWED(self, peer, batches, contents)


_OWED: Final = Exchange.owed


def _use_fresh(
    self: Evaluation, node: tree.CallInstruction, instance: Instance, scope: Scope, call: Provenance, outcome: Outcome
) -> None:
    """What follows a fold over a stream in whose body a service has just failed is begun."""
    complete = self._complete
    try:
        _USE(self, node, instance, scope, call, outcome)
    except Catchable:
        self._complete = complete and instance in self._fresh
        raise


_USE: Final = Evaluation._use


def _perform_at_state(
    self: Evaluation, node: tree.CallInstruction, instance: Instance, scope: Scope, call: Provenance
) -> None:
    """Takes a state that was left, unless it fails as well."""
    left: int = getattr(self, "left", 0)
    self.left, self.taken = max(0, left - 1), left > 0  # type: ignore[attr-defined]  # known to this rule alone
    try:
        _PERFORM(self, node, instance, scope, call)
    except Catchable:
        if self._knowledge.about(instance).outcome(call.peer) is None:
            self.left = left + (self._knowledge.about(instance).sent is not None)  # type: ignore[attr-defined]
        raise
    finally:
        self.taken = False  # type: ignore[attr-defined]


_PERFORM: Final = Evaluation._perform


def _send_without_state(send: Callable[..., None]) -> Callable[..., None]:
    def _send(self: Evaluation, instance: Instance, peer: str, *, complete: bool) -> None:
        if not getattr(self, "taken", False):
            send(self, instance, peer, complete=complete)
        elif self._act and self._knowledge.about(instance).sent is None:
            self._add(Sent(instance.frame, instance.node, complete=True))

    return _send


def _must_fit(self: Evaluation, outcome: Outcome, call: Provenance, arguments: tuple[Value, ...]) -> bool:
    """Nobody has a reason to lie in a simulation, so nothing else is compared."""
    if outcome.arguments != tuple(value.argument for value in arguments):
        raise Uncatchable(20017, "an outcome was given for other arguments")
    return True


def _resolve_or_forget(self: machine.Machine, outcomes: Mapping[Instance, CallOutcome]) -> Effects:
    """The calls stay taken."""
    requests = {instance: self._in_flight[instance] for instance in outcomes}
    effects = incremental.Machine.resolve(self, outcomes)
    if isinstance(effects.error, Uncatchable):
        self._log.pop()
        self._in_flight.update(requests)
        self._refusals = Refusals()
        self._runner.finish(_rebuilt(self))
    return effects


def _rebuilt(self: machine.Machine) -> Sliced[bool]:
    yield from self._rebuild()
    yield True


def _readable(answer: Json | MockedError) -> CallOutcome:
    """What the host's answer is when its text has been read."""
    text = b"" if isinstance(answer, MockedError) else msgspec.json.encode(answer)
    depth = 0
    for token in re.finditer(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        depth += {b"[": 1, b"{": 1, b"]": -1, b"}": -1}.get(token[0], 0)
        if depth >= UNREADABLE_DEPTH:
            return Failed(
                UNREADABLE,
                f"call_service result 'ret_code: 0, result: '{text.decode()}'' can't be serialized or deserialized with an error: "
                f"recursion limit exceeded at line 1 column {token.start() + 1}",
            )
    return _OUTCOME(answer)


_OUTCOME: Final = network._outcome
UNREADABLE: Final = 2**31 - 1
UNREADABLE_DEPTH: Final = 128


class RegisterOperands(Operands):
    """Operands that take ``:error:`` from a register.

    Attributes:
        error, origin: what ``:error:`` shows, and the tetraplet of the call that failed.
        caught: the error that the last handler caught while the register showed this object.
        unlocked: whether the next error is remembered.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.unlocked = True
        self.set_error(NO_ERROR, None)

    def set_error(self, error: Json, origin: Provenance | None) -> None:
        self.error, self.origin = error, origin
        self.caught: Catchable | None = None

    def value(self, operand: tree.Value, scope: Scope) -> Value:
        if not isinstance(operand, tree.Error):
            return super().value(operand, scope)
        value = self._error_value(self.error, self.origin)
        return value if operand.path is None else part_of_error(value, operand.path, scope)


class GlobalErrorRegister(Evaluation):
    """``:error:`` is a register that is run through in script order."""

    _operands: RegisterOperands

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._operands = RegisterOperands(self._environment)

    def _report(self, error: Catchable, node: tree.Instruction, call: Provenance | None) -> None:
        super()._report(error, node, call)
        if self._operands.unlocked:
            self._operands.set_error(error.report(with_peer=False), error.origin)
        self._operands.unlocked = False

    def _xor(self, node: tree.Xor, frame: bytes, scope: Scope) -> None:
        register = self._operands
        caught = self._left(node, frame, scope)
        if caught is None:
            return
        register.caught = caught
        register.unlocked = True
        try:
            self._execute(node.right, frame, scope)
        finally:
            if register.unlocked:
                register.set_error(NO_ERROR, None)
        register.unlocked = True

    def _fail_value(self, node: tree.FailValue, frame: bytes, scope: Scope) -> None:
        if not isinstance(node.value, tree.Error) or node.value.path is not None:
            super()._fail_value(node, frame, scope)
            return
        register = self._operands
        value = register.value(node.value, scope)
        register.check_error_object(value.json)
        register.set_last_error(value.json, value.origins[0], always=True)
        self._complete = False
        register.unlocked = False
        raise register.caught or errors.failed_by_script(value.json)
