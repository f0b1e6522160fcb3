"""Whether a flow can still give a result, as far as its initiator can tell: pure.

The initiator's machine lists what waits there. A failure notice makes a wait hopeless if the waiting instruction could only go on after the
instruction that failed::

    the signer    is the peer of the call or canon that the notice names, or of a call whose result the instruction reads a part of: else
                  anybody in the flow could end it with a lie
    the failure   spreads from that instruction outwards until a `par` stops it: all of that branch is over
    a wait        is over if it stands in that branch and no `par` stands between the two; or if its peer refused the particle for good

Flows with a fold around that branch are not judged: a notice does not say which iteration it is about. What is not judged ends with the particle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from fluvial.air.machine.findings import Wait
from fluvial.air.syntax import Script, tree
from fluvial.identity import PeerId
from fluvial.particles.notice import Notice, refused_to

KnownPeer: TypeAlias = Callable[[tree.CallInstruction | tree.Canon], str | None]
"""The peer of an instruction, if the initiator knows it without the flow."""


def hopeless(
    script: Script, waits: Sequence[Wait], notices: Sequence[Notice], me: PeerId, known_peer: KnownPeer
) -> Notice | None:
    """The notice that ends the flow; None if a result is still possible.

    Args:
        script: of the flow.
        waits: what waits at its initiator now.
        notices: the failure notices about it.
        me: the initiator.
        known_peer: returns the peer that has to make a call or canon.
    """
    if not waits or not notices:
        return None
    ends = [next((one for one in notices if _ends(script, wait, one, me, known_peer)), None) for wait in waits]
    return ends[0] if all(ends) else None


def _ends(script: Script, wait: Wait, notice: Notice, me: PeerId, known_peer: KnownPeer) -> bool:
    if notice.kind == "refused":
        return notice.peer_id == me and refused_to(notice) == wait.peer
    if notice.kind == "broken":
        return notice.peer_id == wait.peer
    way = _way_to(script.root, notice)
    if way is None:
        return False
    failed = way[-1]
    if not isinstance(failed, tree.CallInstruction | tree.Canon):
        return False
    if known_peer(failed) != notice.peer_id and not _reads_part_of(script, failed, notice.peer_id, known_peer):
        return False
    if notice.kind == "failed" and any(isinstance(one, tree.Xor) for one in way):
        return False  # something may catch it: then this is not the end
    pars = [number for number, one in enumerate(way) if isinstance(one, tree.Par)]
    branch = way[pars[-1] + 1 :] if pars else way
    if any(isinstance(one, tree.Fold) for one in way[: len(way) - len(branch)]):
        return False
    return _without_par(branch, wait.instruction)


def _reads_part_of(
    script: Script, failed: tree.CallInstruction | tree.Canon, peer: PeerId, known_peer: KnownPeer
) -> bool:
    """Whether an instruction reads a part of a call's result, and all calls with a result of that name are of this peer.

    That peer can let the instruction fail anyway: by a result that has no such part.
    """
    parts = {one.name for one in tree.operands(failed) if isinstance(one, tree.Scalar) and one.path is not None}
    peers: dict[str, set[str | None]] = {name: set() for name in parts}
    for one in tree.walk(script.root):
        match one:
            case tree.CallInstruction(output=tree.Scalar(name=name)) if name in parts:
                peers[name].add(known_peer(one))
            case tree.Ap(target=tree.Scalar(name=name)) | tree.Fold(iterator=name) if name in parts:
                peers[name].add(None)
    return any(of == {peer} for of in peers.values())


def _without_par(branch: Sequence[tree.Instruction], waiting: tree.Instruction) -> bool:
    """Whether an instruction stands below the head of a branch, and no ``par`` stands between them."""
    way = _path(branch[0], lambda one: one.number == waiting.number)
    return way is not None and not any(isinstance(one, tree.Par) for one in way)


def _way_to(root: tree.Instruction, notice: Notice) -> Sequence[tree.Instruction] | None:
    return _path(root, lambda one: (one.at.line, one.at.column) == (notice.line, notice.column))


def _path(root: tree.Instruction, meant: Callable[[tree.Instruction], bool]) -> Sequence[tree.Instruction] | None:
    """The instructions from one down to the one that is meant; without Python's stack, as scripts may be deep."""
    pending: list[tuple[tree.Instruction, int]] = [(root, 0)]
    way: list[tree.Instruction] = []
    while pending:
        instruction, depth = pending.pop()
        del way[depth:]
        way.append(instruction)
        if meant(instruction):
            return way
        pending += [(inner, depth + 1) for inner in reversed(tree.children(instruction))]
    return None
