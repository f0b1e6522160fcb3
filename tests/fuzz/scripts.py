"""What can be said of a script before it runs, and what that means for comparisons."""

from __future__ import annotations

from collections import Counter

from fluvial.air.syntax import parse, tree


def sets_twice(script: str) -> bool:
    """Whether something is set at two places, at least one of them outside of folds.

    Two places outside end with 20007 when both are come to. Until then, an instruction that stands before the second place but is reached
    after it may see its value in the incremental machine; one walk through the script does not come to that in time.
    """
    places: Counter[tuple[str, int]] = Counter()
    outside: set[tuple[str, int]] = set()
    waiting: list[tuple[tree.Instruction, dict[str, int], bool]] = [(parse(script).root, {}, False)]
    while waiting:
        node, renewed, in_fold = waiting.pop()
        if (name := _set_by(node)) is not None:
            place = (name, renewed.get(name, -1))
            places[place] += 1
            outside |= set() if in_fold else {place}
        if isinstance(node, tree.New):
            renewed = {**renewed, node.target.name: node.number}
        inside = in_fold or isinstance(node, tree.Fold)
        waiting.extend((child, renewed, inside) for child in tree.children(node))
    return any(places[place] > 1 for place in outside)


def _set_by(node: tree.Instruction) -> str | None:
    match node:
        case tree.Call(output=tree.Scalar(name)) | tree.Ap(target=tree.Scalar(name)):
            return name
        case tree.Canon(target=tree.Scalar(name)):
            return name
        case tree.Canon(target=target):
            return ("#%" if isinstance(target, tree.CanonMap) else "#") + target.name
        case _:
            return None
