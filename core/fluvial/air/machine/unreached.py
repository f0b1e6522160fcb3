"""What instructions write that had no turn here yet, but on another peer.

A fold over a stream visits elements in the local order, each when the body for the one before is complete. So another peer may have visited an
element that has no turn here yet; if the body waits for a canon of that peer, it never has one. What the body writes is found here without
the turn: from the iterator, literals, names from outside of the fold, and what calls and ``ap`` in the body have set. Bodies that have to
read a canon or an inner fold are not looked into.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Final, cast

from fluvial.air.data.facts import Result, iteration_frame, written_element
from fluvial.air.data.pace import Found, SlicePace
from fluvial.air.machine.activations import StreamFoldActivation
from fluvial.air.machine.calls import fits
from fluvial.air.machine.errors import Catchable, NameNotSet
from fluvial.air.machine.positions import iteration_place
from fluvial.air.machine.provenance import Source
from fluvial.air.machine.runtime import Runtime
from fluvial.air.machine.scopes import Iteration, StreamKey, Traversal, Viewpoint
from fluvial.air.machine.streams import StreamElement
from fluvial.air.machine.values import Value
from fluvial.air.machine.writers import writers_of
from fluvial.air.syntax import tree

NAMES_MAX: Final = 32
"""Names of one body that are looked for, each inside the search for the one before."""


class Unreached:
    """Finds what was written in iterations of folds over streams that did not begin here.

    Args:
        runtime: of the particle; nothing in it changes, but what is looked at counts as work.
        stream: the stream or stream map that is of interest.
        frames: those of the instances that are asked for.
        pace: when slices end.
    """

    def __init__(self, runtime: Runtime, stream: StreamKey, frames: Callable[[], Set[bytes]], pace: SlicePace) -> None:
        self._runtime: Final = runtime
        self._stream: Final = stream
        self._wanted: Final = frames
        self._pace: Final = pace
        self._writers: Final = writers_of(runtime.script)
        self._frames: dict[int, dict[bytes, tuple[StreamFoldActivation, StreamElement]]] = {}

    def writing(self, writer: tuple[bytes, int]) -> Found[Value | None]:
        """What an instance has written to the stream, in slices; None if that does not follow from what is known here. Raises as :meth:`Runtime.spend`."""
        frame, number = writer
        fold = self._writers.fold[number]
        if fold is None or (viewpoint := (yield from self._viewpoint(fold, frame, number))) is None:
            return None
        node = self._runtime.plan.nodes[number]
        target = node.output if type(node) is tree.CallInstruction else cast(tree.Ap | tree.ApMap, node).target
        if viewpoint.scope.stream(cast(tree.Stream, target).name) != self._stream:
            return None
        try:
            return (yield from self._value(node, frame, viewpoint, set()))
        except Catchable:
            return None

    def _viewpoint(self, fold: tree.Fold, frame: bytes, number: int) -> Found[Viewpoint | None]:
        """What the instruction sees in the iteration with this frame, if there is one for an element that is known here."""
        if (frames := self._frames.get(fold.number)) is None:
            frames = self._frames[fold.number] = yield from self._frames_of(fold)
        if (found := frames.get(frame)) is None:
            return None
        around, element = found
        base, begin = around.place.frame, (*around.key, 1, element.generation)
        traversal = Traversal(fold, (element.value,), (written_element(element.writer),), base, begin, around.scope)
        scope = around.scope.iterate(Iteration(fold.iterator, element.value, traversal, 0, frame))
        place = iteration_place(frame, begin, 0, self._runtime.plan.next_of[fold.number])
        return Viewpoint(place.key(number), scope)

    def _frames_of(self, fold: tree.Fold) -> Found[dict[bytes, tuple[StreamFoldActivation, StreamElement]]]:
        frames: dict[bytes, tuple[StreamFoldActivation, StreamElement]] = {}
        wanted = self._wanted()
        for stream in tuple(self._runtime.streams.values()):
            for around in stream.folds():
                if self._pace.over():
                    yield
                if around.node is fold:
                    elements = stream.elements()
                    self._runtime.spend(len(elements))
                    for element in elements:
                        name = written_element(element.writer)
                        frame = iteration_frame(around.place.frame, fold.number, name)
                        if frame in wanted:
                            frames[frame] = around, element
                        if self._pace.over():
                            yield
        return frames

    def _value(
        self, node: tree.Instruction, frame: bytes, viewpoint: Viewpoint, sought: set[str]
    ) -> Found[Value | None]:
        """What an instruction sets or writes; ``sought`` are the names that were looked for. Raises Catchable."""
        operands = (name for operand in tree.operands(node) for name in tree.names_in(operand))
        if not self._runtime.plan.contested.isdisjoint(operands):
            return None
        while True:
            if self._pace.over(1 + len(tree.operands(node))):
                yield
            try:
                return self._made(node, frame, viewpoint)
            except NameNotSet as missing:
                setter = self._writers.setter.get(missing.name)
                if setter is None or missing.name in sought or len(sought) >= NAMES_MAX:
                    return None
                if self._writers.fold[setter.number] is not self._writers.fold[node.number]:
                    return None
                sought.add(missing.name)
                if (value := (yield from self._value(setter, frame, viewpoint, sought))) is None:
                    return None
                viewpoint.scope.set(missing.name, value)

    def _made(self, node: tree.Instruction, frame: bytes, viewpoint: Viewpoint) -> Value | None:
        operands, knowledge = self._runtime.operands, self._runtime.knowledge
        if type(node) is tree.Ap:
            return operands.to_bind(node.argument, viewpoint)
        if type(node) is tree.ApMap:
            key = operands.map_key(node.key, viewpoint, node.target.name)
            return operands.to_bind(node.argument, viewpoint).as_pair(key)
        if type(node) is not tree.CallInstruction:
            return None
        call = operands.call(node, viewpoint)
        arguments = tuple([operands.value(operand, viewpoint) for operand in node.arguments])
        outcome = knowledge.about((frame, node.number)).outcome(call.peer)
        if type(outcome) is not Result or not fits(outcome, call, arguments):
            return None
        root = knowledge.value(outcome.value)
        return Value(root.content, (call,), Source.CALL, root)
