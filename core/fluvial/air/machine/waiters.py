"""Who waits for what: instances that need a fact or a name, and those that may not act yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from fluvial.air.data.facts import Fact, Instance
from fluvial.air.machine.findings import Wait
from fluvial.air.machine.instances import Inst
from fluvial.air.syntax import tree


class Waiters:
    """The waiting instances of one particle. Those that wait for a name are woken by the scopes; here it is known for people only."""

    __slots__ = ("_awaiting", "_missing", "_postponed")

    def __init__(self) -> None:
        self._awaiting: dict[tuple[bytes, int], Inst] = {}
        self._missing: dict[Inst, str] = {}
        self._postponed: dict[Inst, None] = {}

    def await_fact(self, inst: Inst) -> None:
        """A call or canon waits for its fact."""
        self._awaiting[inst.id] = inst

    def postpone(self, inst: Inst) -> None:
        """A call or canon could do something now, but may not: it looks again when the evaluator acts."""
        self._postponed[inst] = None

    def misses(self, inst: Inst, name: str) -> None:
        """An instance needs a name that has no value yet."""
        self._missing[inst] = name

    def misses_nothing(self, inst: Inst) -> None:
        """An instance has all the names that it needs."""
        if self._missing:
            self._missing.pop(inst, None)

    def forget(self, inst: Inst) -> None:
        """A call or canon has its fact or has failed: it waits for nothing more."""
        self._awaiting.pop(inst.id, None)
        self._postponed.pop(inst, None)
        self.misses_nothing(inst)

    def for_fact(self, fact: Fact) -> Inst | None:
        """Who waits for a fact about this instance."""
        return self._awaiting.get((fact.frame, fact.node))

    def awaiting(self, instance: tuple[bytes, int]) -> Inst | None:
        """The call or canon of this name, if it waits for its fact."""
        return self._awaiting.get(instance)

    def take_postponed(self) -> Sequence[Inst]:
        """Those that may act now."""
        postponed = tuple(self._postponed)
        self._postponed.clear()
        return postponed

    def waiting(self) -> Iterator[Inst]:
        """Those that wait for a fact or a name."""
        return iter({**dict.fromkeys(self._awaiting.values()), **dict.fromkeys(self._missing)})

    @property
    def nobody(self) -> bool:
        """Whether no call and no canon waits: then no fact can change anything any more."""
        return not self._awaiting

    def awaited(self) -> Mapping[Instance, str]:
        """The calls and canons that have no fact yet, arguments known or not, and whose they are."""
        return {Instance(*inst.id): inst.other.peer for inst in self._awaiting.values()}

    def waits(self, me: str, dry: Iterable[Inst]) -> Sequence[Wait]:
        """What waits, in the order of positions.

        Args:
            me: this peer.
            dry: folds whose stream has no element yet.
        """
        found = dict.fromkeys((*self._awaiting.values(), *self._missing, *dry))
        return [self._wait(inst, me) for inst in sorted(found, key=lambda inst: inst.key)]

    def _wait(self, inst: Inst, me: str) -> Wait:
        node: tree.Instruction = inst.node
        peer = None
        if inst in self._missing:
            reason = f"`{self._missing[inst]}` has no value yet"
        elif isinstance(node, tree.Fold):
            reason = f"nothing was written to `{getattr(node.iterable, 'name', '')}` yet"
        elif inst.other.peer == me:
            reason = "the service has not answered yet"
        elif isinstance(node, tree.Canon):
            peer, reason = inst.other.peer, f"{inst.other.peer} has not fixed `{node.source.name}` yet"
        else:
            peer, reason = inst.other.peer, f"{inst.other.peer} has not answered yet"
        return Wait(node, Instance(*inst.id), reason, peer)
