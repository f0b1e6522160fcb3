"""Gives memory of particles back when it is short: first what can be had again for nothing, then machines of those who hold more than their part."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from fluvial.fairness import Payer
from fluvial.particles.actor import Actor
from fluvial.particles.memory import ADMITTING, MemoryBudget
from fluvial.particles.present import PresentActors
from fluvial.particles.resting import RestingActors
from fluvial.particles.scripts import Scripts

RELIEF: Final = 0.7
"""When memory is short, so much of the limit may stay in use: less than what lets something new in."""
SMALL: Final = 65_536
"""Bytes of a machine that stays though memory is short, if whoever pays for it has little of their part."""


class MemoryRelief:
    """See the module's docstring; the budget asks for it from now on.

    Args:
        budget: who holds how much.
        present: the actors that are in memory.
        resting: those of them that are idle.
        scripts: the cache of parsed scripts.
        leave: drops an idle actor, which comes back from the store when it is needed.
        put_off: drops one whose calls are in flight: it goes on when there is room.
        metrics: gets ``fluvial_particles_put_off_total``.
    """

    def __init__(
        self,
        budget: MemoryBudget,
        present: PresentActors,
        resting: RestingActors,
        scripts: Scripts,
        *,
        leave: Callable[[Actor], None],
        put_off: Callable[[Actor], None],
        metrics: CollectorRegistry,
    ) -> None:
        self._budget = budget
        self._present = present
        self._resting = resting
        self._scripts = scripts
        self._leave = leave
        self._put_off = put_off
        self._count = Counter("fluvial_particles_put_off", "Machines that left for want of memory", registry=metrics)
        budget.relieve, budget.give_back = self.relieve, self._give_back

    def has_room(self, held: int) -> bool:
        """Whether there is room for a particle that could wait, and held so much before.

        Small ones may have all the room, which is more than what newcomers may have; large ones would soon have to leave again.
        """
        most = self._budget.bytes_max
        self.relieve()
        return self._budget.total <= min(max(most - held, 0), most if held <= SMALL else ADMITTING * most)

    def relieve(self) -> None:
        """If more than a part of the memory is in use, give back what can be had again; if all is in use, also what cannot be had for nothing."""
        budget, resting = self._budget, self._resting
        enough = int(RELIEF * budget.bytes_max)
        if budget.total > enough:
            self._scripts.forget_unused()
        while budget.total > enough and (actor := resting.heaviest()) is not None and actor.held > SMALL:
            self._leave_idle(actor)
        # Small ones of those who hold little stay: little would come of it, and they would have to wait until theirs is back.
        for payer in budget.above(RELIEF) if budget.total > enough else ():
            while budget.held(payer) > RELIEF * budget.part(payer) and (actor := resting.of(payer)) is not None:
                self._leave_idle(actor)
        while budget.over and (actor := self._heavy()) is not None:
            self._count.inc()
            self._put_off(actor)

    def _give_back(self, payer: Payer) -> bool:
        """Drop an idle actor of one who would be refused else; whether there was one."""
        if (actor := self._resting.of(payer)) is None:
            return False
        self._leave_idle(actor)
        return True

    def _heavy(self) -> Actor | None:
        """One of the heaviest machines of whoever holds most, if it is only waiting for services."""
        payer = self._budget.heaviest()
        return None if payer is None else self._present.heavy(payer)

    def _leave_idle(self, actor: Actor) -> None:
        self._count.inc()
        self._leave(actor)
