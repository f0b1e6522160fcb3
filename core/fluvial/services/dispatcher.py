"""The one object that answers calls: it finds who is meant, keeps the limits, and accounts for the outcome.

Who answers, in this order: a service of the table (built-in, effector or native; an id is there once), a handler bound for this very
particle (how a client answers its own script's ``load`` and ``return`` calls), the execution seat. Whether the call is *allowed* is
asked of the authorization before, by the caller of :meth:`Services.call`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from logging import DEBUG
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import anyio
import msgspec
import structlog

from fluvial.air.data.weight import EncodedJson, is_light
from fluvial.effectors import Call, Effector
from fluvial.errors import FluvialError, PluginError, ResourceLimit, ServiceError
from fluvial.fairness import equal
from fluvial.guard.guard import Guard
from fluvial.guard.guarded import GuardedExecution
from fluvial.identity import PeerId
from fluvial.seats import Json
from fluvial.services.accounts import CANCELLED, OUTCOMES, Accounts, Kind
from fluvial.services.disclosure import Disclosure
from fluvial.services.gate import CallPlace, Gate
from fluvial.services.interface import Interface
from fluvial.services.limits import ServiceLimits
from fluvial.services.service import Service, ServiceErrors, name_of
from fluvial.services.status import Status, listed, shortened
from fluvial.services.threads import Threads
from fluvial.services.turns import InTurn, at_once
from fluvial.services.values import to_result
from fluvial.waiting import now_s


class Inline(msgspec.Struct, frozen=True):
    """A handler that takes microseconds and waits for nothing; after a crash the same call may come again."""

    answer: Callable[[Call], Any]


Handler: TypeAlias = Callable[[Call], Awaitable[Any]] | Inline
"""Answers all functions of one service for one particle; fails with ServiceError, status 2 for a function it does not know."""

BOUND_MAX: Final = 100_000
"""Handlers bound at one time, all particles together."""


class _Entry(msgspec.Struct, frozen=True):
    service: Service
    kind: Kind


class Services:
    """All services of a peer.

    Args:
        peer: this peer; bound handlers answer only to particles that it began.
        accounts: where calls are counted.
        log: a logger bound to the peer.
        guard: calls them.
        execution: the seat of execution, if there is one; its own ``run`` is the caller's business.
        limits: see :class:`ServiceLimits`.
        weight: how much an initiator counts where calls wait (see :class:`FairQueue`), and for what is disclosed.

    Attributes:
        accounts: where calls are counted.
        disclosure: who may ask about this peer's neighbours and services.
    """

    def __init__(
        self,
        *,
        peer: PeerId,
        accounts: Accounts,
        log: structlog.stdlib.BoundLogger,
        guard: Guard,
        execution: GuardedExecution | None = None,
        limits: ServiceLimits | None = None,
        weight: Callable[[PeerId], int] = equal,
    ) -> None:
        self.accounts = accounts
        self._peer = peer
        self._log = log
        self._guard = guard
        self._execution = execution
        self._limits = limits or ServiceLimits()
        self.disclosure: Final = Disclosure(peer, self._limits.disclosed_to, weight)
        self._threads = Threads(self._limits.threads_max)
        self._gate = Gate(
            calls_max=self._limits.calls_max,
            waiting_max=self._limits.waiting_max,
            waiting_s_max=self._limits.waiting_s_max,
            weight=weight,
        )
        self._table: dict[str, _Entry] = {}
        self._starting: set[str] = set()
        self._bound: dict[str, dict[str, Handler]] = {}
        self._bound_count = 0

    # --- who is there -------------------------------------------------------------------------------------------------

    async def serve(self, effector: Effector[Any], *, kind: Kind = "native", plugin: str = "") -> None:
        """Start an effector and answer calls with it.

        Args:
            effector: the object whose functions are called.
            kind: how metrics call it: ``builtin``, ``effector`` (switched on in the config) or ``native`` (of the execution, or added at run time).
            plugin: whose code it is, for log and metrics; its class by default.

        Raises:
            PluginError: its class is unusable, its service id is taken, or its ``start`` failed.
        """
        service = Service(
            effector,
            threads=self._threads,
            guard=self._guard,
            plugin=plugin,
            result_bytes_max=self._limits.result_bytes_max,
        )
        if (taken := self._table.get(service.id)) is not None or service.id in self._starting:
            by = (
                f"{type(taken.service.effector).__name__} of {taken.service.plugin}"
                if taken
                else "another one that is being started"
            )
            raise PluginError(
                f"{type(effector).__name__} of {service.plugin} cannot serve {service.id!r}: {by} does",
                hint="choose another service_id",
            )
        self._starting.add(service.id)
        try:
            await service.start()
            self._table[service.id] = _Entry(service, kind)
        finally:
            self._starting.discard(service.id)
        self._log.info("service_started", service=service.id, kind=kind)

    async def withdraw(self, service_id: str) -> None:
        """Answer no more calls for a service and stop its effector; calls in progress go on.

        Raises:
            PluginError: there is no such service in the table, or its ``stop`` failed.
        """
        entry = self._table.pop(service_id, None)
        if entry is None:
            raise PluginError(f"no service {service_id!r} to withdraw; there are: {listed(list(self._table))}")
        self.accounts.forget(service_id)
        await entry.service.stop()
        self._log.info("service_stopped", service=service_id, kind=entry.kind)

    async def close(self) -> None:
        """Stop all effectors, the last started first; those that fail are logged."""
        with anyio.CancelScope(shield=True):  # each stop has its own deadline
            for service_id in reversed(list(self._table)):
                try:
                    await self.withdraw(service_id)
                except FluvialError as error:
                    self._log.error("service_stop_failed", service=service_id, error=error.message)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def bind(self, particle_id: str, service: str, handler: Handler) -> None:
        """Answer the calls that one particle, begun by this peer, makes to a service; until :meth:`release`.

        Raises:
            PluginError: the table has a service of that name, or the particle has such a handler already.
            ResourceLimit: too many handlers are bound.
        """
        handlers = self._bound.get(particle_id, {})
        if service in self._table or service in handlers:
            raise PluginError(f"particle {particle_id}: service {service!r} is there already", hint="use another name")
        if self._bound_count >= BOUND_MAX:
            raise ResourceLimit(
                f"{BOUND_MAX:,} handlers are bound to particles", hint="release those of finished particles"
            )
        self._bound.setdefault(particle_id, handlers)[service] = handler
        self._bound_count += 1

    def release(self, particle_id: str) -> None:
        """Forget the handlers of a particle; without effect if there are none."""
        self._bound_count -= len(self._bound.pop(particle_id, {}))

    def interfaces(self) -> Mapping[str, Interface]:
        """The interfaces of the table's services by id."""
        return {service_id: entry.service.interface for service_id, entry in self._table.items()}

    def kinds(self) -> Mapping[str, Kind]:
        """What kind each service of the table is of, by service id."""
        return {service_id: entry.kind for service_id, entry in self._table.items()}

    def serves(self, effector: Effector[Any]) -> bool:
        """Whether it is this very object that answers for its service."""
        entry = self._table.get(effector.service_id)
        return entry is not None and entry.service.effector is effector

    def answers(self, call: Call) -> bool:
        """Whether a call is answered here, by a service of the table or a handler of its particle, so that the execution is not asked for it."""
        return call.service in self._table or self._has_handler(call)

    def _has_handler(self, call: Call) -> bool:
        return call.initiator == self._peer and call.service in self._bound.get(call.particle_id, ())

    def is_inline(self, particle_id: str, initiator: PeerId, service: str, function: str) -> bool:
        """Whether a call is answered at once, without waiting for anything."""
        if (entry := self._table.get(service)) is not None:
            return entry.service.is_inline(function)
        return initiator == self._peer and isinstance(self._bound.get(particle_id, {}).get(service), Inline)

    def functions(self) -> Mapping[str, Sequence[str]]:
        """The functions of every service that any particle can call, by service id; the table hides the execution's equals."""
        table = {service_id: tuple(interface.functions) for service_id, interface in self.interfaces().items()}
        return {**(self._execution.services() if self._execution else {}), **table}

    # --- calls --------------------------------------------------------------------------------------------------------

    async def call(self, call: Call) -> Json:
        """The result of a service call; raises as :meth:`result`."""
        result = await self.result(call)
        return result.json if type(result) is EncodedJson else result

    async def result(self, call: Call, in_turn: InTurn = at_once) -> Json | EncodedJson:
        """The result of a service call; encoded, if it is heavy.

        Args:
            call: the call.
            in_turn: where heavy arguments are read and inline functions go through them, and heavy results are converted.

        Raises:
            ServiceError: with one of :class:`Status`, or a number of the service's own.
        """
        began = now_s()
        kind = self._kind(call)
        outcome = CANCELLED
        try:
            value = await self._answer(kind, call, in_turn)
            outcome = OUTCOMES[0]
            return value
        except ServiceError as error:
            outcome = OUTCOMES.get(error.status, "error")
            raise
        finally:
            seconds = now_s() - began
            self.accounts.observe(kind, outcome, seconds)
            if self._is_counted(kind, call):
                self.accounts.count(call.service, call.function, failed=outcome != OUTCOMES[0], seconds=seconds)
            if self._log.is_enabled_for(DEBUG):
                self._log.debug(
                    "service_called",
                    service=shortened(call.service, 80),
                    function=shortened(call.function, 80),
                    particle=call.particle_id,
                    outcome=outcome,
                    seconds=round(seconds, 6),
                )

    def _kind(self, call: Call) -> Kind:
        if (entry := self._table.get(call.service)) is not None:
            return entry.kind
        if self._has_handler(call):
            return "particle"
        return "unknown" if self._execution is None else "execution"

    def _is_counted(self, kind: Kind, call: Call) -> bool:
        if (entry := self._table.get(call.service)) is not None:
            return call.function in entry.service.interface.functions
        if kind != "execution" or self._execution is None:
            return False
        return call.function in (self._execution.functions_of(call.service) or ())

    async def _answer(self, kind: Kind, call: Call, in_turn: InTurn) -> Json | EncodedJson:
        timeout_s = self._limits.timeout_s
        if (entry := self._table.get(call.service)) is not None:
            service = entry.service
            if service.is_inline(call.function):
                answer = partial(service.answer, call, timeout_s=timeout_s)
                light, pure = service.is_light(call), service.effector.pure
                if not (light or pure):
                    read = partial(service.read, call, timeout_s=timeout_s)
                    answer = partial(answer, work=await in_turn(read, pure=True))
                return await in_turn(answer, light=light, pure=pure)
            if call.function in service.effector.placeless:
                return await service.call(call, timeout_s=timeout_s, in_turn=in_turn)
            most = service.effector.calls_max or self._limits.service_calls_max
            async with self._gate.place(service.id, most, call.payer):
                return await service.call(call, timeout_s=timeout_s, in_turn=in_turn)
        place = self._gate.place(call.service, self._limits.service_calls_max, call.payer)
        if kind == "particle":
            handler = self._bound[call.particle_id][call.service]
            if isinstance(handler, Inline):
                with ServiceErrors(call, timeout_s=timeout_s):
                    return self._converted("client", name_of(call), partial(handler.answer, call))
            with ServiceErrors(call, timeout_s=timeout_s):
                return await self._foreign("client", place, call, partial(self._handled, call, handler), in_turn)
        if self._execution is None:
            raise self._unknown_service(call)
        execution, timeout_s = self._execution, self._limits.execution_timeout_s
        try:
            work = partial(execution.call, call, timeout_s=timeout_s)
            with ServiceErrors(call, timeout_s=timeout_s):
                # Nobody changes its results any more, so that a thread can convert them.
                return await self._foreign(execution.plugin, place, call, work, in_turn, pure=True)
        except ServiceError as error:
            if error.status == Status.UNKNOWN_SERVICE and execution.functions_of(call.service) is None:
                raise self._unknown_service(call) from error
            raise

    async def _handled(self, call: Call, handler: Callable[[Call], Awaitable[Any]]) -> Any:
        return await self._guard.call(
            "client",
            name_of(call),
            lambda: handler(call),
            timeout_s=self._limits.timeout_s,
            passes=(ServiceError,),
            at_once=True,
        )

    async def _foreign(
        self,
        plugin: str,
        place: CallPlace,
        call: Call,
        work: Callable[[], Awaitable[Any]],
        in_turn: InTurn,
        *,
        pure: bool = False,
    ) -> Json | EncodedJson:
        async with place:
            value = await work()
            convert = partial(self._converted, plugin, name_of(call), lambda: value)
            # A heavy one keeps its place until it is converted: those that wait for that have no other bound.
            return convert() if is_light((value,)) else await in_turn(convert, pure=pure)

    def _converted(self, plugin: str, name: str, work: Callable[[], Any]) -> Json | EncodedJson:
        """A result as JSON. Converting it may run code of its author, too: of mappings, say."""
        bytes_max = self._limits.result_bytes_max
        return self._guard.run(
            plugin, name, lambda: to_result(work(), of=name, bytes_max=bytes_max), passes=(ServiceError,)
        )

    def _unknown_service(self, call: Call) -> ServiceError:
        all_told = self.disclosure.allows(call.initiator)
        told = self.functions() if all_told else [name for name, kind in self.kinds().items() if kind == "builtin"]
        rest = "" if all_told else ", and those that this peer does not name to you"
        return ServiceError(
            Status.UNKNOWN_SERVICE,
            f"no service {shortened(call.service, 80)!r} on this peer; there are: {listed(list(told), most=20)}{rest}",
        )
