"""Tasks that stand by for work whose first stretch is made by whoever begins it, as a part of them: most work of services ends with that.

A task for each such call, with its context, its scope and its turn of the event loop, costs several times what the call does. What does not end at once goes on
in the task that stood in for it, which is its own from then on.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from typing import Any

import anyio

from fluvial.begun import Begun
from fluvial.guard.blame import BLAME, Blame


class StandIn:
    """A task that waits until it is given work of which the first stretch is made.

    Attributes:
        task: the task; it waits.
        scope: ends what it goes on with, as in any cancel scope.
    """

    __slots__ = ("_context", "_given", "scope", "task")

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.scope = anyio.CancelScope()
        self._given: asyncio.Future[Begun[None] | None] = loop.create_future()
        self._context = copy_context()
        standing = Begun(self._stand())
        self.task: asyncio.Task[None] = loop.create_task(standing, context=self._context)
        standing.begin_as(self.task, self._context)

    async def _stand(self) -> None:
        with self.scope:
            if (work := await self._given) is not None:
                await work

    def begin(self, work: Begun[None], name: str, blame: Blame | None) -> bool:
        """Make the first stretch of work, which raises nothing; whether it was all, and somebody else's can be begun after it.

        Args:
            work: has no scope of its own.
            name: of the task from now on, for debuggers, if there is more to do.
            blame: for the context of the work.
        """
        context = self._context
        if blame is not None:
            context.run(BLAME.set, blame)
        before = context.copy()
        if work.begin_as(self.task, context):
            if context == before and not self.task.cancelling():
                return True
            self.dismiss()  # what it has left there is for nobody else
        else:
            self.task.set_name(name)
            self._given.set_result(work)
        return False

    def dismiss(self) -> None:
        """There will be no work."""
        if not self._given.done():
            self._given.set_result(None)


class StandIns:
    """Keeps one of them: another one is only needed where the first stretch of work begins more of the kind."""

    __slots__ = ("_free",)

    def __init__(self) -> None:
        self._free: StandIn | None = None

    def begin(self, work: Begun[Any], name: str, blame: Blame | None) -> StandIn:
        """Begin work in one of them, as :meth:`StandIn.begin`."""
        one, self._free = self._free or StandIn(), None
        if one.begin(work, name, blame):
            if self._free is None:
                self._free = one
            else:
                one.dismiss()
        return one

    def close(self) -> None:
        """None stands by any more."""
        one, self._free = self._free, None
        if one is not None:
            one.dismiss()
