"""The agenda: the activations that have a turn to come, in the order of their positions.

Facts, values and elements wake activations in the order in which they happen to arrive. The agenda gives turns in the order of positions
(``positions``), so what happens, and in which order, is what one walk through the script would do.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

from fluvial.air.machine.activations import Activation
from fluvial.air.machine.positions import Key


class Agenda:
    """The turns to come.

    Attributes:
        turns: a heap of (position, order of arrival, activation); to be looked at, not changed.
    """

    __slots__ = ("_later", "_order", "turns")

    def __init__(self) -> None:
        self.turns: list[tuple[Key, int, Activation]] = []
        self._later: dict[tuple[Key, Activation], None] = {}
        self._order = count()

    def push(self, activation: Activation) -> None:
        """Give an activation a turn at its own position; a second request changes nothing."""
        if not activation.due:
            activation.due = True
            heappush(self.turns, (activation.key, next(self._order), activation))

    def push_later(self, activation: Activation, key: Key) -> None:
        """Give an activation a turn at a position after its own: that of a part that it begins."""
        turn = (key, activation)
        if turn not in self._later:
            self._later[turn] = None
            heappush(self.turns, (key, next(self._order), activation))

    def pop(self) -> Activation:
        """The activation whose turn it is."""
        key, _, activation = heappop(self.turns)
        if key is activation.key:
            activation.due = False
        else:
            self._later.pop((key, activation), None)
        return activation
