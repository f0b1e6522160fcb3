"""``fold`` and ``next``: iterations, each in the ``next`` of the one before; of a stream one traversal for each generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from fluvial.air.data.facts import index_element, iteration_frame, written_element
from fluvial.air.machine.instances import FAILED, KEEP, OPEN, TRUE, Inst, iteration_place, last_place
from fluvial.air.machine.scopes import Iteration, Traversal
from fluvial.air.machine.streams import LocalStream
from fluvial.air.syntax import tree

if TYPE_CHECKING:
    from fluvial.air.machine.evaluator import Evaluator


def advance_fold(machine: Evaluator, inst: Inst) -> None:
    """``fold``: iterate over what is fixed once, over a stream whenever there is more.

    Raises:
        Waiting: what it runs over has no value yet. Catchable, Uncatchable: as the instruction does.
    """
    node = inst.node
    if type(node.iterable) in tree.STREAMS:
        _fold_stream(machine, inst)
        return
    if inst.child is None:
        if inst.other is None:
            values = machine.operands.iterable(node.iterable, inst)
            machine.spend(len(values))
            inst.other = [(index_element(i), value) for i, value in enumerate(values)]
        if not inst.other:
            inst.status = KEEP
            return
        traversal = Traversal(node, inst.other, inst.place.frame, (*inst.key, 0, 0), inst.scope, of_stream=False)
        inst.child = _iterate(machine, inst, traversal, 0)
        if inst.child is None:
            return
        inst.other = None
    machine.follow(inst)


def _fold_stream(machine: Evaluator, inst: Inst) -> None:
    """One chain of iterations per generation; complete when one of them is, never closed.

    The flag that a chain may leave as it is (KEEP) is that of the chain before, which was not complete; only the first finds it set.
    """
    node, key = inst.node, inst.key
    if inst.other is None:
        name = node.iterable.name
        inst.other = machine.stream(inst.scope.stream(name), name)
        inst.other.watch(inst)
    stream: LocalStream = inst.other
    if inst.child is not None:
        _chain_changed(inst, inst.child, first=inst.child.key[len(key) + 1] == stream.first_generation(key))
        inst.child = None
    while (chain := stream.chain(key, inst.index)) is not None:
        begun, inst.index = inst.index, chain.end
        machine.spend(len(chain.elements))
        elements = [(written_element(element.writer), element.value) for element in chain.elements]
        begin = (*key, chain.pass_number, chain.elements[0].generation)
        traversal = Traversal(node, elements, inst.place.frame, begin, inst.scope, of_stream=True)
        first = _iterate(machine, inst, traversal, 0)
        if first is None:
            inst.index = begun
            return
        _chain_changed(inst, first, first=not begun)


def _chain_changed(inst: Inst, chain: Inst, *, first: bool) -> None:
    """A body's error ends the chain of its generation, not the fold: what comes after would depend on local order."""
    flag = chain.flag if chain.status is FAILED else chain.status
    if flag is TRUE or (flag is KEEP and first):
        inst.status = TRUE


def _iterate(machine: Evaluator, parent: Inst, traversal: Traversal, index: int) -> Inst | None:
    fold = traversal.fold
    element, value = traversal.elements[index]
    frame = iteration_frame(traversal.base, fold.number, element)
    iteration = Iteration(fold.iterator, value, traversal, index, frame)
    place = iteration_place(frame, traversal.key, index, machine.plan.next_of[fold.number])
    return machine.start(parent, fold.body, place, traversal.scope.iterate(iteration))


def advance_next(machine: Evaluator, inst: Inst) -> None:
    """``next``: the next iteration, or the last instruction of the fold, if there is one."""
    if inst.child is None:
        now = inst.scope.iteration(inst.node.iterator)
        traversal, index, frame = now.traversal, now.index + 1, inst.place.frame
        if index < len(traversal.elements):
            if frame != now.frame:
                # Inside an inner fold's iteration that iteration is the base, else one element would be visited twice under one id.
                traversal = replace(traversal, base=frame, key=(*inst.key, 0, 0))
            inst.child = _iterate(machine, inst, traversal, index)
        elif traversal.fold.last is not None:
            inst.child = machine.start(inst, traversal.fold.last, last_place(frame, traversal.key, now.index))
            inst.index = 1
        else:
            inst.status = OPEN if traversal.of_stream else KEEP
            return
        if inst.child is None:
            return
    machine.follow(inst)
    if inst.index and inst.status is KEEP:
        inst.status = TRUE
