"""Who waits for what: instances that need a fact or a name, and those that may not act yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fluvial.air.data.facts import Instance
from fluvial.air.machine.findings import Wait
from fluvial.air.machine.instances import Inst
from fluvial.air.syntax import tree


class Waiters:
    """The waiting instances of one particle.

    Attributes:
        missing: those that wait for a name, and which; they are woken by the scopes, here it is known for people only.
    """

    __slots__ = ("_awaiting", "_postponed", "missing")

    def __init__(self) -> None:
        self._awaiting: dict[Inst, None] = {}
        self.missing: dict[Inst, str] = {}
        self._postponed: dict[Inst, None] = {}

    def await_fact(self, inst: Inst) -> None:
        """A call or canon that was come to waits for its fact."""
        assert inst.known is not None, "it was come to"
        inst.known.waiting = inst
        self._awaiting[inst] = None

    def postpone(self, inst: Inst) -> None:
        """A call or canon could do something now, but may not: it looks again when the evaluator acts."""
        self._postponed[inst] = None

    def misses(self, inst: Inst, name: str) -> None:
        """An instance needs a name that has no value yet."""
        self.missing[inst] = name

    def misses_nothing(self, inst: Inst) -> None:
        """An instance has all the names that it needs."""
        self.missing.pop(inst, None)

    def forget(self, inst: Inst) -> None:
        """A call or canon has its fact or has failed: it waits for nothing more."""
        known = inst.known
        if known is not None and known.waiting is not None:
            known.waiting = None
            self._awaiting.pop(inst, None)
            if self._postponed:
                self._postponed.pop(inst, None)
        if self.missing:
            self.missing.pop(inst, None)

    def take_postponed(self) -> Sequence[Inst]:
        """Those that may act now."""
        if not self._postponed:
            return ()
        postponed = tuple(self._postponed)
        self._postponed.clear()
        return postponed

    def waiting(self) -> Iterator[Inst]:
        """Those that wait for a fact or a name."""
        return iter({**self._awaiting, **dict.fromkeys(self.missing)})

    @property
    def nobody(self) -> bool:
        """Whether no call and no canon waits: then no fact can change anything any more."""
        return not self._awaiting

    def awaited(self) -> Mapping[Instance, str]:
        """The calls and canons that have no fact yet, arguments known or not, and whose they are."""
        return {Instance(*inst.id): inst.other.peer for inst in self._awaiting}

    def waits(self, me: str, dry: Iterable[Inst]) -> Sequence[Wait]:
        """What waits, in the order of positions.

        Args:
            me: this peer.
            dry: folds whose stream has no element yet.
        """
        found = dict.fromkeys((*self._awaiting, *self.missing, *dry))
        return [self._wait(inst, me) for inst in sorted(found, key=lambda inst: inst.key)]

    def _wait(self, inst: Inst, me: str) -> Wait:
        node: tree.Instruction = inst.node
        peer = None
        if inst in self.missing:
            reason = f"`{self.missing[inst]}` has no value yet"
        elif isinstance(node, tree.Fold):
            reason = f"nothing was written to `{getattr(node.iterable, 'name', '')}` yet"
        elif inst.other.peer == me:
            reason = "the service has not answered yet"
        elif isinstance(node, tree.Canon):
            peer, reason = inst.other.peer, f"{inst.other.peer} has not fixed `{node.source.name}` yet"
        else:
            peer, reason = inst.other.peer, f"{inst.other.peer} has not answered yet"
        return Wait(node, Instance(*inst.id), reason, peer)
