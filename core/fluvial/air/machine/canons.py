"""What ``canon`` does: use what its peer has fixed; fix it, if that is this peer; else send the particle to that peer."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Final

from fluvial.air.data.content import checking_json
from fluvial.air.data.facts import CanonFact, Element
from fluvial.air.data.partial import Content, Partial
from fluvial.air.machine import errors
from fluvial.air.machine.activations import KEEP, CanonActivation
from fluvial.air.machine.calls import send, write
from fluvial.air.machine.canon_values import CanonMapValue, CanonStreamValue, object_of
from fluvial.air.machine.findings import Visit
from fluvial.air.machine.knowledge import InstanceFacts
from fluvial.air.machine.origins import fixed
from fluvial.air.machine.positions import BEYOND
from fluvial.air.machine.provenance import Provenance
from fluvial.air.machine.runtime import PAUSE_BYTES, Runtime
from fluvial.air.machine.streams import StreamElement
from fluvial.air.machine.values import CANON_SIZE_MAX, Value, key_of
from fluvial.air.syntax import tree

SIZE_PER_SLICE: Final = 262_144
"""Of values that are looked at in a slice, as ``check_json`` counts it: some milliseconds."""


def perform_canon(runtime: Runtime, canon: CanonActivation) -> None:
    """``canon``, in slices: naming what it fixes may take seconds.

    Raises:
        NameNotSet: the name of its peer has no value yet. Catchable, Uncatchable: as the instruction does.
    """
    work = canon.work or _performing(runtime, canon)
    canon.work = None
    for _ in work:
        runtime.take_time(PAUSE_BYTES)
        if runtime.paused:
            canon.work = work
            runtime.agenda.push(canon)  # what stands after it waits, by its position
            return


def _performing(runtime: Runtime, canon: CanonActivation) -> Iterator[None]:
    node = canon.node
    if canon.call is None or canon.known is None:
        canon.call = Provenance(runtime.operands.text(node.peer, canon))
        canon.known = runtime.knowledge.about(canon.id)
    peer, known = canon.call.peer, canon.known
    if runtime.observer is not None:
        runtime.observer(canon.id, Visit(node, canon.call))
    fact = known.canon(peer)
    if fact is None and peer == runtime.me and runtime.acting:
        fact = yield from _fix(runtime, canon, known)
    values = None if fact is None else (yield from fixed(runtime, canon, fact))
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


def _fix(runtime: Runtime, canon: CanonActivation, known: InstanceFacts) -> Generator[None, None, CanonFact]:
    node = canon.node
    stream = runtime.stream(canon.scope.stream(node.source.name), node.source.name)
    entries: Sequence[StreamElement] = stream.visible((*canon.key, BEYOND))
    if type(node.target) is tree.Scalar:
        entries = _first_of_keys(entries)
    try:
        elements, size = yield from naming_elements((entry.value, entry.writer) for entry in entries)
    except ValueError as error:
        raise errors.unfit_to_fix(node.source.name, str(error)) from error
    runtime.take_time(size)
    contents = {element.value: content for element, content in elements}
    runtime.findings.contents.update(contents)
    yield from runtime.knowledge.learning(contents)
    fact = CanonFact(*canon.id, tuple(element for element, _ in elements))
    write(runtime, known, fact)
    return fact


def naming_elements(
    values: Iterable[tuple[Value, tuple[bytes, int]]],
) -> Generator[None, None, tuple[list[tuple[Element, Content]], int]]:
    """How a canon's fact names what it fixes, in order, each with what is known of it; and the size of all, as ``check_json`` counts it. In slices.

    Args:
        values: each with the instance that wrote it.

    Raises:
        ValueError: values that other peers refuse. Canons of canons double a value, or nest it deeper, with every step.
        MissingError: a value was put together from others of which not all is here.
    """
    elements: list[tuple[Element, Content]] = []
    size = paused = 0
    for value, writer in values:
        content = value.root.content_at(value.path)
        if isinstance(content, Partial) and content.id is not None:
            key = content.id
        else:
            content = value.json
            size += yield from checking_json(content, CANON_SIZE_MAX)
            if size > CANON_SIZE_MAX:
                raise ValueError(f"its values are larger than {CANON_SIZE_MAX} together")
            if size - paused > SIZE_PER_SLICE:
                paused = size
                yield
            key = yield from value.naming()
        elements.append((Element(key, *writer), content))
    return elements, size
