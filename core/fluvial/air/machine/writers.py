"""Which instructions can have written what a canon fixes: what the script and the facts alone say of it.

All peers come to the same here, whatever they have evaluated. So a delivery can be refused for it: whoever passes on a canon that is possible, passes
on the facts that make it so.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from fluvial.air.data.batch import Batch
from fluvial.air.data.content import ContentId
from fluvial.air.data.facts import ROOT_FRAME, CanonFact, Item, Result
from fluvial.air.data.pace import Found, SlicePace, finished
from fluvial.air.machine.analyses import once_per_script
from fluvial.air.machine.knowledge import Knowledge
from fluvial.air.machine.plan import name_set_by, plan_of
from fluvial.air.syntax import tree
from fluvial.errors import RemoteProtocolError


@dataclass(frozen=True, slots=True)
class Writers:
    """What a script says of the instructions that write to streams.

    Attributes:
        of: for each stream and stream map the numbers of the instructions that write to it.
        setter: for each other name that is set by one instruction alone, that instruction.
        fold: for each instruction the innermost fold around it; None outside of folds. Not all of them: an instruction may stand in 2,000 folds.
        outermost: the same for the outermost fold.
    """

    of: Mapping[str, Collection[int]]
    setter: Mapping[str, tree.Instruction]
    fold: Sequence[tree.Fold | None]
    outermost: Sequence[tree.Fold | None]


@once_per_script
def writers_of(script: tree.Script) -> Writers:
    """The writers of a script; scripts are told apart by identity."""
    plan = plan_of(script)
    of: dict[str, set[int]] = {}
    fold: list[tree.Fold | None] = []
    outermost: list[tree.Fold | None] = []
    around: list[tree.Fold] = []
    for node in plan.nodes:
        while around and node.number > plan.ends[around[-1].number]:
            around.pop()
        fold.append(around[-1] if around else None)
        outermost.append(around[0] if around else None)
        if type(node) is tree.Fold:
            around.append(node)
        elif (name := _written(node)) is not None:
            of.setdefault(name, set()).add(node.number)
    setter = {name: node for node in plan.nodes if (name := name_set_by(node)) is not None}
    return Writers(of, {name: node for name, node in setter.items() if name not in plan.contested}, fold, outermost)


def _written(node: tree.Instruction) -> str | None:
    target: object = None
    if type(node) is tree.CallInstruction:
        target = node.output
    elif type(node) is tree.Ap or type(node) is tree.ApMap:
        target = node.target
    return target.name if isinstance(target, tree.Stream | tree.StreamMap) else None


def checking_canons(script: tree.Script, batches: Iterable[Batch], knowledge: Knowledge) -> Iterator[None]:
    """Raise RemoteProtocolError if a canon in batches that come is none that an evaluation can come to; in slices.

    Args:
        script: the script.
        batches: what comes.
        knowledge: what is known here so far.
    """
    pace = SlicePace()
    items: list[tuple[str, Item]] = []
    fixes = False
    for batch in batches:
        for item in batch.signed.items:
            items.append((batch.signer, item))
            fixes = fixes or type(item) is CanonFact
            if pace.over():
                yield
    results: dict[tuple[bytes, int], set[ContentId]] = {}
    for _, item in items if fixes else ():
        if type(item) is Result:
            results.setdefault((item.frame, item.node), set()).add(item.value)
        if pace.over():
            yield
    for signer, item in items if fixes else ():
        if type(item) is CanonFact and (problem := (yield from _problem(script, item, results, knowledge, pace))):
            raise RemoteProtocolError(f"what {signer} has fixed does not follow from signed facts: {problem}")


def impossible(
    script: tree.Script, fact: CanonFact, came: Mapping[tuple[bytes, int], Set[ContentId]], knowledge: Knowledge
) -> str:
    """Why no evaluation can come to what a canon says; empty if one can, or if the fact is about no canon and so never counts.

    Args:
        script: the script.
        fact: what a peer says that it has fixed.
        came: the results of calls that come with it.
        knowledge: what was known before.
    """
    return finished(_problem(script, fact, came, knowledge, SlicePace()))


def _problem(
    script: tree.Script,
    fact: CanonFact,
    came: Mapping[tuple[bytes, int], Set[ContentId]],
    knowledge: Knowledge,
    pace: SlicePace,
) -> Found[str]:
    nodes = plan_of(script).nodes
    canon = nodes[fact.node] if fact.node < len(nodes) else None
    if type(canon) is not tree.Canon:
        return ""
    writers = writers_of(script)
    of_source = writers.of.get(canon.source.name, ())
    outermost = writers.outermost[canon.number]
    for element in fact.elements:
        if pace.over():
            yield
        number = element.node
        if number not in of_source:
            return f"instruction {number} does not write to {canon.source.name}"
        around = writers.outermost[number]
        if (element.frame == ROOT_FRAME) is (around is not None):
            return f"instruction {number} is {'outside of folds' if around is None else 'part of a fold'}"
        if number > canon.number and (around is None or around is not outermost):
            return f"instruction {number} comes after the canon"
        if type(nodes[number]) is tree.CallInstruction:
            call = (element.frame, number)
            if element.value not in came.get(call, ()) and not knowledge.has_result(call, element.value):
                return f"the call of instruction {number} has no such result"
    return ""
