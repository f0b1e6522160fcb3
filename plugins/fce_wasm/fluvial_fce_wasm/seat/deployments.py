"""What is deployed on this peer: modules, blueprints and services, in the tables and running."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio
import msgspec
from fluvial.blob_id import BlobId
from fluvial.effectors import EffectorError
from fluvial.errors import ServiceError
from fluvial.identity import PeerId
from fluvial.policies import PolicyReader
from fluvial.ports import Context
from fluvial.prepared import Prepared
from fluvial.services import Status
from fluvial.virtual.loop import is_virtual
from fluvial.virtual.threads import in_thread

from fluvial_fce_wasm import tables
from fluvial_fce_wasm.blueprints import (
    BLUEPRINT_BYTES_MAX,
    Blueprint,
    blueprint_bytes,
    blueprint_id,
    read_blueprint,
)
from fluvial_fce_wasm.compiling import CodeCache
from fluvial_fce_wasm.composing import Composer
from fluvial_fce_wasm.failures import GuestError
from fluvial_fce_wasm.limits import MODULE_BYTES_MAX, GuestLimits
from fluvial_fce_wasm.parts import ServiceParts, prepared
from fluvial_fce_wasm.places import ProcessPlaces
from fluvial_fce_wasm.seat.hosting import HostShelf
from fluvial_fce_wasm.seat.options import WasmOptions
from fluvial_fce_wasm.service_plan import Isolation, ServicePlan
from fluvial_fce_wasm.threads import GuestThreads

if TYPE_CHECKING:  # with it comes wasmtime, which a peer pays for when the first service is called
    from fluvial_fce_wasm.guest.engine import GuestEngine
    from fluvial_fce_wasm.running import RunningService

ALIAS_CHARACTERS_MAX: Final = 128
ALIASES_PER_SERVICE: Final = 4
"""So many aliases there may be for each service that there may be, however they are spread."""
NOT_FOUND: Final = 404
CONFLICT: Final = 409
FULL: Final = 507
BAD: Final = 400


class Deployments:
    """What is deployed, and how it is changed.

    Args:
        context: of the part.
        options: of the section.
        on_lost: told of a service whose instances were lost, and why.
    """

    def __init__(self, context: Context, options: WasmOptions, *, on_lost: Callable[[str, GuestError], None]) -> None:
        self._context = context
        self._options = options
        self._on_lost = on_lost
        self._folder = context.base_dir / options.folder
        self._cache = CodeCache(self._folder / "compiled")
        self._engines: dict[bool, GuestEngine] = {}
        self._threads = GuestThreads()
        self._places = ProcessPlaces(options.processes_max)
        self._composer: Composer | None = None
        self._running: dict[str, RunningService] = {}
        self._changing: dict[str, anyio.Lock] = {}
        self._keeping = anyio.Lock()  # held from a look at the inventory until what follows from it is written
        self.inventory = tables.Inventory()
        self.shelf: HostShelf | None = None

    async def open(self, shelf: HostShelf) -> None:
        """Read the tables. Nothing is compiled or started before the first call. Raises ConfigError: there is nothing to compose with."""
        self.shelf = shelf
        if self._options.compose and not is_virtual():  # in simulated time there are no processes
            self._composer = await in_thread(Composer.installed)
        self.inventory = await self._context.database.read(Prepared(tables.read_all))

    async def close(self) -> None:
        """Throw away all instances."""
        async with anyio.create_task_group() as group:
            for one in self._running.values():
                group.start_soon(one.close)

    # --- finding ------------------------------------------------------------------------------------------------------

    def find(self, name: str) -> tables.ServiceEntry | None:
        """A service by its id or an alias."""
        return self.inventory.services.get(self.inventory.aliases.service(name) or name)

    def service(self, name: str) -> tables.ServiceEntry:
        """A service by its id or an alias; raises EffectorError 404."""
        found = self.find(name)
        if found is None:
            raise EffectorError(NOT_FOUND, f"there is no service {name[:80]!r}")
        return found

    def aliases_of(self, service: str) -> list[str]:
        """The aliases of a service."""
        return self.inventory.aliases.of(service)

    def blueprint_of(self, entry: tables.ServiceEntry) -> Blueprint:
        """The blueprint of a service."""
        return self.inventory.blueprints[entry.blueprint]

    def facade_of(self, entry: tables.ServiceEntry) -> tables.ModuleRow | None:
        """The facade of a service; None if the module is not here any more."""
        return self.inventory.modules.get(self.blueprint_of(entry).modules[-1][1])

    def running_of(self, service: str) -> RunningService | None:
        """Its guests, if they were needed since the peer started."""
        return self._running.get(service)

    def info(self, entry: tables.ServiceEntry) -> dict[str, Any]:
        """A service for people."""
        running = self.running_of(entry.id)
        blueprint = self.blueprint_of(entry)
        return {
            "id": entry.id,
            "name": blueprint.name,
            "blueprint": entry.blueprint,
            "owner": entry.owner,
            "aliases": self.aliases_of(entry.id),
            "created_ms": entry.created_ms,
            "running": running is not None and running.is_running,
            "restarts": 0 if running is None else running.restarts,
            "isolation": None if running is None else running.plan.isolation,
            "fuel_used": 0 if running is None else running.fuel_used,
        }

    def interfaces(self) -> list[dict[str, Any]]:
        """The interfaces that this peer has for guests, with their effectors."""
        return [] if self.shelf is None else self.shelf.listed()

    # --- modules and blueprints ---------------------------------------------------------------------------------------

    async def add_module(self, blob: BlobId, name: str, by: PeerId) -> tables.ModuleRow:
        """Fetch a module, compile it and keep it.

        Raises:
            EffectorError, FluvialError: it cannot be fetched, is no component, or there are too many.
        """
        if (known := self.inventory.modules.get(blob)) is not None:
            return known
        self._require_module_room(by)
        path = await self._context.blobs.get(blob, bytes_max=MODULE_BYTES_MAX, hints=[by], pin=True)
        try:
            (compiled,) = await self._cache.compiled([(name or blob, path)], counts_fuel=False, owner=by)
            size = await in_thread(lambda: path.stat().st_size)
            row = tables.ModuleRow(blob, name[:128], size, compiled.shape, by, self._context.clock.now_ms())
            async with self._keeping:
                if (known := self.inventory.modules.get(blob)) is not None:
                    return known
                self._require_module_room(by)
                await self._context.blobs.pin(blob)  # who added it at the same time, and could not, has unpinned it
                await self._context.database.write(Prepared(tables.add_module, row=row))
                self.inventory.modules[blob] = row
        except ServiceError:
            async with self._keeping:
                if blob not in self.inventory.modules:
                    await self._context.blobs.unpin(blob)
            raise
        return row

    def _require_module_room(self, by: PeerId) -> None:
        there = Counter(row.added_by for row in self.inventory.modules.values())
        self._require_room("modules", there, by, self._options.modules_max)

    async def remove_module(self, module: str) -> None:
        """Forget a module that no blueprint names; raises EffectorError."""
        async with self._keeping:
            if module not in self.inventory.modules:
                raise EffectorError(NOT_FOUND, f"there is no module {module[:80]!r}")
            users = [
                key for key, one in self.inventory.blueprints.items() if module in [str(m) for _, m in one.modules]
            ]
            if users:
                raise EffectorError(CONFLICT, f"the blueprint {users[0]} needs this module")
            await self._context.database.write(Prepared(tables.remove_module, module=module))
            del self.inventory.modules[module]
            await self._context.blobs.unpin(BlobId.parse(module))

    async def add_blueprint(self, blueprint: Blueprint, by: PeerId) -> BlobId:
        """Keep a blueprint, as a blob too, so that other peers can fetch it; its modules are fetched if they are not here."""
        body = blueprint_bytes(blueprint)
        key = blueprint_id(body)
        if key not in self.inventory.blueprints:
            self._require_blueprint_room(by)
        for name, module in blueprint.modules:
            await self.add_module(module, name if blueprint.names else "", by)
        async with self._keeping:
            if key in self.inventory.blueprints:
                return key
            self._require_blueprint_room(by)
            if any(module not in self.inventory.modules for _, module in blueprint.modules):
                raise EffectorError(CONFLICT, "a module of this blueprint was removed in the meantime")
            await self._context.blobs.put(body)
            now = self._context.clock.now_ms()
            await self._context.database.write(
                Prepared(tables.add_blueprint, blueprint=key, body=body, added_ms=now, added_by=by)
            )
            self.inventory.blueprints[key] = blueprint
            self.inventory.authors.setdefault(key, by)
        return key

    def _require_blueprint_room(self, by: PeerId) -> None:
        self._require_room("blueprints", Counter(self.inventory.authors.values()), by, self._options.modules_max)

    async def remove_blueprint(self, key: str) -> None:
        """Forget a blueprint that no service has; raises EffectorError."""
        async with self._keeping:
            self._require_blueprint(key)
            if users := [one.id for one in self.inventory.services.values() if one.blueprint == key]:
                raise EffectorError(CONFLICT, f"the service {users[0]} is made of this blueprint")
            await self._context.database.write(Prepared(tables.remove_blueprint, blueprint=key))
            del self.inventory.blueprints[key]
            self.inventory.authors.pop(key, None)
            await self._context.blobs.unpin(BlobId.parse(key))

    def _require_blueprint(self, key: str) -> None:
        if key not in self.inventory.blueprints:
            raise EffectorError(NOT_FOUND, f"there is no blueprint {key[:80]!r}")

    async def fetch_blueprint(self, key: str, by: PeerId) -> Blueprint:
        """A blueprint from here, from the caller or from whoever has it; with its modules."""
        if (known := self.inventory.blueprints.get(key)) is not None:
            return known
        try:
            blob = BlobId.parse(key)
            path = await self._context.blobs.get(blob, bytes_max=BLUEPRINT_BYTES_MAX, hints=[by])
            blueprint = read_blueprint(await in_thread(path.read_bytes))
        except ValueError as error:
            raise EffectorError(BAD, f"{key[:80]} is no blueprint: {error}") from error
        if await self.add_blueprint(blueprint, by) != blob:
            raise EffectorError(BAD, f"{key[:80]} is no blueprint in its canonical form")
        return blueprint

    # --- services -----------------------------------------------------------------------------------------------------

    async def create(self, key: str, owner: PeerId, *, hint: PeerId) -> tables.ServiceEntry:
        """Make a service of a blueprint, which ``hint`` may have, and start it once to see that it works."""
        self._require_service_room(owner)
        blueprint = await self.fetch_blueprint(key, hint)
        self._accept(blueprint)
        now = self._context.clock.now_ms()
        service = f"{self._context.rng.getrandbits(128):032x}"
        entry = tables.ServiceEntry(service, key, owner, now)
        try:
            await self._tried(await self._plan(entry, blueprint))
            async with self._keeping:
                self._require_service_room(owner)
                self._require_blueprint(key)
                await self._context.database.write(Prepared(tables.add_service, row=entry))
                self.inventory.services[service] = entry
        except ServiceError:
            await self._clear(service)
            raise
        return entry

    def _require_service_room(self, owner: str) -> None:
        there = Counter(entry.owner for entry in self.inventory.services.values())
        self._require_room("services", there, owner, self._options.services_max)

    async def replace(self, entry: tables.ServiceEntry, key: str, by: PeerId) -> tables.ServiceEntry:
        """Give a service another blueprint; its id, aliases, state directory and what effectors keep for it stay. Calls that wait are answered by the new one."""
        blueprint = await self.fetch_blueprint(key, by)
        self._accept(blueprint)
        async with self._lock(self.service(entry.id).id):
            self.service(entry.id)  # it may have been removed before our turn
            changed = msgspec.structs.replace(entry, blueprint=key)
            plan = await self._plan(changed, blueprint)
            await self._tried(plan)
            async with self._keeping:
                self._require_blueprint(key)
                await self._context.database.write(Prepared(tables.replace_service, service=entry.id, blueprint=key))
                self.inventory.services[entry.id] = changed
            if (running := self._running.get(entry.id)) is not None:
                await running.swap(plan)
            return changed

    def _require_room(self, what: str, there: Mapping[str, int], owner: str, most: int) -> None:
        """Raises EffectorError if there is no room for one more beside those that owners have; one deployer has three quarters of it at most, the peer itself all."""
        if sum(there.values()) >= most:
            raise EffectorError(FULL, f"there are {most} {what} here, the most there may be")
        share = most - most // 4
        if owner != self._context.keys.peer_id and there.get(owner, 0) >= share:
            raise EffectorError(FULL, f"{owner} has {share} {what} here, the most that one deployer may have")

    def _accept(self, blueprint: Blueprint) -> None:
        """Refuse a policy that the peer's authorization does not understand: nobody could ever call the service."""
        if blueprint.policy is None:
            return
        for reader in self._context.extensions.all(PolicyReader):
            if problem := reader.problem_with(blueprint.policy):
                raise EffectorError(BAD, f"its policy cannot be used on this peer: {problem}")

    async def remove(self, entry: tables.ServiceEntry) -> None:
        """Remove a service with its aliases, its state directory and what effectors keep for it; raises EffectorError if it was removed."""
        async with self._lock(self.service(entry.id).id):
            async with self._keeping:
                self.service(entry.id)  # it may have been removed before our turn
                await self._context.database.write(Prepared(tables.remove_service, service=entry.id))
                del self.inventory.services[entry.id]
                self.inventory.aliases.forget(entry.id)
            self._changing.pop(entry.id, None)
            if (running := self._running.pop(entry.id, None)) is not None:
                await running.end()
            await self._clear(entry.id)
            if self.shelf is not None:
                await self.shelf.forget(entry.id)

    async def set_alias(self, alias: str, entry: tables.ServiceEntry, *, taken: str | None = None) -> None:
        """Let an alias name a service, which names ``taken`` so far, or nothing; raises EffectorError if that has changed, or there are too many."""
        async with self._keeping:
            self.service(entry.id)  # it may have been removed before our turn
            aliases, there = self.inventory.aliases, Counter[str]()
            if (now := aliases.service(alias)) not in (taken, entry.id, None):
                raise EffectorError(CONFLICT, f"{alias!r} was given to another service in the meantime")
            if now is None:
                for one in self.inventory.services.values():
                    there[one.owner] += aliases.count(one.id)
                self._require_room("aliases", there, entry.owner, ALIASES_PER_SERVICE * self._options.services_max)
            await self._context.database.write(Prepared(tables.set_alias, alias=alias, service=entry.id))
            aliases.set(alias, entry.id)

    async def remove_alias(self, alias: str, entry: tables.ServiceEntry) -> None:
        """Forget an alias of a service; without effect if it has none of this name."""
        async with self._keeping:
            if self.inventory.aliases.service(alias) == entry.id:
                await self._context.database.write(Prepared(tables.remove_alias, alias=alias))
                self.inventory.aliases.remove(alias)

    # --- running ------------------------------------------------------------------------------------------------------

    async def running(self, entry: tables.ServiceEntry) -> RunningService:
        """The guests of a service, to be called; made at the first call.

        Raises:
            GuestError: its modules cannot be linked or started as things are now. ServiceError: it was removed.
        """
        if (found := self._running.get(entry.id)) is not None:
            return found
        async with self._lock(entry.id):
            if (found := self._running.get(entry.id)) is None:
                now = self.inventory.services.get(entry.id)
                if now is None:
                    raise ServiceError(Status.UNKNOWN_SERVICE, f"the service {entry.id} was removed")
                plan = await self._plan(now, self.blueprint_of(now))
                lost = partial(self._on_lost, entry.id)
                found = self._running[entry.id] = self._service(plan, places=self._places, on_lost=lost)
        return found

    def _lock(self, service: str) -> anyio.Lock:
        """Held while the guests of a service are changed."""
        return self._changing.setdefault(service, anyio.Lock())

    async def _plan(self, entry: tables.ServiceEntry, blueprint: Blueprint) -> ServicePlan:
        limits = self._limits(blueprint)
        names = [name for name, _ in blueprint.modules]
        paths = [
            await self._context.blobs.get(
                module, bytes_max=MODULE_BYTES_MAX, hints=[PeerId.parse(entry.owner)], pin=True
            )
            for _, module in blueprint.modules
        ]
        assert self.shelf is not None, "the part has not started"
        given = [
            self.shelf.given(module=module, blueprint=entry.blueprint, owner=entry.owner)
            for _, module in blueprint.modules
        ]
        parts = ServiceParts(
            modules=list(zip(names, paths, strict=True)),
            limits=limits,
            fixed_shares=blueprint.shares,
            host=given,
            wasi=blueprint.wasi,
            hint=self._hint(blueprint),
            owner=PeerId.parse(entry.owner),
        )
        modules, plan = await prepared(parts, self._cache, self._composer)
        return ServicePlan(
            modules=modules,
            link=plan,
            limits=limits,
            isolation=self._isolation(entry, blueprint),
            state=await self._state(entry.id) if blueprint.state else None,
        )

    def _hint(self, blueprint: Blueprint) -> str:
        assert self.shelf is not None
        wanted = {
            effector
            for _, module in blueprint.modules
            if (row := self.inventory.modules.get(module)) is not None
            for name in row.shape.imports
            if (effector := self.shelf.effector_of(name)) is not None
        }
        return f"this peer has the effector {', '.join(sorted(wanted))}: it may not be granted" if wanted else ""

    def _isolation(self, entry: tables.ServiceEntry, blueprint: Blueprint) -> Isolation:
        """A process for what could block, and for strangers; a thread for the peer's own services."""
        if is_virtual():
            return "thread"  # in simulated time there are no processes; simulations are trusted
        own = entry.owner == self._context.keys.peer_id
        return "thread" if own and not blueprint.wasi and blueprint.isolation == "auto" else "process"

    def _limits(self, blueprint: Blueprint) -> GuestLimits:
        most, asked = self._options.limits, blueprint.limits
        given: dict[str, Any] = {
            name: min(value, value if name == "fuel" and not most.fuel else getattr(most, name))
            for name, value in msgspec.structs.asdict(asked).items()
            if value is not None
        }
        return msgspec.structs.replace(most, **given)

    def _home(self, service: str) -> Path:
        return self._folder / "services" / service

    async def _clear(self, service: str) -> None:
        await in_thread(partial(shutil.rmtree, self._home(service), ignore_errors=True))

    async def _state(self, service: str) -> Path:
        state = self._home(service) / "state"
        await in_thread(partial(state.mkdir, parents=True, exist_ok=True, mode=0o700))
        return state

    def _service(
        self,
        plan: ServicePlan,
        *,
        places: ProcessPlaces | None = None,
        on_lost: Callable[[GuestError], None] = lambda error: None,
    ) -> RunningService:
        from fluvial_fce_wasm.running import RunningService

        return RunningService(plan, self._engine, threads=self._threads, places=places, on_lost=on_lost)

    def _engine(self, counts_fuel: bool) -> GuestEngine:
        from fluvial_fce_wasm.guest.engine import GuestEngine

        if counts_fuel not in self._engines:
            self._engines[counts_fuel] = GuestEngine(counts_fuel=counts_fuel)
        return self._engines[counts_fuel]

    async def _tried(self, plan: ServicePlan) -> None:
        """Start a service on trial, without its state directory; raises GuestError."""
        trial = self._service(msgspec.structs.replace(plan, state=None))
        try:
            await trial.start()
        finally:
            await trial.close()


def check_alias(alias: str) -> None:
    """Raises EffectorError for what cannot be an alias."""
    if not 1 <= len(alias) <= ALIAS_CHARACTERS_MAX or not alias.isprintable() or "\0" in alias:
        raise EffectorError(BAD, f"an alias has 1 to {ALIAS_CHARACTERS_MAX} printable characters")
