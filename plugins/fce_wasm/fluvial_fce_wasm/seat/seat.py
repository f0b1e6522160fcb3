"""The execution ``wasm``: calls of deployed services, and what the node may know of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.abc import TaskStatus
from fluvial.effectors import Call
from fluvial.errors import FluvialError, ServiceError
from fluvial.findings import Finding
from fluvial.host_interfaces import Guest, HostInterface
from fluvial.identity import KeyPair, PeerId
from fluvial.policies import OwnerDelegate
from fluvial.ports import Capability, Context
from fluvial.seats import Contributions, Execution, Json
from fluvial.services import Status
from fluvial.services.native import NativeExecution, NativeOptions
from fluvial.virtual.threads import in_thread
from prometheus_client import Counter, Gauge

from fluvial_fce_wasm.failures import STATUSES, FailureKind, GuestError, UnknownFunction
from fluvial_fce_wasm.seat.builtin import Dist, Srv
from fluvial_fce_wasm.seat.deployments import Deployments
from fluvial_fce_wasm.seat.hosting import CallContext, HostCalls, HostShelf
from fluvial_fce_wasm.seat.interface_printer import InterfacePrinter
from fluvial_fce_wasm.seat.options import OPERATOR_KEY, WasmOptions
from fluvial_fce_wasm.seat.permissions import Permissions
from fluvial_fce_wasm.seat.vault_access import VaultInterface, VaultService
from fluvial_fce_wasm.seat.vaults import Vaults
from fluvial_fce_wasm.shapes import PublicFunction, completed, listed_names, public_functions
from fluvial_fce_wasm.tables import ModuleRow, ServiceEntry

if TYPE_CHECKING:
    from fluvial_fce_wasm.running import RunningService

SWEEP_S: Final = 5.0
"""How often the vaults of particles that have ended are deleted."""
TTL_MS_DEFAULT: Final = 60_000
"""For calls that come without a particle, in tests."""


class WasmExecution(Execution):
    """Takes the seat.

    Args:
        context: of the node.
        options: of the section.

    Raises:
        ConfigError: a Python service of the options cannot be used.
    """

    def __init__(self, context: Context, options: WasmOptions) -> None:
        self._context = context
        self._options = options
        self._me = context.keys.peer_id
        self._native = NativeExecution(context, NativeOptions(options.services))
        self._facades: dict[str, tuple[Mapping[str, PublicFunction], list[str]]] = {}
        self._lost = Counter(
            "fluvial_wasm_instances_lost",
            "Instances of services that were thrown away after a failure",
            ["kind"],
            registry=context.metrics,
        )
        Gauge("fluvial_wasm_services", "Services that are deployed", registry=context.metrics).set_function(
            lambda: len(self.deployments.inventory.services)
        )
        self._permissions = Permissions(self._me, options.deployers)
        self.deployments = Deployments(context, options, on_lost=self._on_lost)
        self.vaults = Vaults(
            context.base_dir / options.folder / "vaults",
            context.clock,
            bytes_max=options.vault_bytes_max,
            total_bytes_max=options.vaults_bytes_max,
        )
        self.shelf = HostShelf((), (), ())

    def contributions(self) -> Contributions:
        """The services ``dist``, ``srv`` and ``vault``, and those in Python, and the effectors that guests are granted."""
        given = self.deployments, self._permissions, InterfacePrinter()
        return Contributions(
            services=(
                Dist(*given),
                Srv(*given),
                VaultService(self._context, self.vaults, self._permissions),
                *self._native.contributions().services,
            ),
            capabilities=self._capabilities,
            health=self._health,
            extensions=(OwnerDelegate(lambda: self._permissions.operator),),
        )

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Read what is deployed, and delete the vaults of particles that have ended; throw away all instances at the end.

        Raises:
            ConfigError: a grant cannot be kept. PluginError: an effector for guests cannot be used.
        """
        interfaces: Sequence[Any] = self._context.extensions.all(HostInterface)
        free = (CallContext(self._me, self._context.clock), VaultInterface(self.vaults))
        self.shelf = HostShelf(free, interfaces, self._options.grants)
        self._permissions.operator = await in_thread(self._operator)
        await self.deployments.open(self.shelf)
        await self.vaults.open()
        task_status.started()
        try:
            while True:  # there may be thousands to delete at the start, which nobody waits for
                await self.vaults.sweep()
                await anyio.sleep(SWEEP_S)
        finally:
            with anyio.CancelScope(shield=True):
                await self.deployments.close()

    def _operator(self) -> PeerId:
        """Whose key lies in the folder; made the first time."""
        path = self._context.base_dir / self._options.folder / OPERATOR_KEY
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            KeyPair.generate().save(path)
        return KeyPair.load(path).peer_id

    # --- calls --------------------------------------------------------------------------------------------------------

    async def call(self, call: Call) -> Json:
        """As :meth:`Execution.call`."""
        entry = self._entry(call.service)
        facade = self.deployments.facade_of(entry)
        function = None if facade is None else self._public(facade)[0].get(call.function)
        if facade is not None and function is None:
            raise self._unknown_function(call, entry)
        arguments = call.arguments if function is None else completed(function.type, call.arguments)
        running = await self._running(entry)
        entry = self._entry(entry.id)  # it may have been replaced in the meantime
        hosting = HostCalls(
            self.shelf,
            Guest(service=entry.id, owner=PeerId.parse(entry.owner), call=call),
            modules=[module for _, module in self.deployments.blueprint_of(entry).modules],
            blueprint=entry.blueprint,
            log=self._context.log,
        )
        try:
            return await running.call(
                call.function, arguments, seconds=self._seconds(call), host=hosting.answer, keep=hosting.keep
            )
        except UnknownFunction as error:
            raise self._unknown_function(call, entry) from error
        except FluvialError as error:
            if isinstance(error, ServiceError):
                raise
            raise ServiceError(Status.FAILED, f"what it wanted to keep was not kept: {error.message}") from error

    def _entry(self, name: str) -> ServiceEntry:
        entry = self.deployments.find(name)
        if entry is None:
            raise ServiceError(Status.UNKNOWN_SERVICE, f"no service {name[:80]!r} in WebAssembly")
        return entry

    async def _running(self, entry: ServiceEntry) -> RunningService:
        try:
            return await self.deployments.running(entry)
        except ServiceError:
            raise
        except FluvialError as error:
            status = STATUSES[FailureKind.LINK]
            raise ServiceError(status, f"link: its modules are not here: {error.message}") from error

    def _seconds(self, call: Call) -> float:
        """Until the particle ends."""
        if not call.ttl_ms:
            return TTL_MS_DEFAULT / 1_000
        return max(0.0, (call.timestamp_ms + call.ttl_ms - self._context.clock.now_ms()) / 1_000)

    def _unknown_function(self, call: Call, entry: ServiceEntry) -> ServiceError:
        there = ", ".join(self._names_of(entry)[:12]) or "nothing"
        return ServiceError(
            Status.UNKNOWN_FUNCTION,
            f"service {call.service[:80]!r} has no function {call.function[:80]!r}; it has: {there}",
        )

    def services(self) -> Mapping[str, Sequence[str]]:
        """The deployed services, by their ids and aliases."""
        found: dict[str, Sequence[str]] = {}
        for entry in self.deployments.inventory.services.values():
            names = self._names_of(entry)
            found |= dict.fromkeys((entry.id, *self.deployments.aliases_of(entry.id)), names)
        return found

    def functions_of(self, service: str) -> Sequence[str] | None:
        """The functions of one service, by its id or an alias."""
        entry = self.deployments.find(service)
        return None if entry is None else self._names_of(entry)

    def _names_of(self, entry: ServiceEntry) -> list[str]:
        facade = self.deployments.facade_of(entry)
        return [] if facade is None else self._public(facade)[1]

    def _public(self, facade: ModuleRow) -> tuple[Mapping[str, PublicFunction], list[str]]:
        """The public functions of a facade by all their names, and one name of each."""
        if (found := self._facades.get(facade.id)) is None:
            if len(self._facades) > len(self.deployments.inventory.modules):  # some were removed
                self._facades.clear()
            found = self._facades[facade.id] = public_functions(facade.shape), listed_names(facade.shape)
        return found

    def policy(self, service: str) -> Json | None:
        """What the service's blueprint asks of those who call it."""
        entry = self.deployments.find(service)
        return None if entry is None else self.deployments.blueprint_of(entry).policy

    def price(self, service: str) -> int:
        """Units that a call costs, as the service's blueprint says."""
        entry = self.deployments.find(service)
        return 0 if entry is None else self.deployments.blueprint_of(entry).price

    def _capabilities(self) -> Iterable[Capability]:
        return [Capability("effector", name) for name in self.shelf.granted_effectors()]

    def _health(self) -> Iterable[Finding]:
        inventory = self.deployments.inventory
        yield Finding(
            level="ok", text=f"{len(inventory.services)} services of {len(inventory.modules)} modules in WebAssembly"
        )

    def _on_lost(self, service: str, error: GuestError) -> None:
        self._lost.labels(error.kind.value).inc()
        self._context.log.warning(
            "service_instances_lost",
            service=service,
            kind=error.kind.value,
            reason=error.reason,
            note="memory begins anew; state directory and what effectors keep stay",
        )
