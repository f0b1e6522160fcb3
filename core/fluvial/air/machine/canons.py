"""What ``canon`` does: use what its peer has fixed; fix it, if that is this peer; else send the particle to that peer."""

from __future__ import annotations

from fluvial.air.data.facts import CanonFact, Provenance, Source
from fluvial.air.machine import errors
from fluvial.air.machine.activations import KEEP, CanonActivation
from fluvial.air.machine.calls import send, write
from fluvial.air.machine.findings import Visit
from fluvial.air.machine.knowledge import InstanceFacts
from fluvial.air.machine.positions import BEYOND
from fluvial.air.machine.runtime import Runtime
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


def perform_canon(runtime: Runtime, canon: CanonActivation) -> None:
    """``canon``.

    Raises:
        NameNotSet: the name of its peer has no value yet. Catchable, Uncatchable: as the instruction does.
    """
    node = canon.node
    if canon.call is None or canon.known is None:
        canon.call = Provenance(runtime.operands.text(node.peer, canon))
        canon.known = runtime.knowledge.about(canon.id)
    peer, known = canon.call.peer, canon.known
    if runtime.observer is not None:
        runtime.observer(canon.id, Visit(node, canon.call))
    fact = known.canon(peer)
    if fact is None and peer == runtime.me and runtime.acting:
        fact = _fix(runtime, canon, known)
    values = () if fact is None else _values(runtime, fact)
    if fact is None or not _well_formed(node, values):
        runtime.waiters.await_fact(canon)
        if peer == runtime.me:
            runtime.waiters.postpone(canon)
        else:
            send(runtime, canon, peer, known, complete=True)
        return
    runtime.waiters.forget(canon)
    match node.target:
        case tree.CanonStream(name):
            runtime.set(canon, name, CanonStreamValue(peer, values))
        case tree.CanonMap(name):
            runtime.set(canon, name, CanonMapValue(peer, values))
        case tree.Scalar(name):
            runtime.set(canon, name, Value(values[0].content, (Provenance(peer),), Source.CANON, values[0].root))
    canon.status = KEEP


def _values(runtime: Runtime, fact: CanonFact) -> tuple[Value, ...]:
    runtime.charge(len(fact.elements))
    return tuple(value_of(element, runtime.knowledge.value(element.value)) for element in fact.elements)


def _well_formed(node: tree.Canon, values: tuple[Value, ...]) -> bool:
    """Whether a canon has the shape of its target. That of a lying peer may not have it, and then counts as missing."""
    match node.target:
        case tree.Scalar():
            return len(values) == 1 and is_object(values[0])
        case tree.CanonMap():
            return all(map(is_pair, values))
        case _:
            return True


def _fix(runtime: Runtime, canon: CanonActivation, known: InstanceFacts) -> CanonFact:
    node = canon.node
    stream = runtime.stream(canon.scope.stream(node.source.name), node.source.name)
    entries = stream.visible((*canon.key, BEYOND))
    if type(node.target) is tree.Scalar:
        fixed = [(literal(first_values(entry.value for entry in entries), runtime.me), canon.id)]
    else:
        fixed = [(entry.value, entry.writer) for entry in entries]
    try:
        elements = elements_of(fixed)
    except ValueError as error:
        raise errors.unfit_to_fix(node.source.name, str(error)) from error
    contents = {element.value: content for element, content in elements}
    runtime.findings.contents.update(contents)
    runtime.knowledge.learn(contents)
    fact = CanonFact(*canon.id, tuple(element for element, _ in elements))
    write(runtime, known, fact)
    return fact
