"""Takes a particle's session from an input to effects that can be written, and says in which order budgets and permissions are asked.

====  ==================================  =============================================  =====================================
step  what is done                        what is asked, in this order                   if it is refused
====  ==================================  =============================================  =====================================
1     a slice of the machine              memory, for heavy outcomes before it and for   the actor leaves, and goes on when
                                          all that it took after it                      there is room
2     calls of inline functions with      disk, number of calls, memory                  they are made after the transaction
      light arguments, then again 1       permission, for each call                      the call fails
3     the transaction                     disk                                           the particle ends here
4     all other calls; those of inline    weight of the arguments, permission, then      the call fails; or the actor
      functions in one task, others in   memory for how they ended; then again 1        leaves, and goes on later
      one each, or in that of the call
      from which they follow
====  ==================================  =============================================  =====================================

Step 3 is the actor's (``actor.py``); what a call asks for is in ``calling.py``; at the door, the inbox asks before there is an actor.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Final

import structlog

from fluvial.air.data.facts import Instance
from fluvial.air.data.weight import is_light
from fluvial.air.machine.findings import Request
from fluvial.air.machine.machine import Effects
from fluvial.air.machine.outcomes import CallOutcome, coming_bytes, waiting_bytes
from fluvial.air.machine.slices import Clock
from fluvial.fairness import Payer
from fluvial.particles.calling import make_call
from fluvial.particles.containment import Contained
from fluvial.particles.context import ActorContext
from fluvial.particles.session import ParticleSession
from fluvial.particles.sliced import SlicedInput
from fluvial.particles.turns import LoopTurn

AT_ONCE_MAX: Final = 64
"""Calls of inline functions that one transaction has; what a run asks for beyond these is called after it."""
AT_ONCE_BYTES: Final = 1_048_576
"""When the flow has taken so much memory more, the transaction has no further calls: after each the peer looks at its budgets."""

GOING_ON_MAX: Final = 4
"""Short runs of one transaction, after its first, that stand in no line."""

Begin = Callable[[], SlicedInput[Effects, Effects]]
"""Begins an input of the session."""


class Advance:
    """See the module's docstring.

    Args:
        session: the particle's.
        context: what actors work with.
        payer: whose share of what is short it uses.
        grown: told how many bytes a particle holds in the middle of a run; raises Refused, ``memory``, if it must not go on.
    """

    __slots__ = ("_context", "_grown", "_payer", "_session")

    def __init__(
        self,
        session: ParticleSession,
        context: ActorContext,
        *,
        grown: Callable[[ParticleSession, int], None],
        payer: Payer,
    ) -> None:
        self._session = session
        self._context = context
        self._grown = grown
        self._payer = payer

    async def run(
        self, begin: Begin, *, coming: int = 0, goes_on: bool = False, log: structlog.stdlib.BoundLogger
    ) -> Effects:
        """Step 1: the effects of one input. Raises as the input does, and Refused: ``memory``, ``busy``.

        Args:
            begin: the input.
            coming: bytes of memory that its first slice takes besides, if that is much.
            goes_on: whether it follows from a run that has just had its turn; see ``Processor.first_slice``.
            log: a logger bound to the particle.
        """
        session, processor = self._session, self._context.processor
        initiator = session.particle.initiator
        with Contained(log):
            advance = self._watched(begin(), coming)
            effects = None if coming else processor.first_slice(initiator, advance, goes_on=goes_on)
            if effects is None:
                effects = await processor.in_line(initiator, advance, upstream=session.upstream)
            return effects

    def _watched(self, run: SlicedInput[Effects, Effects], coming: int) -> Callable[[int, Clock], Effects | None]:
        """The slices of a run, each of which is looked at for the memory that it took."""

        def advance(steps: int, clock: Clock) -> Effects | None:
            nonlocal coming
            if coming:
                self._grown(self._session, run.held + coming)
                coming = 0
            effects = run.advance(steps, clock)
            if effects is None:
                self._grown(self._session, run.held)
            return effects

        return advance

    async def answer_at_once(self, effects: Effects, *, log: structlog.stdlib.BoundLogger) -> Effects:
        """Step 2: make the calls that inline functions answer, and run on, before anything is written: one transaction has all of it.

        Nobody outside has seen anything of it yet. So after a crash these calls are simply made again.

        Args:
            effects: of the run before.
            log: a logger bound to the particle.
        """
        if not (requests := effects.requests):
            return effects
        left, most = AT_ONCE_MAX, self._session.held + AT_ONCE_BYTES
        runs = 0
        turn = LoopTurn()
        while (quick := list(islice(self._inline(requests), left))) and self._has_room(most):
            left -= len(quick)
            outcomes = await self._outcomes_of(quick, turn, log)
            if not outcomes:
                break
            coming = sum(map(coming_bytes, outcomes.values()))
            begin = partial(self._session.resolving, outcomes)
            more = await self.run(begin, coming=coming, goes_on=runs < GOING_ON_MAX, log=log)
            runs += 1
            effects = _joined(effects, more, outcomes)
            requests = more.requests  # those before were looked at, and there may be tens of thousands
        return effects

    def _has_room(self, most: int) -> bool:
        session = self._session
        if session.held > most:
            return False
        return self._context.quota.may_go_on(session.particle, session.upstream, journal=session.journal_bytes)

    def _inline(self, requests: Sequence[Request]) -> Iterator[Request]:
        """Those that inline functions answer."""
        particle, is_inline = self._session.particle, self._context.services.is_inline
        for one in requests:
            if is_inline(particle.id, particle.initiator, one.service, one.function):
                yield one

    async def _outcomes_of(
        self, requests: Sequence[Request], turn: LoopTurn, log: structlog.stdlib.BoundLogger
    ) -> Mapping[Instance, CallOutcome]:
        """How those with light arguments ended, or the first of them, if that takes much memory; weighing some hundred takes its time, too."""
        outcomes, held = {}, 0
        for request in requests:
            with Contained(log):
                if is_light(request.arguments):
                    outcome = await make_call(self._session.particle, request, self._context, log, payer=self._payer)
                    outcomes[request.instance] = outcome
                    held += waiting_bytes(outcome)
            if held > AT_ONCE_BYTES:
                break
            await turn.over()
        return outcomes


def _joined(before: Effects, after: Effects, answered: Collection[Instance]) -> Effects:
    """The effects of two runs, between which some of the first one's requests were answered, as those of one."""
    return Effects(
        records=before.records + after.records,
        requests=tuple(one for one in before.requests if one.instance not in answered) + after.requests,
        next_peers=before.next_peers + after.next_peers,
        error=before.error or after.error,
        equivocations=before.equivocations + after.equivocations,
        finished=after.finished,
        failed=before.failed or after.failed,
    )
