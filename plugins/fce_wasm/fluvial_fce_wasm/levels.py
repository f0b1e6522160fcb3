"""The two levels of isolation behind one protocol: guests in a worker thread of the node, or in a process that can be killed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

import anyio
import anyio.lowlevel
from fluvial.virtual.loop import is_virtual
from fluvial.virtual.threads import in_thread

from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.guest.arena import BudgetExceeded
from fluvial_fce_wasm.guest.engine import GuestEngine
from fluvial_fce_wasm.guest.instance import GuestStep, LinkedInstances, LoadedModule
from fluvial_fce_wasm.process.messages import CallOrder, HostAnswer, LoadOrder, ModuleOrder, OrderDone, OrderFailed
from fluvial_fce_wasm.process.parent import ChildProcess
from fluvial_fce_wasm.service_plan import ServicePlan
from fluvial_fce_wasm.shapes import PublicFunction
from fluvial_fce_wasm.threads import CALL_INLINE_S, INLINE_RESULT_BYTES, SHORT_S, GuestThreads, Pace, is_small

AskHost: TypeAlias = Callable[[str, str, list[Any]], Coroutine[Any, Any, HostAnswer]]
"""Called on the event loop with interface, function and arguments of a call to the host."""

GRACE_S: Final = 0.25
"""After its deadline a process has so long to stop the guest itself; then it is killed."""
LOAD_S: Final = 30.0
"""How long a process may take to start and to load compiled modules, beside what its guests take."""


class GuestLevel(Protocol):
    """Where the guests of one service run.

    Attributes:
        dead: whether the instances are gone.
        fuel_used: by the last call.
    """

    dead: bool
    fuel_used: int

    async def start(self, seconds: float) -> None:
        """Make the instances; raises GuestError."""
        ...

    async def call(self, function: PublicFunction, arguments: Sequence[Any], seconds: float, host: AskHost) -> Any:
        """The result of a call; raises GuestError."""
        ...

    async def close(self) -> None:
        """Throw the instances away."""
        ...


class ThreadLevel(GuestLevel):
    """Instances in this process, called in the thread of the event loop or in worker threads (``threads.py``). For guests that cannot block: those without WASI.

    Args:
        plan: of the service.
        engine: that has its profile.
        threads: where it is called.
        pace: of the service, which outlives these instances.
    """

    def __init__(self, plan: ServicePlan, engine: GuestEngine, threads: GuestThreads, pace: Pace) -> None:
        self._plan = plan
        self._engine = engine
        self._threads = threads
        self._pace = pace
        self._is_virtual = is_virtual()
        self._instances: LinkedInstances | None = None
        self.dead = False
        self.fuel_used = 0

    async def start(self, seconds: float) -> None:
        """As :meth:`GuestLevel.start`."""
        self._instances = await in_thread(partial(self._make, seconds))

    def _make(self, seconds: float) -> LinkedInstances:
        modules = [
            LoadedModule(name, self._engine.load(one.path), one.shape, share) for name, one, share in self._plan.modules
        ]
        plan = self._plan
        instances = LinkedInstances(self._engine, modules, plan.link, plan.limits, state=plan.state)
        instances.start(seconds)
        return instances

    async def call(self, function: PublicFunction, arguments: Sequence[Any], seconds: float, host: AskHost) -> Any:
        """As :meth:`GuestLevel.call`. Whoever is cancelled waits until the guest asks the host or has ended, at most ``seconds``."""
        instances = self._instances
        assert instances is not None, "it was not started"
        key = (function.interface, function.name)
        is_large = not is_small(arguments)
        left_s = CALL_INLINE_S if self._is_virtual or (not is_large and self._pace.is_quick(key)) else 0.0
        work: Callable[[], GuestStep] = partial(instances.begin, *key, function.type, arguments, seconds)
        try:
            while True:
                if left_s > 0:
                    step, left_s = self._inline(key, work, left_s)
                elif is_large:
                    is_large, step = False, await self._threads.hand_over(work)
                else:
                    step = await self._threads.run(partial(_worked, instances, work))
                if step is GuestStep.DONE:
                    break
                if step is GuestStep.ASKS and not await self._answer(instances, host):
                    left_s = 0.0
                work = instances.go_on
            try:
                return instances.result(INLINE_RESULT_BYTES)
            except BudgetExceeded:
                return await self._threads.run(instances.result)
        finally:
            if instances.runs:
                await self._threads.run(instances.stop)
            self.dead, self.fuel_used = instances.dead, instances.fuel_used

    def _inline(self, key: tuple[str, str], work: Callable[[], GuestStep], left_s: float) -> tuple[GuestStep, float]:
        """Make a step here and now; it, and how long this call may still hold the event loop."""
        pace = self._pace
        clock = pace.clock(key)
        began = clock()
        try:
            step = work()
        except GuestError:
            if clock() - began >= SHORT_S:
                pace.was_late(key)
            raise
        took = clock() - began
        if self._is_virtual:
            return step, left_s
        left_s -= took
        if took < SHORT_S and left_s > 0:
            pace.was_short(key)
            return step, 0.0 if step is GuestStep.YIELDED else left_s
        pace.was_late(key)
        return step, 0.0

    async def _answer(self, instances: LinkedInstances, host: AskHost) -> bool:
        """Let the host answer; whether the guest may go on in the thread of the event loop, as far as that depends on the answer."""
        question = instances.question
        if self._threads.is_stretch_over():
            await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(instances.seconds_left) as scope:
            answer = await host(question.interface, question.function, question.arguments)
            instances.answer(answer)
        if scope.cancelled_caught:
            raise instances.stop()
        return self._is_virtual or is_small([answer.value])

    async def close(self) -> None:
        """As :meth:`GuestLevel.close`."""
        self.dead = True
        if self._instances is not None:
            await in_thread(self._instances.close)
            self._instances = None


def _worked(instances: LinkedInstances, work: Callable[[], GuestStep]) -> GuestStep:
    """Make steps in a worker thread, until the call is over or the host is asked."""
    step = work()
    while step is GuestStep.YIELDED:
        step = instances.go_on()
    return step


class ProcessLevel(GuestLevel):
    """Instances in a process of their own, which is killed when a call is late, or its caller is cancelled.

    Args:
        plan: of the service.
    """

    def __init__(self, plan: ServicePlan) -> None:
        self._plan = plan
        self._child: ChildProcess | None = None
        self.dead = False
        self.fuel_used = 0

    @property
    def pid(self) -> int:
        """Of the process; 0 if there is none."""
        return 0 if self._child is None else self._child.pid

    async def start(self, seconds: float) -> None:
        """As :meth:`GuestLevel.start`."""
        plan = self._plan
        order = LoadOrder(
            tuple(ModuleOrder(name, str(one.path), one.shape, share) for name, one, share in plan.modules),
            plan.link,
            plan.limits,
            "" if plan.state is None else str(plan.state.absolute()),
            seconds,
        )
        self._child = await ChildProcess.spawn("guest")
        try:
            reply = await self._child.ask(order, timeout_s=seconds + LOAD_S)
        except BaseException:
            self.dead = True
            raise
        if isinstance(reply, OrderFailed):
            await self.close()
            raise GuestError(FailureKind(reply.kind), reply.reason)

    async def call(self, function: PublicFunction, arguments: Sequence[Any], seconds: float, host: AskHost) -> Any:
        """As :meth:`GuestLevel.call`."""
        assert self._child is not None, "it was not started"
        order = CallOrder(function.interface, function.name, list(arguments), seconds)
        try:
            reply = await self._child.ask(order, timeout_s=seconds + GRACE_S, host=host)
        finally:
            self.dead = not self._child.is_alive
        if isinstance(reply, OrderFailed):
            self.dead, self.fuel_used = reply.dead, reply.fuel_used
            raise GuestError(FailureKind(reply.kind), reply.reason)
        if not isinstance(reply, OrderDone):
            await self.close()
            raise GuestError(FailureKind.TRAP, "its process answered another question")
        self.fuel_used = reply.fuel_used
        return reply.value

    async def close(self) -> None:
        """As :meth:`GuestLevel.close`."""
        self.dead = True
        if self._child is not None:
            await self._child.kill()
