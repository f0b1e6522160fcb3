"""Which values the rest of a flow still needs: what may be left out of a delivery is what no other peer can come to read any more.

A peer that gets the particle repeats the evaluation; so it needs, of every value, what has decided anything so far (noted on the values
while they are evaluated: ``values.RootValue``), and what instructions that have not had their turn can read. Those are found from the instances that
wait: what they read themselves, and what stands behind them in the instances around them. A fold over a stream may get more elements
at any time, so its body always counts.

The analysis may keep too much, never too little; should a peer need more nevertheless, it asks for it by id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from fluvial.air.data.content import ContentId
from fluvial.air.data.partial import Content, Level, Mask, Partial
from fluvial.air.machine.errors import Catchable, NameNotSet
from fluvial.air.machine.exchange import Needs
from fluvial.air.machine.instances import Completeness, Inst
from fluvial.air.machine.reads import Reads, reads_of, region
from fluvial.air.machine.scopes import Scope
from fluvial.air.machine.values import CanonMapValue, CanonStreamValue, Composite, Path, Value
from fluvial.air.syntax import tree

if TYPE_CHECKING:
    from fluvial.air.machine.evaluator import Evaluator


class LivenessAnalysis:
    """What is needed of the large values that an evaluator at rest knows; found once for all peers.

    A call that its peer has begun with needs nothing more, but for that peer itself.
    """

    def __init__(self, machine: Evaluator) -> None:
        self._machine = machine
        self._begun: dict[str, list[Inst]] = {}
        knowledge = machine.knowledge
        self._large = frozenset(knowledge.large)
        self._masks: Mapping[ContentId, Mask] = {}
        if self._large:
            search = _Search(machine, knowledge.noted())
            search.run(self._begun)
            self._masks = search.masks

    def of(self, peer: str) -> Needs:
        """What a peer needs that will get the particle."""
        masks = self._masks
        if self._large and peer in self._begun:
            search = _Search(self._machine, {key: mask.copy() for key, mask in masks.items()})
            search.waiting(self._begun[peer])
            masks = search.masks
        return Needs(self._large, masks)


class _Search:
    def __init__(self, machine: Evaluator, masks: dict[ContentId, Mask]) -> None:
        self.masks = masks
        self._machine = machine
        self._script: Reads = reads_of(machine.script)
        self._contested = machine.plan.contested
        self._seen: set[object] = set()

    def run(self, begun: dict[str, list[Inst]]) -> None:
        """Go through all that can still happen; calls that their peers have begun with are put aside."""
        for inst in self._machine.waiters.waiting():
            if _is_begun(inst):
                begun.setdefault(inst.other.peer, []).append(inst)
            else:
                self.waiting([inst])
            self._around(inst)
        for stream in self._machine.streams.values():
            for inst in stream.folds():
                self._body(inst.node, inst.scope, [element.value for element in stream.elements()])
                self._around(inst)

    # --- instances

    def waiting(self, insts: Iterable[Inst]) -> None:
        """What these read themselves."""
        for inst in insts:
            self._region(inst.scope, inst.node.number, self._script.end_of[inst.node.number])

    def _around(self, inst: Inst) -> None:
        """What can have its turn behind an instance."""
        now = inst.parent
        while now is not None and now not in self._seen:
            self._seen.add(now)
            node = now.node
            if now.status is Completeness.OPEN and type(node) is tree.Seq and now.index + 1 < len(node.children):
                self._region(now.scope, node.children[now.index + 1].number, self._script.end_of[node.number])
            elif now.status is Completeness.OPEN and type(node) is tree.Xor and now.other is None:
                self._region(now.scope, node.right.number, self._script.end_of[node.number])
            now = now.parent

    # --- stretches of the script

    def _region(self, scope: Scope, first: int, last: int) -> None:
        """Instructions from one number to another can have their turn in a scope."""
        inside = region(self._script, first, last)
        for name, path in inside.reads:
            self._read(scope, name, path)
        for iterator in inside.onward:
            self._onward(scope, iterator)

    def _onward(self, scope: Scope, iterator: str) -> None:
        """A fold can go on to its next element, or to its last instruction. Further elements of streams are looked at by themselves."""
        iteration = scope.find_iteration(iterator)
        if iteration is None:
            return
        traversal = iteration.traversal
        fold = traversal.fold
        if fold.last is not None and self._first_time(id(scope), fold.number):
            self._region(scope, fold.last.number, self._script.end_of[fold.number])
        if not traversal.of_stream and self._first_time(id(traversal.scope), fold.number, iteration.index):
            rest = [value for _, value in traversal.elements[iteration.index + 1 :]]
            self._body(fold, traversal.scope, rest)

    def _first_time(self, *mark: int) -> bool:
        if mark in self._seen:
            return False
        self._seen.add(mark)
        return True

    def _body(self, fold: tree.Fold, scope: Scope, elements: list[Value]) -> None:
        """The body of a fold can have its turn for some elements."""
        first, last = fold.body.number, self._script.end_of[fold.number]
        for name, path in region(self._script, first, last).reads:
            if name == fold.iterator:
                for element in elements:
                    self._value(element, scope, path)
        self._region(scope, first, last)

    # --- names

    def _read(self, scope: Scope, name: str, path: tree.Lambda | None) -> None:
        if name.startswith(("$", "%")):
            stream = self._machine.streams.get(scope.stream(name))
            if stream is not None and self._first_time(id(stream)):
                for element in stream.elements():
                    self._need(element.value, (), Level.WHOLE)
            return
        for bound in scope.meanings(name):
            match bound:
                case Value():
                    self._value(bound, scope, path)
                case CanonStreamValue():
                    self._elements(bound, scope, path)
                case CanonMapValue():
                    if type(path) is not tree.Length and self._first_time(id(bound)):
                        for pair in bound.pairs:
                            self._need(pair, (), Level.WHOLE)

    def _elements(self, canon: CanonStreamValue, scope: Scope, path: tree.Lambda | None) -> None:
        if type(path) is tree.Length:
            return
        elements = canon.elements
        if path is not None and type(path.accessors[0]) is tree.Index:
            index = path.accessors[0].index
            elements = elements[index : index + 1]
            path = tree.Path(path.accessors[1:]) if len(path.accessors) > 1 else None
        elif not self._first_time(id(canon)):
            return
        else:
            path = None
        for element in elements:
            self._value(element, scope, path)

    def _value(self, value: Value, scope: Scope, path: tree.Lambda | None) -> None:
        if type(path) is tree.Length:
            self._need(value, (), Level.SIZE if isinstance(value.content, list | Partial) else Level.WHOLE)
        else:
            self._need(value, () if path is None else tuple(self._steps(path, scope)), Level.WHOLE)

    def _steps(self, path: tree.Path, scope: Scope) -> Iterator[str | int]:
        """The steps of a path, as far as they are known for certain."""
        for accessor in path.accessors:
            match accessor:
                case tree.Field(name):
                    yield name
                case tree.Index(index):
                    yield index
                case tree.ByName(name):
                    try:
                        key = None if name in self._contested else scope.scalar(name).content
                    except (NameNotSet, Catchable):
                        return
                    if not isinstance(key, str | int):
                        return
                    yield key

    def _need(self, value: Value, path: Path, level: Level) -> None:
        root = value.root
        if isinstance(root, Composite):
            for member, rest, of_it in root.asked_for(value.path + path, level):
                self._need(member, rest, of_it)
        elif root.mask is not None and _leads_somewhere(root.content_at(value.path), path):
            self.masks.setdefault(root.id, Mask()).add(value.path + path, level)
        elif root.mask is not None:
            # There will be an error, which shows the value.
            self.masks.setdefault(root.id, Mask()).add(value.path, Level.WHOLE)


def _is_begun(inst: Inst) -> bool:
    """Whether the peer of a call has begun with it, so that it has the arguments.

    That somebody has sent the particle there is not enough: it may be overtaken, or never arrive.
    """
    return type(inst.node) is tree.CallInstruction and inst.known is not None and inst.known.taken_by(inst.other.peer)


def _leads_somewhere(content: Content, path: Path) -> bool:
    """Whether there is a part to which a path leads; as far as that is known."""
    for step in path:
        if isinstance(content, Partial):
            return True
        if isinstance(step, str):
            fits = isinstance(content, dict) and step in content
        else:
            fits = isinstance(content, list) and 0 <= step < len(content)
        if not fits:
            return False
        content = content[step]
    return True
