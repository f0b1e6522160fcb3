"""What ``canon`` does: use what its peer has fixed; fix it, if that is this peer; else send the particle to that peer."""

from __future__ import annotations

from collections.abc import Sequence

from fluvial.air.data.facts import CanonFact
from fluvial.air.machine import errors
from fluvial.air.machine.activations import KEEP, CanonActivation
from fluvial.air.machine.calls import send, write
from fluvial.air.machine.findings import Visit
from fluvial.air.machine.knowledge import InstanceFacts
from fluvial.air.machine.origins import fixed
from fluvial.air.machine.positions import BEYOND
from fluvial.air.machine.provenance import Provenance
from fluvial.air.machine.runtime import Runtime
from fluvial.air.machine.streams import StreamElement
from fluvial.air.machine.values import CanonMapValue, CanonStreamValue, elements_of, key_of, object_of
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
    values = None if fact is None else fixed(runtime, canon, fact)
    if values is None:
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
            runtime.set(canon, name, object_of(values, peer))
    canon.status = KEEP


def _first_of_keys(entries: Sequence[StreamElement]) -> Sequence[StreamElement]:
    """The first pair of each key; ``5`` and ``"5"`` are one."""
    found: dict[str, StreamElement] = {}
    for entry in entries:
        found.setdefault(str(key_of(entry.value)), entry)
    return list(found.values())


def _fix(runtime: Runtime, canon: CanonActivation, known: InstanceFacts) -> CanonFact:
    node = canon.node
    stream = runtime.stream(canon.scope.stream(node.source.name), node.source.name)
    entries: Sequence[StreamElement] = stream.visible((*canon.key, BEYOND))
    if type(node.target) is tree.Scalar:
        entries = _first_of_keys(entries)
    try:
        elements, size = elements_of((entry.value, entry.writer) for entry in entries)
    except ValueError as error:
        raise errors.unfit_to_fix(node.source.name, str(error)) from error
    runtime.take_time(size)
    contents = {element.value: content for element, content in elements}
    runtime.findings.contents.update(contents)
    runtime.knowledge.learn(contents)
    fact = CanonFact(*canon.id, tuple(element for element, _ in elements))
    write(runtime, known, fact)
    return fact
