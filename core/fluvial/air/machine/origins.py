"""Where the elements of a canon come from: computed from signed facts, never claimed.

The fact of a canon names for each element the instance that wrote it, and the id of the value. Everybody finds out what that instance has written,
and where that comes from: it is a call, whose result its own peer has signed, or an ``ap``, whose operand follows from such results
and from the script. So the peer of a canon decides which elements there are and in which order, and nothing else. A canon with
an element that does not follow does not count; it waits, since what is missing may come.

Two kinds of values are the word of the canon's peer, and have it as their origin. What was read from an error register may be something else here;
if it is, the value is taken as that peer says. And the length of something canonicalised was counted by that peer.
"""

from __future__ import annotations

from collections.abc import Generator

from msgspec.structs import replace

from fluvial.air.data.content import checking_json
from fluvial.air.data.facts import CanonFact, Element
from fluvial.air.data.pace import SlicePace
from fluvial.air.data.partial import Partial
from fluvial.air.machine.activations import CanonActivation
from fluvial.air.machine.provenance import Provenance, Source
from fluvial.air.machine.runtime import Runtime
from fluvial.air.machine.unreached import Unreached
from fluvial.air.machine.values import CANON_SIZE_MAX, Composite, Value, is_pair
from fluvial.air.syntax import tree


def fixed(runtime: Runtime, canon: CanonActivation, fact: CanonFact) -> Generator[None, None, tuple[Value, ...] | None]:
    """The values that a canon has fixed, with their origins, in slices; None if they do not follow from what is known here so far.

    Raises:
        MissingError: of a value so little is here that not even its id is known.
    """
    name, values = canon.node.source.name, canon.proven
    key, begun, many = canon.scope.stream(name), len(values), len(fact.elements)
    stream, pace = runtime.stream(key, name), SlicePace()
    unreached = Unreached(runtime, key, lambda: {element.frame for element in fact.elements}, pace)
    while len(values) < many:
        element = fact.elements[len(values)]
        writer = (element.frame, element.node)
        written = stream.written_by(writer) or (yield from unreached.writing(writer))
        if written is None:
            runtime.waiters.await_element(canon, key, writer)
            break
        yield from written.noting_id(pace)
        if pace.over():
            yield
        if (value := (yield from _proven(runtime, canon, element, written))) is None:
            break
        values.append(value)
    runtime.charge(len(values) - begun)
    return tuple(values) if len(values) == many else None


def _proven(
    runtime: Runtime, canon: CanonActivation, element: Element, written: Value
) -> Generator[None, None, Value | None]:
    """The value of an element, if its writer has written that; a peer does not doubt itself."""
    peer, root = canon.peer, runtime.knowledge.value(element.value)
    origin, source = written.origins[0], written.source
    if peer != runtime.me and (
        not (yield from _is_in_limits(canon, written)) or (yield from written.naming()) != element.value
    ):
        if written.volatile:
            origin, source = Provenance(peer), Source.LITERAL
        elif not _is_other_result(runtime, element, origin):
            return None
    if source is Source.COUNTED:
        origin, source = replace(origin, peer=peer), Source.CANON
    value = Value(root.content, (origin,), source, root)
    fits = type(canon.node.source) is tree.Stream or is_pair(value)
    return value if fits else None


def _is_in_limits(canon: CanonActivation, written: Value) -> Generator[None, None, bool]:
    """Whether an honest peer could have fixed it: the ids of what is put together cost each time, and canons are limited for that."""
    if type(written.root) is Composite and not isinstance(written.root.content, Partial):
        try:
            canon.size += yield from checking_json(written.root.content, CANON_SIZE_MAX - canon.size)
        except ValueError:
            return False
    return True


def _is_other_result(runtime: Runtime, element: Element, call: Provenance) -> bool:
    """Whether the peer of the call that wrote an element has signed more than one result, and the canon's peer met this one first."""
    about = runtime.knowledge.about((element.frame, element.node))
    other = (call.peer, call.service, call.function, element.value)
    return type(runtime.plan.nodes[element.node]) is tree.CallInstruction and other in about.others
