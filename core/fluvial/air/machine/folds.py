"""What ``fold`` and ``next`` do. Each iteration runs inside the ``next`` of the one before.

A fold over something fixed is one chain of iterations. A fold over a stream has one chain for each generation of elements (``streams``).
"""

from __future__ import annotations

from msgspec.structs import replace

from fluvial.air.data.facts import index_element, iteration_frame, written_element
from fluvial.air.machine.activations import (
    FAILED,
    KEEP,
    OPEN,
    TRUE,
    Activation,
    FoldActivation,
    NextActivation,
    StreamFoldActivation,
)
from fluvial.air.machine.positions import iteration_place, last_place
from fluvial.air.machine.runtime import Runtime
from fluvial.air.machine.scopes import Iteration, Traversal
from fluvial.air.syntax import tree


def perform_fold(runtime: Runtime, fold: FoldActivation | StreamFoldActivation) -> None:
    """``fold``: iterate once over something fixed, or over a stream whenever there is more of it.

    Raises:
        NameNotSet: what it runs over has no value yet. Catchable, Uncatchable: as :meth:`Operands.iterable` and :meth:`Runtime.spend`.
    """
    if type(fold) is StreamFoldActivation:
        _fold_stream(runtime, fold)
        return
    assert type(fold) is FoldActivation
    if fold.child is None:
        node = fold.node
        if fold.elements is None:
            fold.elements = runtime.operands.iterable(node.iterable, fold)
            runtime.spend(len(fold.elements))
        if not fold.elements:
            fold.status = KEEP
            return
        traversal = Traversal(node, fold.elements, None, fold.place.frame, (*fold.key, 0, 0), fold.scope)
        fold.child = _iterate(runtime, fold, traversal, 0)
        if fold.child is None:
            return
        fold.elements = None
    fold.follow(fold.child)


def _fold_stream(runtime: Runtime, fold: StreamFoldActivation) -> None:
    """One chain of iterations for each generation. The fold is complete when one of them is, and is never closed.

    A chain that ends with KEEP leaves the completeness flag as the chain before it left it. That chain was not complete, else the fold
    would be. So KEEP makes the fold complete only for the first chain, which finds the flag set.
    """
    node, key = fold.node, fold.key
    if (stream := fold.stream) is None:
        assert isinstance(node.iterable, tree.Stream | tree.StreamMap)
        name = node.iterable.name
        stream = fold.stream = runtime.stream(fold.scope.stream(name), name)
        stream.watch(fold)
    if fold.changed is not None:
        _chain_changed(fold, fold.changed, first=fold.changed.key[len(key) + 1] == stream.first_generation(key))
        fold.changed = None
    while (chain := stream.chain(key, fold.visited)) is not None:
        visited, fold.visited = fold.visited, chain.end
        runtime.spend(len(chain.elements) - fold.paid)
        fold.paid = len(chain.elements)
        names = [written_element(element.writer) for element in chain.elements]
        values = [element.value for element in chain.elements]
        begin = (*key, chain.pass_number, chain.elements[0].generation)
        first = _iterate(runtime, fold, Traversal(node, values, names, fold.place.frame, begin, fold.scope), 0)
        if first is None:
            fold.visited = visited
            return
        fold.paid = 0
        _chain_changed(fold, first, first=not visited)


def _chain_changed(fold: StreamFoldActivation, chain: Activation, *, first: bool) -> None:
    """An error in the body ends the chain of its generation, not the fold: what comes after it would depend on the local order."""
    flag = chain.flag if chain.status is FAILED else chain.status
    if flag is TRUE or (flag is KEEP and first):
        fold.status = TRUE


def _iterate(runtime: Runtime, parent: Activation, traversal: Traversal, index: int) -> Activation | None:
    fold = traversal.fold
    element = index_element(index) if traversal.names is None else traversal.names[index]
    frame = iteration_frame(traversal.base, fold.number, element)
    iteration = Iteration(fold.iterator, traversal.elements[index], traversal, index, frame)
    place = iteration_place(frame, traversal.key, index, runtime.plan.next_of[fold.number])
    # Each activation in it will have a key of this length.
    runtime.grown += 8 * len(place.before) * (3 + runtime.plan.ends[fold.body.number] - fold.body.number)
    return runtime.start(parent, fold.body, place, traversal.scope.iterate(iteration))


def perform_next(runtime: Runtime, following: NextActivation) -> None:
    """``next``: the next iteration, or the last instruction of the fold, if there is one."""
    if following.child is None:
        now = following.scope.iteration(following.node.iterator)
        traversal, index, frame = now.traversal, now.index + 1, following.place.frame
        if index < len(traversal.elements):
            if frame != now.frame:
                # Inside an inner fold's iteration that iteration is the base. Otherwise one element would be visited twice under one id.
                traversal = replace(traversal, base=frame, key=(*following.key, 0, 0))
            following.child = _iterate(runtime, following, traversal, index)
        elif (last := traversal.fold.last) is not None:
            following.child = runtime.start(following, last, last_place(frame, traversal.key, now.index))
            following.at_end = True
        else:
            following.status = OPEN if traversal.of_stream else KEEP
            return
        if following.child is None:
            return
    following.follow(following.child)
    if following.at_end and following.status is KEEP:
        following.status = TRUE
