"""Whether a flow can still give a result, as far as its initiator can tell: pure.

The initiator's machine lists what waits there. A failure notice makes a wait hopeless if the waiting instruction could only go on after the
instruction that failed::

    the signer    is the peer of the call or canon that the notice names, or of a call whose result the instruction reads a part of: else
                  anybody in the flow could end it with a lie
    the failure   spreads from that instruction outwards until a `par` stops it: all of that branch is over
    a wait        is over if it stands in that branch and no `par` stands between the two; or if its peer refused the particle for good

A notice is judged once, when it comes; a wait costs a look at the instructions around it, of which there may be thousands in each run of a large flow.

Flows with a fold around that branch are not judged: a notice does not say which iteration it is about. What is not judged ends with the particle.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from fluvial.air.machine.findings import Wait
from fluvial.air.syntax import Script, tree
from fluvial.identity import PeerId
from fluvial.particles.notice import Notice, refused_to

KnownPeer: TypeAlias = Callable[[tree.CallInstruction | tree.Canon], str | None]
"""The peer of an instruction, if the initiator knows it without the flow."""


_Heard: TypeAlias = tuple[int, Notice]
"""A notice, and how many came before it."""


class Prospects:
    """The prospects of one flow; see the module's docstring.

    Args:
        script: of the flow.
        me: the initiator.
        known_peer: returns the peer that has to make a call or canon.
    """

    def __init__(self, script: Script, me: PeerId, known_peer: KnownPeer) -> None:
        self._script, self._me, self._known_peer = script, me, known_peer
        self._above: Final[Mapping[int, tree.Instruction | None]] = _parents(script.root)
        self._places: Final = {(one.at.line, one.at.column): one for one in reversed(list(tree.walk(script.root)))}
        self._count = 0
        self._refused: dict[str, _Heard] = {}  # by the peer that refused the particle
        self._broken: dict[str, _Heard] = {}
        self._branches: dict[int, _Heard] = {}  # by the number of the outermost instruction of a branch that is over
        self._over: dict[int, _Heard | None] = {}  # by the number of an instruction that waits

    def hear(self, notice: Notice) -> None:
        """A failure notice about the flow came."""
        heard, self._count = (self._count, notice), self._count + 1
        self._over.clear()
        if notice.kind == "refused":
            if notice.peer_id == self._me and (by := refused_to(notice)) is not None:
                self._refused.setdefault(by, heard)
        elif notice.kind == "broken":
            self._broken.setdefault(notice.peer_id, heard)
        elif (branch := self._branch_of(notice)) is not None:
            self._branches.setdefault(branch.number, heard)

    def hopeless(self, waits: Sequence[Wait]) -> Notice | None:
        """The notice that ends the flow; None if a result is still possible.

        Args:
            waits: what waits at its initiator now.
        """
        first: Notice | None = None
        for wait in waits:
            end = self._end_of(wait)
            if end is None:
                return None
            first = end if first is None else first
        return first

    def _end_of(self, wait: Wait) -> Notice | None:
        """The first notice that makes a wait hopeless."""
        number = wait.instruction.number
        if number not in self._over:
            self._over[number] = self._end_of_branch(number)
        found = (self._refused.get(wait.peer or ""), self._broken.get(wait.peer or ""), self._over[number])
        heard = min((one for one in found if one is not None), default=None, key=lambda one: one[0])
        return None if heard is None else heard[1]

    def _end_of_branch(self, number: int) -> _Heard | None:
        """Whether an instruction stands in a branch that is over, and no ``par`` stands between them."""
        heard = self._branches.get(number)
        above = self._above.get(number)
        while above is not None and not isinstance(above, tree.Par):
            further = self._branches.get(above.number)
            heard = further if heard is None or (further is not None and further[0] < heard[0]) else heard
            above = self._above.get(above.number)
        return heard

    def _branch_of(self, notice: Notice) -> tree.Instruction | None:
        """The outermost instruction of the branch that a failure ends; None if it ends none, or nobody can know."""
        failed = self._places.get((notice.line, notice.column))
        if not isinstance(failed, tree.CallInstruction | tree.Canon):
            return None
        if self._known_peer(failed) != notice.peer_id and not self._reads_part_of(failed, notice.peer_id):
            return None
        branch: tree.Instruction = failed
        above, beside = self._above[failed.number], False
        while above is not None:
            if notice.kind == "failed" and isinstance(above, tree.Xor):
                return None  # something may catch it: then this is not the end
            if beside and isinstance(above, tree.Fold):
                return None
            beside = beside or isinstance(above, tree.Par)
            branch = branch if beside else above
            above = self._above[above.number]
        return branch

    def _reads_part_of(self, failed: tree.CallInstruction | tree.Canon, peer: PeerId) -> bool:
        """Whether an instruction reads a part of a call's result, and all calls with a result of that name are of this peer.

        That peer can let the instruction fail anyway: by a result that has no such part.
        """
        parts = {one.name for one in tree.operands(failed) if isinstance(one, tree.Scalar) and one.path is not None}
        peers: dict[str, set[str | None]] = {name: set() for name in parts}
        for one in tree.walk(self._script.root):
            match one:
                case tree.CallInstruction(output=tree.Scalar(name=name)) if name in parts:
                    peers[name].add(self._known_peer(one))
                case tree.Ap(target=tree.Scalar(name=name)) | tree.Fold(iterator=name) if name in parts:
                    peers[name].add(None)
        return any(of == {peer} for of in peers.values())


def _parents(root: tree.Instruction) -> Mapping[int, tree.Instruction | None]:
    """The instruction around each, by number."""
    above: dict[int, tree.Instruction | None] = {root.number: None}
    for one in tree.walk(root):
        above.update((inner.number, one) for inner in tree.children(one))
    return above
