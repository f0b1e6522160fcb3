"""How calls of one particle ended, until its machine takes that in; pure."""

from __future__ import annotations

from fluvial.air.data.facts import Instance
from fluvial.air.machine.outcomes import CallOutcome, coming_bytes, waiting_bytes


class Answers:
    """See the module's docstring.

    Attributes:
        held: bytes of memory that they take while they wait, about.
    """

    __slots__ = ("_heavy", "_light", "held")

    def __init__(self) -> None:
        self.held = 0
        self._light: dict[Instance, CallOutcome] | None = None  # made when there are some: most particles only wait
        self._heavy: dict[Instance, CallOutcome] | None = None

    def __bool__(self) -> bool:
        return bool(self._light or self._heavy)

    def put(self, instance: Instance, outcome: CallOutcome) -> None:
        """A call has ended."""
        self.held += waiting_bytes(outcome)
        if coming_bytes(outcome):
            self._heavy = self._heavy or {}
            self._heavy[instance] = outcome
        else:
            self._light = self._light or {}
            self._light[instance] = outcome

    def take(self) -> tuple[dict[Instance, CallOutcome], int]:
        """All light ones and one heavy one, and how many bytes the machine needs for that one."""
        outcomes, self._light = self._light or {}, None
        coming = 0
        if self._heavy:
            instance = next(iter(self._heavy))
            heavy = outcomes[instance] = self._heavy.pop(instance)
            coming = coming_bytes(heavy)
        self.held = sum(map(waiting_bytes, (self._heavy or {}).values()))
        return outcomes, coming
