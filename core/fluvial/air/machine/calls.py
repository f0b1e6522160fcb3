"""What ``call`` does while the fact that it needs is not there, and what it does with the fact.

A call of this peer asks the service. A call of another peer names that peer as one that the particle must go to, unless somebody has sent
the particle there already:

- All arguments are known, and nobody has written a complete ``sent``: send, and write ``sent`` (complete).
- An argument is unknown, and nobody has written any ``sent``: send, and write ``sent`` (not complete). That peer collects what it needs.

Deviation: whoever learns the last argument sends once more. In the reference nobody does, and such flows stand still.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fluvial.air.data.facts import CallFailure, CanonFact, Instance, Outcome, Sent, Taken
from fluvial.air.machine import errors
from fluvial.air.machine.activations import KEEP, OPEN, CallActivation, FactActivation
from fluvial.air.machine.errors import Catchable, NameNotSet
from fluvial.air.machine.findings import Observer, Request, Visit
from fluvial.air.machine.knowledge import InstanceFacts
from fluvial.air.machine.operands import LINKS_PER_STEP, SHALLOW
from fluvial.air.machine.provenance import Provenance, Source
from fluvial.air.machine.runtime import PAUSE_BYTES, Runtime
from fluvial.air.machine.values import Composite, Value
from fluvial.air.syntax import tree

FEW: Final = 8
"""Arguments that are read without looking whether the slice is over."""


def perform_call(runtime: Runtime, call: CallActivation) -> None:
    """``call``: use its outcome if there is one that fits; else ask the service, send the particle on, or wait.

    Raises:
        NameNotSet: a name has no value yet. Catchable, Uncatchable: as the instruction does.
    """
    if call.call is None or call.known is None:
        node: tree.CallInstruction = call.node
        call.call = runtime.operands.call(node, call)
        call.known = runtime.knowledge.about(call.id)
        if type(node.output) is tree.Scalar:
            runtime.claim(call, node.output.name)
    triplet, known = call.call, call.known
    if known.closed and known.closed_by(triplet.peer):
        _pass(runtime, call, triplet)
        return
    missing: NameNotSet | None = None
    if (
        call.arguments is None
        or call.read is not None
        or (not call.asked and runtime.plan.reads_errors and _is_volatile(call.arguments))
    ):
        # Until the service is asked, what an error register holds may still change.
        try:
            if (read := _arguments(runtime, call)) is None:
                return
            call.arguments = read
        except NameNotSet as unset:
            missing = unset
        except Catchable as error:
            # Deviation: the reference takes what was sent for this call for what was sent for the next call that is reached.
            runtime.waiters.forget(call)
            runtime.fail(call, error, call=triplet)
            return
    if runtime.observer is not None:
        _show(runtime.observer, call, triplet)
    arguments = call.arguments
    if arguments is not None:
        outcome = known.outcome(triplet.peer)
        if (outcome is not None or triplet.peer == runtime.me) and not _are_named(runtime, call, arguments):
            return
        if outcome is not None and (triplet.peer == runtime.me or fits(outcome, triplet, arguments)):
            runtime.waiters.forget(call)
            _use(runtime, call, triplet, outcome)
            return
    runtime.waiters.await_fact(call)
    if triplet.peer != runtime.me:
        if not known.taken_by(triplet.peer):
            send(runtime, call, triplet.peer, known, complete=arguments is not None)
    elif arguments is not None:
        _ask(runtime, call, triplet, known, arguments)
    if missing is not None:
        raise missing


def _arguments(runtime: Runtime, call: CallActivation) -> tuple[Value, ...] | None:
    """The arguments of a call; raises as :meth:`Operands.value`. None if the slice is over before: the call has another turn.

    Each counts as work before it is read: there may be many before the one that has no value yet.
    """
    operands = call.node.arguments
    if not operands:
        return ()
    spend, value = runtime.spend, runtime.operands.value
    many = len(operands) > FEW or call.scope.depth > SHALLOW
    if not many:
        spend(len(operands))
    read, call.read = call.read or [], None
    for operand in operands[len(read) :] if read else operands:
        if many:
            spend(1)
        argument = value(operand, call)
        read.append(argument)
        if (elements := len(argument.origins)) > 1:
            spend(elements - 1)
        if many and len(read) < len(operands) and _is_paused(runtime):
            call.read = read
            runtime.agenda.push(call)  # what stands after it waits, by its position
            return None
    return tuple(read)


def _is_paused(runtime: Runtime) -> bool:
    if runtime.operands.links >= LINKS_PER_STEP:
        runtime.pay_links()
    return runtime.paused


def _is_volatile(arguments: tuple[Value, ...]) -> bool:
    return any(value.volatile for value in arguments)


def fits(outcome: Outcome, call: Provenance, arguments: tuple[Value, ...]) -> bool:
    """Whether a fact of another peer is about the call that was reached; a peer never doubts itself.

    Deviation: what came out of an error register is not compared, since it may change, and a fact that does not fit counts as missing. The
    reference compares everything, and ends the run.
    """
    if (outcome.service, outcome.function, len(outcome.arguments)) != (call.service, call.function, len(arguments)):
        return False
    return all(
        value.volatile or value.argument == claimed for value, claimed in zip(arguments, outcome.arguments, strict=True)
    )


def _are_named(runtime: Runtime, call: CallActivation, arguments: tuple[Value, ...]) -> bool:
    """Whether facts can name the arguments without going through large values; if not, that is begun or gone on with, and the call has another turn."""
    if call.work is None and all(map(_has_name, arguments)):
        return True
    work = call.work or _naming(arguments)
    call.work = None
    for _ in work:
        runtime.take_time(PAUSE_BYTES)
        if runtime.paused:
            call.work = work
            runtime.agenda.push(call)  # what stands after it waits, by its position
            return False
    return True


def _has_name(value: Value) -> bool:
    root = value.root
    return type(root) is not Composite or root.has_name


def _naming(arguments: tuple[Value, ...]) -> Iterator[None]:
    for value in arguments:
        if isinstance(root := value.root, Composite):
            yield from root.naming_members()


def _use(runtime: Runtime, call: CallActivation, triplet: Provenance, outcome: Outcome) -> None:
    if type(outcome) is CallFailure:
        # Deviation: a failed call is incomplete always, also in the run in which the failure arrives.
        runtime.fail(call, errors.service_failed(outcome.status, outcome.message), OPEN, triplet)
        return
    output = call.node.output
    # Looked up also if nothing is bound: the value was reached, and nobody reads it.
    root = runtime.knowledge.value(outcome.value)
    if output is not None:
        value = Value(root.content, (triplet,), Source.CALL, root)
        if type(output) is tree.Scalar:
            runtime.set(call, output.name, value)
        else:
            runtime.append(call, output, value)
    call.status = KEEP


def _pass(runtime: Runtime, call: CallActivation, triplet: Provenance) -> None:
    """Go on after a call of which its peer says only that it is answered: other peers may have neither arguments nor value."""
    if runtime.observer is not None:
        _show(runtime.observer, call, triplet)
    runtime.waiters.forget(call)
    call.status = KEEP


def _show(observer: Observer, call: CallActivation, triplet: Provenance) -> None:
    shown = None if call.arguments is None else tuple(value.content for value in call.arguments)
    observer(call.id, Visit(call.node, triplet, shown))


def _ask(
    runtime: Runtime, call: CallActivation, triplet: Provenance, known: InstanceFacts, arguments: tuple[Value, ...]
) -> None:
    if not runtime.acting:
        runtime.waiters.postpone(call)
        return
    instance = Instance(*call.id)
    if call.asked or instance in runtime.in_flight:
        return
    call.asked = True
    runtime.findings.requests.append(
        Request(
            instance,
            call.node.at,
            triplet.service,
            triplet.function,
            tuple([value.json for value in arguments]),
            tuple([value.origins for value in arguments]),
            tuple([value.argument for value in arguments]),
        )
    )
    if not known.taken_by(runtime.me):
        write(runtime, known, Taken(*instance))


def send(runtime: Runtime, activation: FactActivation, peer: str, known: InstanceFacts, *, complete: bool) -> None:
    """Send the particle to the peer of a call or canon, unless somebody has; later, if the evaluator may not act now.

    Args:
        runtime: of the particle.
        activation: the call or canon.
        peer: its peer, another one than this.
        known: what is known about it.
        complete: whether all arguments are known here.
    """
    if not runtime.acting:
        runtime.waiters.postpone(activation)
        return
    if known.sent is None or (complete and not known.sent):
        runtime.findings.next_peers[peer] = None
        write(runtime, known, Sent(*activation.id, complete))


def write(runtime: Runtime, known: InstanceFacts, fact: CanonFact | Sent | Taken) -> None:
    """Add a fact of this peer."""
    known.add(fact, runtime.me)
    runtime.knowledge.count(fact)
    runtime.findings.facts.append(fact)
