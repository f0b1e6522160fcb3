"""Which values the rest of a flow still needs: what may be left out of a delivery is what no other peer can come to read any more.

A peer that gets the particle repeats the evaluation; so it needs, of every value, what has decided anything so far (noted on the values
while they are evaluated: ``values.RootValue``), and what instructions that have not had their turn can read. Those are found from the instances that
wait: what they read themselves, and what stands behind them in the instances around them. A fold over a stream may get more elements
at any time, so its body always counts.

The analysis may keep too much, never too little; should a peer need more nevertheless, it asks for it by id. Where it would have to look at too
much, everything is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from fluvial.air.data.content import JSON_DEPTH_MAX, ContentId
from fluvial.air.data.pace import Found, SlicePace
from fluvial.air.data.partial import Content, Level, Mask, Partial
from fluvial.air.machine.activations import FAILED, OPEN, Activation, CallActivation, SeqActivation, XorActivation
from fluvial.air.machine.canon_values import CanonMapValue, CanonStreamValue
from fluvial.air.machine.errors import Catchable, NameNotSet
from fluvial.air.machine.exchange import Needs
from fluvial.air.machine.reads import Reads, reads_of, region
from fluvial.air.machine.runtime import Runtime
from fluvial.air.machine.scopes import Scope
from fluvial.air.machine.values import Composite, Path, Value, can_be_left_out
from fluvial.air.syntax import tree

NEEDS: Final = 1_000
"""Stretches, names and values looked at in a slice: a few milliseconds."""
LOOKED_AT_MAX: Final = 250_000
"""Stretches, names and values that one analysis looks at: half a second, and 50 MB. A script of a few hundred thousand bytes could have it look at millions."""
LINKS_OF_A_LOOK: Final = 16
"""So many links of scopes are gone through in the time of a look."""


class _TooMuchError(Exception):
    """An analysis would look at more than :data:`LOOKED_AT_MAX`."""


class LivenessAnalysis:
    """What is needed of the large values that an evaluator at rest knows; found once for all peers.

    A call that its peer has begun with needs nothing more, but for that peer itself.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._begun: dict[str, list[CallActivation]] = {}
        self._large = frozenset(runtime.knowledge.large)
        self._masks: Mapping[ContentId, Mask] | None = None

    def of(self, peer: str) -> Found[Needs]:
        """What a peer needs that will get the particle, found in slices."""
        if self._masks is None:
            yield from self._find()
        masks = self._masks or {}
        if self._large and peer in self._begun:
            own: dict[ContentId, Mask] = {}
            pace = SlicePace()
            for key, mask in masks.items():
                own[key] = yield from mask.copying(pace)
            masks = yield from self._searched(own, lambda search: search.waiting(self._begun[peer]))
        return Needs(self._large, masks)

    def _find(self) -> Iterator[None]:
        masks: Mapping[ContentId, Mask] = {}
        if self._large:
            noted = yield from self._runtime.knowledge.noting()
            masks = yield from self._searched(noted, lambda search: search.run(self._begun))
        self._masks = masks

    def _searched(
        self, masks: dict[ContentId, Mask], look: Callable[[_Search], Iterator[None]]
    ) -> Found[Mapping[ContentId, Mask]]:
        """These masks, with what a search finds; all, if that is too much to look at."""
        try:
            yield from look(_Search(self._runtime, masks))
        except _TooMuchError:
            return dict.fromkeys(self._large, Mask(Level.WHOLE))
        return masks


class _Looks:
    """Counts what is looked at."""

    __slots__ = ("_all", "_left")

    def __init__(self) -> None:
        self._all = LOOKED_AT_MAX
        self._left = NEEDS

    def over(self, looks: int = 1) -> bool:
        """Whether the slice is over, and another one begins. Raises _TooMuchError."""
        self._left -= looks
        if self._left > 0:
            return False
        self._all -= NEEDS - self._left
        self._left = NEEDS
        if self._all < 0:
            raise _TooMuchError
        return True


class _Search:
    def __init__(self, runtime: Runtime, masks: dict[ContentId, Mask]) -> None:
        self.masks = masks
        self._runtime = runtime
        self._script: Reads = reads_of(runtime.script)
        self._contested = runtime.plan.contested
        self._seen: set[object] = set()
        self._look: Final = _Looks().over

    def run(self, begun: dict[str, list[CallActivation]]) -> Iterator[None]:
        """Go through all that can still happen; calls that their peers have begun with are put aside."""
        waiters = self._runtime.waiters
        for activation in (*waiters.waiting(), *waiters.cleared):
            if isinstance(activation, CallActivation) and _is_begun(activation):
                begun.setdefault(activation.peer, []).append(activation)
            else:
                yield from self.waiting([activation])
            yield from self._around(activation)
        for stream in self._runtime.streams.values():
            elements = [value for value in stream.values() if can_be_left_out(value)]
            for activation in stream.folds():
                yield from self._body(activation.node, activation.scope, elements)
                yield from self._around(activation)

    # --- instances

    def waiting(self, activations: Iterable[Activation]) -> Iterator[None]:
        """What these read themselves."""
        for activation in activations:
            yield from self._region(
                activation.scope, activation.node.number, self._script.end_of[activation.node.number]
            )

    def _around(self, activation: Activation) -> Iterator[None]:
        """What can have its turn behind an instance."""
        now = activation.parent
        while now is not None and now not in self._seen:
            self._seen.add(now)
            if self._look():
                yield
            if now.status is OPEN or now.status is FAILED:
                # One that has failed may be opened again by a name that was read too early.
                end = self._script.end_of[now.node.number]
                if isinstance(now, SeqActivation) and now.index + 1 < len(now.node.children):
                    yield from self._region(now.scope, now.node.children[now.index + 1].number, end)
                elif isinstance(now, XorActivation) and now.right is None:
                    yield from self._region(now.scope, now.node.right.number, end)
            now = now.parent

    # --- stretches of the script

    def _region(self, scope: Scope, first: int, last: int) -> Iterator[None]:
        """Instructions from one number to another can have their turn in a scope."""
        if not self._first_time("region", id(scope), first, last):
            return
        inside = region(self._script, first, last)
        if self._look():
            yield
        for what in inside.reads:
            if self._look(1 + scope.links // LINKS_OF_A_LOOK):
                yield
            # By its id: the script has one of each, and the path in it may have thousands of steps.
            if self._first_time(id(scope), id(what)):
                yield from self._read(scope, *what)
        for iterator in inside.onward:
            if self._look(1 + scope.depth // LINKS_OF_A_LOOK):
                yield
            yield from self._onward(scope, iterator)

    def _onward(self, scope: Scope, iterator: str) -> Iterator[None]:
        """A fold can go on to its next element, or to its last instruction. Further elements of streams are looked at by themselves."""
        iteration = scope.find_iteration(iterator)
        if iteration is None:
            return
        traversal = iteration.traversal
        fold = traversal.fold
        if fold.last is not None and self._first_time(id(scope), fold.number):
            yield from self._region(scope, fold.last.number, self._script.end_of[fold.number])
        if not traversal.of_stream and self._first_time(id(traversal.scope), fold.number, iteration.index):
            yield from self._body(fold, traversal.scope, traversal.elements, iteration.index + 1)

    def _first_time(self, *mark: object) -> bool:
        if mark in self._seen:
            return False
        self._seen.add(mark)
        return True

    def _body(self, fold: tree.Fold, scope: Scope, elements: Sequence[Value], begin: int = 0) -> Iterator[None]:
        """The body of a fold can have its turn for the elements from one on, each of which may be made when it is asked for."""
        first, last = fold.body.number, self._script.end_of[fold.number]
        for name, path in region(self._script, first, last).reads:
            if self._look():
                yield
            if name == fold.iterator:
                for place in range(begin, len(elements)):
                    yield from self._value(elements[place], scope, path)
        yield from self._region(scope, first, last)

    # --- names

    def _read(self, scope: Scope, name: str, path: tree.Lambda | None) -> Iterator[None]:
        if name.startswith(("$", "%")):
            stream = self._runtime.streams.get(scope.stream(name))
            if stream is not None and self._first_time(id(stream)):
                for element in stream.elements():
                    yield from self._need(element.value, (), Level.WHOLE)
            return
        for bound in scope.meanings(name):
            match bound:
                case Value():
                    yield from self._value(bound, scope, path)
                case CanonStreamValue():
                    yield from self._elements(bound, scope, path)
                case CanonMapValue():
                    if type(path) is not tree.Length and self._first_time(id(bound)):
                        for pair in bound.pairs:
                            yield from self._need(pair, (), Level.WHOLE)

    def _elements(self, canon: CanonStreamValue, scope: Scope, path: tree.Lambda | None) -> Iterator[None]:
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
            yield from self._value(element, scope, path)

    def _value(self, value: Value, scope: Scope, path: tree.Lambda | None) -> Iterator[None]:
        if type(path) is tree.Length:
            yield from self._need(value, (), Level.SIZE if isinstance(value.content, list | Partial) else Level.WHOLE)
        else:
            # No value has more levels, so that longer paths do not lead anywhere.
            steps = () if path is None else tuple(islice(self._steps(path, scope), JSON_DEPTH_MAX + 1))
            if self._look(len(steps) * (1 + scope.links) // LINKS_OF_A_LOOK):
                yield
            yield from self._need(value, steps, Level.WHOLE)

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

    def _need(self, value: Value, path: Path, level: Level) -> Iterator[None]:
        if self._look():
            yield
        root = value.root
        if isinstance(root, Composite):
            # It may have thousands of members, and thousands may read it.
            if self._first_time(id(root), value.path + path, level):
                for member, rest, of_it in root.asked_for(value.path + path, level):
                    yield from self._need(member, rest, of_it)
        elif root.mask is not None and _leads_somewhere(root.content_at(value.path), path):
            self.masks.setdefault(root.id, Mask()).add(value.path + path, level)
        elif root.mask is not None:
            # There will be an error, which shows the value.
            self.masks.setdefault(root.id, Mask()).add(value.path, Level.WHOLE)


def _is_begun(call: CallActivation) -> bool:
    """Whether the peer of a call has begun with it, so that it has the arguments.

    That somebody has sent the particle there is not enough: it may be overtaken, or never arrive.
    """
    return call.known is not None and call.known.taken_by(call.peer)


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
