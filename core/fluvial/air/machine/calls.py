"""Calls and canons: the instructions that need a fact, and what to do while it is not there.

Next peers come from calls and canons that are reached, belong to another peer and have no fact by that peer (and from failures that must
be told, ``half_failed``).

- All arguments known, and nobody has a complete ``sent``: send, write ``sent`` (complete).
- An argument unknown, and nobody has any ``sent``: send, write ``sent`` (not complete); the waiting peer collects them.

Deviation: whoever learns the last argument sends once more; the reference does not, and such flows stand still.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fluvial.air.data.facts import CallFailure, CanonFact, Instance, Outcome, Provenance, Sent, Source, Taken
from fluvial.air.machine import errors
from fluvial.air.machine.errors import Catchable, NameNotSet
from fluvial.air.machine.findings import Observer, Request, Visit
from fluvial.air.machine.instances import BEYOND, Completeness, Inst
from fluvial.air.machine.values import (
    CanonMapValue,
    CanonStreamValue,
    Value,
    elements_of,
    first_values,
    is_object,
    is_pair,
    literal,
    value_of,
)
from fluvial.air.syntax import tree

if TYPE_CHECKING:
    from fluvial.air.machine.evaluator import Evaluator


def advance_call(machine: Evaluator, inst: Inst) -> None:
    """``call``: use its outcome if there is one that fits, else ask the service, send the particle on, or wait.

    Raises:
        Waiting: a name has no value yet. Catchable, Uncatchable: as the instruction does.
    """
    node: tree.CallInstruction = inst.node
    if inst.known is None:
        inst.other = machine.operands.call(node, inst)
        inst.known = machine.knowledge.about(inst.id)
        if type(node.output) is tree.Scalar:
            machine.claim(inst, node.output.name)
    call: Provenance = inst.other
    if inst.known.closed is not None and inst.known.closed_by(call.peer):
        _pass(machine, inst)
        return
    missing: NameNotSet | None = None
    if inst.child is None or (not inst.index and machine.plan.reads_errors and any(map(_is_volatile, inst.child))):
        # Until the service is asked, what an error register holds may still change.
        try:
            inst.child = machine.arguments(node, inst)
        except NameNotSet as waiting:
            missing = waiting
        except Catchable as error:
            # Deviation: the reference takes what was sent for this call for what was sent for the next one that is come to.
            machine.waiters.forget(inst)
            machine.fail(inst, error, call=call)
            return
    arguments: tuple[Value, ...] | None = inst.child
    if machine.observer is not None:
        _show(machine.observer, inst)
    if arguments is not None:
        outcome = inst.known.outcome(call.peer)
        if outcome is not None and (call.peer == machine.me or _fits(outcome, call, arguments)):
            machine.waiters.forget(inst)
            _use(machine, inst, call, outcome)
            return
    machine.waiters.await_fact(inst)
    if call.peer != machine.me:
        if not inst.known.taken_by(call.peer):
            _send(machine, inst, call.peer, complete=arguments is not None)
    elif arguments is not None:
        _ask(machine, inst, call, arguments)
    if missing is not None:
        raise missing


def _is_volatile(value: Value) -> bool:
    return value.volatile


def _fits(outcome: Outcome, call: Provenance, arguments: tuple[Value, ...]) -> bool:
    """Whether a fact of another peer is about the call that has been come to; a peer never doubts itself.

    Deviation: what came out of an error register is not compared, since it may change, and what does not fit is as if it were not
    there; the reference compares, and ends the run.
    """
    if (outcome.service, outcome.function, len(outcome.arguments)) != (call.service, call.function, len(arguments)):
        return False
    return all(
        value.volatile or value.argument == claimed for value, claimed in zip(arguments, outcome.arguments, strict=True)
    )


def _use(machine: Evaluator, inst: Inst, call: Provenance, outcome: Outcome) -> None:
    if type(outcome) is CallFailure:
        # Deviation: a failed call is incomplete always, also in the run in which the failure arrives.
        machine.fail(inst, errors.service_failed(outcome.status, outcome.message), Completeness.OPEN, call)
        return
    output = inst.node.output
    # Also if nothing is bound: the value has been come to, and nobody reads it.
    whole = machine.knowledge.value(outcome.value)
    if output is not None:
        value = Value(whole.content, (call,), Source.CALL, whole)
        if type(output) is tree.Scalar:
            machine.set(inst, output.name, value)
        else:
            machine.append(inst, output, value)
    inst.status = Completeness.KEEP


def _pass(machine: Evaluator, inst: Inst) -> None:
    """Go on behind a call of which its peer says only that it is answered: arguments and value may be nowhere but there."""
    if machine.observer is not None:
        _show(machine.observer, inst)
    machine.waiters.forget(inst)
    inst.status = Completeness.KEEP


def _show(observer: Observer, inst: Inst) -> None:
    arguments: tuple[Value, ...] | None = inst.child
    shown = None if arguments is None else tuple(value.content for value in arguments)
    observer(inst.id, Visit(inst.node, inst.other, shown))


def _ask(machine: Evaluator, inst: Inst, call: Provenance, arguments: tuple[Value, ...]) -> None:
    if not machine.acting:
        machine.waiters.postpone(inst)
        return
    known = inst.known
    assert known is not None, "it was come to"
    if inst.index or inst.id in machine.in_flight:
        return
    inst.index = 1
    machine.findings.requests.append(
        Request(
            Instance(*inst.id),
            inst.node.at,
            call.service,
            call.function,
            tuple([value.json for value in arguments]),
            tuple([value.origins for value in arguments]),
            tuple([value.argument for value in arguments]),
        )
    )
    if not known.taken_by(machine.me):
        _add(machine, inst, Taken(*inst.id))


def _send(machine: Evaluator, inst: Inst, peer: str, *, complete: bool) -> None:
    if not machine.acting:
        machine.waiters.postpone(inst)
        return
    known = inst.known
    assert known is not None, "it was come to"
    sent = known.sent
    if sent is None or (complete and not sent):
        machine.findings.next_peers[peer] = None
        _add(machine, inst, Sent(*inst.id, complete))


def _add(machine: Evaluator, inst: Inst, fact: CanonFact | Sent | Taken) -> None:
    assert inst.known is not None, "it was come to"
    inst.known.add(fact, machine.me)
    machine.findings.facts.append(fact)


def advance_canon(machine: Evaluator, inst: Inst) -> None:
    """``canon``: use what its peer has fixed, fix it here, send the particle there, or wait; raises as :func:`advance_call`."""
    node: tree.Canon = inst.node
    if inst.known is None:
        inst.other = Provenance(machine.operands.text(node.peer, inst))
        inst.known = machine.knowledge.about(inst.id)
    peer = inst.other.peer
    if machine.observer is not None:
        machine.observer(inst.id, Visit(node, inst.other))
    fact = inst.known.canon(peer)
    if fact is None and peer == machine.me and machine.acting:
        fact = _fix(machine, inst)
    values = () if fact is None else _values(machine, fact)
    if fact is None or not _well_formed(node, values):
        machine.waiters.await_fact(inst)
        if peer == machine.me:
            machine.waiters.postpone(inst)
        else:
            _send(machine, inst, peer, complete=True)
        return
    machine.waiters.forget(inst)
    match node.target:
        case tree.CanonStream(name):
            machine.set(inst, name, CanonStreamValue(peer, values))
        case tree.CanonMap(name):
            machine.set(inst, name, CanonMapValue(peer, values))
        case tree.Scalar(name):
            machine.set(inst, name, Value(values[0].content, (Provenance(peer),), Source.CANON, values[0].root))
    inst.status = Completeness.KEEP


def _values(machine: Evaluator, fact: CanonFact) -> tuple[Value, ...]:
    return tuple(value_of(element, machine.knowledge.value(element.value)) for element in fact.elements)


def _well_formed(node: tree.Canon, values: tuple[Value, ...]) -> bool:
    """Whether a canon has the shape of its target; a lying peer's may not, and is then as if it were not there."""
    match node.target:
        case tree.Scalar():
            return len(values) == 1 and is_object(values[0])
        case tree.CanonMap():
            return all(map(is_pair, values))
        case _:
            return True


def _fix(machine: Evaluator, inst: Inst) -> CanonFact:
    node: tree.Canon = inst.node
    stream = machine.stream(inst.scope.stream(node.source.name), node.source.name)
    entries = stream.visible((*inst.key, BEYOND))
    if type(node.target) is tree.Scalar:
        fixed = [(literal(first_values(entry.value for entry in entries), machine.me), inst.id)]
    else:
        fixed = [(entry.value, entry.writer) for entry in entries]
    try:
        elements = elements_of(fixed)
    except ValueError as error:
        raise errors.unfit_to_fix(node.source.name, str(error)) from error
    contents = {element.value: content for element, content in elements}
    machine.findings.contents.update(contents)
    machine.knowledge.learn(contents)
    fact = CanonFact(*inst.id, tuple(element for element, _ in elements))
    _add(machine, inst, fact)
    return fact
