"""A service that runs: its calls one after the other; after a failure of its guests it is made anew.

What survives a failure is what lies in the state directory and in host interfaces such as ``kv``. The memory of guests begins anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from fluvial.errors import ServiceError
from fluvial.services import Status

from fluvial_fce_wasm.failures import FailureKind, GuestError, UnknownFunction
from fluvial_fce_wasm.guest.engine import GuestEngine
from fluvial_fce_wasm.levels import AskHost, GuestLevel, ProcessLevel, ThreadLevel
from fluvial_fce_wasm.places import ProcessPlaces
from fluvial_fce_wasm.process.parent import no_host
from fluvial_fce_wasm.quota import within_quota
from fluvial_fce_wasm.service_plan import ServicePlan
from fluvial_fce_wasm.shapes import PublicFunction, public_functions
from fluvial_fce_wasm.threads import GuestThreads, Pace
from fluvial_fce_wasm.turns import Turn

T = TypeVar("T")


class RunningService:
    """The guests of one service and the queue before them.

    Args:
        plan: how it runs.
        engine: gives the engine of the profile that the service needs; asked in the process of the node only.
        threads: where guests of this process run, shared by all services.
        places: that it needs one of for a process; None for as many processes as there are services.
        on_lost: told why whenever the instances are lost.
    """

    def __init__(
        self,
        plan: ServicePlan,
        engine: Callable[[bool], GuestEngine],
        *,
        threads: GuestThreads,
        places: ProcessPlaces | None = None,
        on_lost: Callable[[GuestError], None] = lambda error: None,
    ) -> None:
        self.plan = plan
        self._engine = engine
        self._threads = threads
        self._pace = Pace()
        self._places = places
        self._on_lost = on_lost
        self._level: GuestLevel | None = None
        self._functions: Mapping[str, PublicFunction] | None = None
        self._turn = Turn()
        self._has_ended = False
        self.fuel_used = 0
        self.restarts = 0
        self.used_at = 0.0

    @property
    def functions(self) -> Mapping[str, PublicFunction]:
        """Its public functions by all their names."""
        if self._functions is None:
            self._functions = public_functions(self.plan.modules[-1][1].shape)
        return self._functions

    @property
    def is_running(self) -> bool:
        """Whether there are instances."""
        return self._level is not None

    @property
    def is_busy(self) -> bool:
        """Whether a call is in progress."""
        return self._turn.is_taken

    async def start(self) -> None:
        """Make the instances, if there are none.

        Raises:
            GuestError: it is impossible.
        """
        async with self._turn:
            await self._watched(self._started)

    async def call(
        self,
        function: str,
        arguments: Sequence[Any],
        *,
        seconds: float,
        host: AskHost = no_host,
        keep: Callable[[], Awaitable[None]] | None = None,
    ) -> Any:
        """The result of a call, as JSON.

        Args:
            function: any of its public names.
            arguments: JSON values.
            seconds: for the wait and the call together; the call alone has the limit of the service, if that is less.
            host: answers what guests ask of the host.
            keep: called when the guests are done and all is well, before the next call begins: what host interfaces have gathered is kept.

        Raises:
            UnknownFunction: the facade has none of this name. GuestError: the call failed. ServiceError: there is no place for a process, or the service has ended.
        """
        if not self._turn.take_at_once():
            seconds = await self._waited(seconds)
        try:
            if self._has_ended:
                raise ServiceError(Status.UNKNOWN_SERVICE, "the service was removed while the call waited")
            if (found := self.functions.get(function)) is None:
                raise UnknownFunction(function)
            if self.plan.isolation == "process":
                self.used_at = anyio.current_time()
            value = await self._called(found, arguments, min(self.plan.limits.call_s, max(seconds, 0.001)), host)
            if keep is not None:
                await keep()
        finally:
            self._turn.give()
        if self._threads.is_stretch_over():  # after the turn was given, or all others would have to queue for it
            await anyio.lowlevel.checkpoint()
        return value

    async def _waited(self, seconds: float) -> float:
        """Take one's turn; what is left of the time."""
        until = anyio.current_time() + seconds
        with anyio.move_on_after(seconds) as scope:
            await self._turn.take()
        if scope.cancelled_caught:
            raise GuestError(FailureKind.TIMEOUT, "other calls of this service were in progress all the time")
        return until - anyio.current_time()

    async def _called(self, function: PublicFunction, arguments: Sequence[Any], seconds: float, host: AskHost) -> Any:
        try:
            return await self._watched(partial(self._made, function, arguments, seconds, host))
        except GuestError as error:
            if self._level is not None and self._level.dead:
                await self._lose(error)
            raise
        except BaseException:
            if self._level is not None and self._level.dead:
                await self._drop()
            raise

    async def _watched(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what makes guests run, within the quota of the state directory if there is one."""
        plan = self.plan
        return await (work() if plan.state is None else within_quota(plan.state, plan.limits.disk_bytes, work))

    async def _made(self, function: PublicFunction, arguments: Sequence[Any], seconds: float, host: AskHost) -> Any:
        level = self._level
        if level is None or level.dead:
            level = await self._started()
        try:
            return await level.call(function, arguments, seconds, host)
        finally:
            self.fuel_used = level.fuel_used

    async def _started(self) -> GuestLevel:
        if self._level is not None and not self._level.dead:
            return self._level
        await self._drop()
        plan = self.plan
        level: GuestLevel = (
            ProcessLevel(plan)
            if plan.isolation == "process"
            else ThreadLevel(plan, self._engine(plan.limits.counts_fuel), self._threads, self._pace)
        )
        try:
            if plan.isolation == "process" and self._places is not None:
                await self._places.take(self)
            await level.start(plan.limits.call_s)
        except BaseException:
            self._give_place()
            raise
        self._level = level
        return level

    async def _lose(self, error: GuestError) -> None:
        self.restarts += 1
        await self._drop()
        self._on_lost(error)

    async def _drop(self) -> None:
        level, self._level = self._level, None
        if level is not None:
            try:
                with anyio.CancelScope(shield=True):
                    await level.close()
            finally:
                self._give_place()

    def _give_place(self) -> None:
        if self._places is not None:
            self._places.give(self)

    async def swap(self, plan: ServicePlan) -> None:
        """Run another plan from the next call on. Calls that wait already are calls of the new one."""
        async with self._turn:
            await self._drop()
            self.plan, self._functions, self._pace = plan, None, Pace()

    async def close(self) -> None:
        """Throw the instances away; the next call makes new ones."""
        with anyio.CancelScope(shield=True):
            async with self._turn:
                await self._drop()

    async def end(self) -> None:
        """Throw the instances away when the call in progress is over; calls that wait, or come later, are refused."""
        self._has_ended = True
        await self.close()
