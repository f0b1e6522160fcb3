"""Statements whose issuers have no weight yet: they wait, in memory and within bounds, so that the order of arrival does not matter.

There are three bounds: in all, for one issuer, for one sender. When all places are taken, a newcomer takes one from the sender that
has most; if that is its own sender, it is refused. So a flood of one sender, or of its fresh keys, displaces only what it brought itself.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TypeAlias

from fluvial.identity import PeerId

from fluvial_trust_graph.statements import Statement, is_newer

Pair: TypeAlias = tuple[PeerId, PeerId]


class WaitingRoom:
    """See the module's docstring; pure.

    Args:
        places: in all.
        issuer_max: for one issuer.
        sender_max: for one sender.
    """

    def __init__(self, *, places: int, issuer_max: int, sender_max: int) -> None:
        self._places = places
        self._issuer_max = issuer_max
        self._sender_max = sender_max
        self._waiting: dict[Pair, tuple[Statement, PeerId]] = {}
        self._of_issuer: dict[PeerId, set[Pair]] = {}
        self._of_sender: dict[PeerId, OrderedDict[Pair, None]] = {}
        self._having: dict[int, dict[PeerId, None]] = {}
        """Senders by how many of their statements wait."""
        self._most = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def issuers(self) -> list[PeerId]:
        """Whose statements wait."""
        return list(self._of_issuer)

    def put(self, statement: Statement, sender: PeerId) -> bool:
        """Let a statement wait; False if there is no place for it, or a newer one waits already."""
        pair = statement.issuer, statement.subject
        known = self._waiting.get(pair)
        if known is not None:
            if not is_newer(statement, known[0]) or (known[1] != sender and self._has_enough(sender)):
                return False
            self._drop(pair)
        elif len(self._of_issuer.get(statement.issuer, ())) >= self._issuer_max:
            return False
        if not self._has_place_for(sender):
            return False
        self._waiting[pair] = statement, sender
        self._of_issuer.setdefault(statement.issuer, set()).add(pair)
        own = self._of_sender.setdefault(sender, OrderedDict())
        own[pair] = None
        self._rank(sender, len(own) - 1, len(own))
        return True

    def may_take(self, statement: Statement, sender: PeerId) -> bool:
        """Whether :meth:`put` may find a place; False only if it would not. Quick, so it is asked before a signature is verified."""
        known = self._waiting.get((statement.issuer, statement.subject))
        if known is not None:
            return is_newer(statement, known[0])
        return (
            self._places > 0
            and not self._has_enough(sender)
            and len(self._of_issuer.get(statement.issuer, ())) < self._issuer_max
        )

    def release(
        self, is_heard: Callable[[PeerId], bool], among: Iterable[PeerId] | None = None
    ) -> list[tuple[Statement, PeerId]]:
        """Take out the statements of all issuers, or of some, that have weight by now, each with its sender."""
        released = []
        for issuer in self.issuers() if among is None else among:
            if issuer in self._of_issuer and is_heard(issuer):
                for pair in list(self._of_issuer[issuer]):
                    released.append(self._waiting[pair])
                    self._drop(pair)
        return released

    def expire(self, is_over: Callable[[Statement], bool]) -> None:
        """Drop what has become useless while it waited."""
        for pair, (statement, _) in list(self._waiting.items()):
            if is_over(statement):
                self._drop(pair)

    def _has_enough(self, sender: PeerId) -> bool:
        return len(self._of_sender.get(sender, ())) >= self._sender_max

    def _has_place_for(self, sender: PeerId) -> bool:
        if self._has_enough(sender) or not self._places:
            return False
        if len(self._waiting) < self._places:
            return True
        if self._most <= len(self._of_sender.get(sender, ())) + 1:
            return False
        most = next(iter(self._having[self._most]))
        self._drop(next(iter(self._of_sender[most])))
        return True

    def _drop(self, pair: Pair) -> None:
        _, sender = self._waiting.pop(pair)
        self._of_issuer[pair[0]].discard(pair)
        if not self._of_issuer[pair[0]]:
            del self._of_issuer[pair[0]]
        own = self._of_sender[sender]
        del own[pair]
        if not own:
            del self._of_sender[sender]
        self._rank(sender, len(own) + 1, len(own))

    def _rank(self, sender: PeerId, before: int, now: int) -> None:
        """A sender has so many; who has most is known without a look at all of them, whose keys are free."""
        if before:
            del self._having[before][sender]
            if not self._having[before]:
                del self._having[before]
        if now:
            self._having.setdefault(now, {})[sender] = None
        self._most = max(self._most, now)
        while self._most and self._most not in self._having:
            self._most -= 1
