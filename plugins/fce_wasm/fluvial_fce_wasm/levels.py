"""The two levels of isolation behind one protocol: guests in a worker thread of the node, or in a process that can be killed."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

from anyio import from_thread
from fluvial.virtual.loop import is_virtual
from fluvial.virtual.threads import in_thread

from fluvial_fce_wasm.compiling import CompiledModule
from fluvial_fce_wasm.failures import FailureKind, GuestError
from fluvial_fce_wasm.guest.engine import GuestEngine
from fluvial_fce_wasm.guest.instance import HostTrap, LinkedInstances, LoadedModule
from fluvial_fce_wasm.limits import GuestLimits
from fluvial_fce_wasm.linking import LinkPlan
from fluvial_fce_wasm.process.messages import CallOrder, HostAnswer, LoadOrder, ModuleOrder, OrderDone, OrderFailed
from fluvial_fce_wasm.process.parent import ChildProcess, no_host
from fluvial_fce_wasm.shapes import PublicFunction

Isolation: TypeAlias = Literal["thread", "process"]
AskHost: TypeAlias = Callable[[str, str, list[Any]], Coroutine[Any, Any, HostAnswer]]
"""Called on the event loop with interface, function and arguments of a call to the host."""

GRACE_S: Final = 0.25
"""After its deadline a process has so long to stop the guest itself; then it is killed."""
LOAD_S: Final = 30.0
"""How long a process may take to start and to load compiled modules, beside what its guests take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePlan:
    """All that is needed to run a service.

    Attributes:
        modules: name, compiled code, and share of the memory in bytes of each (``shares.py``).
        link: how they are linked.
        limits: of the service.
        isolation: where it runs.
        state: its state directory; None if it has none.
    """

    modules: Sequence[tuple[str, CompiledModule, int]]
    link: LinkPlan
    limits: GuestLimits
    isolation: Isolation
    state: Path | None = None


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
    """Functions of the host, reached from the thread of a guest."""

    def __init__(self) -> None:
        self.host: AskHost = no_host
        self.is_virtual = is_virtual()

    def call(self, interface: str, function: str, arguments: list[Any]) -> Any:
        if self.is_virtual:
            answer = _at_once(self.host(interface, function, arguments))
        else:
            answer = from_thread.run(self.host, interface, function, arguments)
        if answer.trap:
            raise HostTrap(answer.trap)
        return answer.value


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
    """

    def __init__(self, plan: ServicePlan, engine: GuestEngine) -> None:
        self._plan = plan
        self._engine = engine
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
        instances = self._instances
        assert instances is not None, "it was not started"
        self._door.host = host
        work = partial(instances.call, function.interface, function.name, function.type, arguments, seconds)
        try:
            return await in_thread(work)
        finally:
            self.dead, self.fuel_used, self._door.host = instances.dead, instances.fuel_used, no_host

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
