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

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, TypeAlias

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
    over = [_over(script, one, me, known_peer) for one in notices]
    first = None
    for wait in waits:
        if (end := next((one for one in over if one.holds(wait)), None)) is None:
            return None
        first = first or end
    return first.notice if first is not None else None


class _Over(NamedTuple):
    """What is over since somebody gave notice: found out once, and not for each of thousands of waits.

    Attributes:
        notice: says so.
        peer: nothing comes from that one any more; empty if that is nobody.
        instructions: the numbers of those that cannot go on.
    """

    notice: Notice
    peer: str = ""
    instructions: Collection[int] = ()

    def holds(self, wait: Wait) -> bool:
        """Whether a wait is over."""
        return bool(self.peer and wait.peer == self.peer) or wait.instruction.number in self.instructions


def _over(script: Script, notice: Notice, me: PeerId, known_peer: KnownPeer) -> _Over:
    if notice.kind == "refused":
        return _Over(notice, refused_to(notice) if notice.peer_id == me else "")
    if notice.kind == "broken":
        return _Over(notice, notice.peer_id)
    way = _way_to(script.root, notice)
    if way is None:
        return _Over(notice)
    failed = way[-1]
    if not isinstance(failed, tree.CallInstruction | tree.Canon):
        return _Over(notice)
    if known_peer(failed) != notice.peer_id and not _reads_part_of(script, failed, notice.peer_id, known_peer):
        return _Over(notice)
    if notice.kind == "failed" and any(isinstance(one, tree.Xor) for one in way):
        return _Over(notice)  # something may catch it: then this is not the end
    pars = [number for number, one in enumerate(way) if isinstance(one, tree.Par)]
    branch = way[pars[-1] + 1 :] if pars else way
    if any(isinstance(one, tree.Fold) for one in way[: len(way) - len(branch)]):
        return _Over(notice)
    return _Over(notice, instructions=_without_par(branch[0]))


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


def _without_par(head: tree.Instruction) -> Collection[int]:
    """The numbers of the instructions in a branch between whose head and which no ``par`` stands."""
    found, pending = set(), [head]
    while pending:
        instruction = pending.pop()
        if not isinstance(instruction, tree.Par):
            found.add(instruction.number)
            pending += tree.children(instruction)
    return found


def _way_to(root: tree.Instruction, notice: Notice) -> Sequence[tree.Instruction] | None:
    """The instructions down to the one that a notice is about; without Python's stack, as scripts may be deep."""
    pending: list[tuple[tree.Instruction, int]] = [(root, 0)]
    way: list[tree.Instruction] = []
    while pending:
        instruction, depth = pending.pop()
        del way[depth:]
        way.append(instruction)
        if (instruction.at.line, instruction.at.column) == (notice.line, notice.column):
            return way
        pending += [(inner, depth + 1) for inner in reversed(tree.children(instruction))]
    return None
