"""The two levels of isolation behind one protocol: guests in a worker thread of the node, or in a process that can be killed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from fluvial.virtual.loop import is_virtual
from fluvial.virtual.threads import in_thread

from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.guest.engine import GuestEngine
from fluvial_fce_wasm.guest.instance import HostTrap, LinkedInstances, LoadedModule
from fluvial_fce_wasm.process.messages import CallOrder, HostAnswer, LoadOrder, ModuleOrder, OrderDone, OrderFailed
from fluvial_fce_wasm.process.parent import ChildProcess, no_host
from fluvial_fce_wasm.service_plan import ServicePlan
from fluvial_fce_wasm.shapes import PublicFunction
from fluvial_fce_wasm.threads import (
    INLINE_MODULES_MAX,
    INLINE_RESULT_BYTES,
    INLINE_S,
    GuestCall,
    GuestThreads,
    LoopLine,
    Pace,
    is_small,
)
from fluvial_fce_wasm.wit.types import WitPrimitive

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


class _LoopDoor:
    """Functions of the host, reached from the thread of a guest.

    Attributes:
        host: answers.
        call_in_progress: if there is one.
    """

    def __init__(self) -> None:
        self.host: AskHost = no_host
        self.call_in_progress: GuestCall | None = None
        self._virtual = is_virtual()
        self._line = LoopLine()

    def call(self, interface: str, function: str, arguments: list[Any]) -> Any:
        """As :meth:`HostDoor.call`."""
        if self._virtual:
            answer = _at_once(self.host(interface, function, arguments))
        else:
            if self.call_in_progress is not None:
                self.call_in_progress.look_away()
            answer = self._line.ask(self.host(interface, function, arguments))
        if answer.trap:
            raise HostTrap(answer.trap)
        return answer.value

    def cancel(self) -> None:
        """End the function that a guest waits for; the guest is stopped."""
        self._line.cancel()


def _at_once(work: Coroutine[Any, Any, HostAnswer]) -> HostAnswer:
    """The result of a function that does not wait; in simulated time a guest runs within one step of the event loop."""
    try:
        work.send(None)
    except StopIteration as done:
        answer: HostAnswer = done.value
        return answer
    work.close()
    raise HostTrap("it waits, which functions of the host cannot do in simulated time")


class ThreadLevel(GuestLevel):
    """Instances in this process, called in a worker thread. For guests that cannot block: those without WASI.

    Args:
        plan: of the service.
        engine: that has its profile.
        threads: where it is called.
    """

    def __init__(self, plan: ServicePlan, engine: GuestEngine, threads: GuestThreads) -> None:
        self._plan = plan
        self._engine = engine
        self._threads = threads
        self._pace = Pace()
        self._is_inline = plan.stateless and not plan.link.uses("host") and len(plan.modules) <= INLINE_MODULES_MAX
        self._door = _LoopDoor()
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
        instances = LinkedInstances(self._engine, modules, plan.link, plan.limits, host=self._door, state=plan.state)
        instances.start(seconds)
        return instances

    async def call(self, function: PublicFunction, arguments: Sequence[Any], seconds: float, host: AskHost) -> Any:
        """As :meth:`GuestLevel.call`. Whoever is cancelled waits until the guest has ended, at most ``seconds``."""
        key = (function.interface, function.name)
        if self._is_inline and self.is_inline(function) and seconds > INLINE_S and is_small(arguments):
            try:
                return await self._inline(function, arguments)
            except GuestError as error:
                if error.kind not in (FailureKind.TIMEOUT, FailureKind.RESULT):
                    raise
            self._pace.was_late(key)
            await self._renew()
        return await self._in_a_thread(function, arguments, seconds, host)

    async def _in_a_thread(
        self, function: PublicFunction, arguments: Sequence[Any], seconds: float, host: AskHost
    ) -> Any:
        instances, door = self._instances, self._door
        assert instances is not None, "it was not started"
        work = partial(instances.call, function.interface, function.name, function.type, arguments, seconds)
        call = GuestCall(work, door.cancel)
        door.host, door.call_in_progress = host, call
        try:
            return await self._threads.run(call, self._pace, (function.interface, function.name))
        finally:
            self.dead, self.fuel_used = instances.dead, instances.fuel_used
            door.host, door.call_in_progress = no_host, None

    def is_inline(self, function: PublicFunction) -> bool:
        """Whether a call may be made inline: it has proven short, and its result is read without a loop, which nobody could stop."""
        result = function.type.result
        is_simple = result is None or isinstance(result, WitPrimitive)
        return self._is_inline and is_simple and self._pace.is_proven((function.interface, function.name))

    async def _inline(self, function: PublicFunction, arguments: Sequence[Any]) -> Any:
        instances = self._instances
        assert instances is not None, "it was not started"
        try:
            value = instances.call(
                function.interface, function.name, function.type, arguments, INLINE_S, result_bytes=INLINE_RESULT_BYTES
            )
        finally:
            self.dead, self.fuel_used = instances.dead, instances.fuel_used
        await self._threads.turn()
        return value

    async def _renew(self) -> None:
        """New instances in place of those that were stopped in haste."""
        if self.dead and self._instances is not None:
            await in_thread(self._instances.close)
            self._instances = await in_thread(partial(self._make, self._plan.limits.call_s))
            self.dead = False

    async def close(self) -> None:
        """As :meth:`GuestLevel.close`."""
        self.dead = True
        if self._instances is not None:
            await in_thread(self._instances.close)
            self._instances = None


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
