"""The built-in services of the seat: ``dist`` for modules and blueprints, ``srv`` for services.

They have the names and functions of the reference node as far as they make sense here; a module is not sent in a particle, but fetched as a blob from
whoever calls. What changes the peer is for the peer itself and for its deployers; deployers change only what is theirs.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from fluvial.blob_id import BlobId
from fluvial.effectors import Call, Effector, EffectorError, NoConfig, function
from fluvial.errors import FluvialError, ServiceError

from fluvial_fce_wasm.blueprints import Blueprint, blueprint_bytes, made_blueprint, read_blueprint
from fluvial_fce_wasm.seat.deployments import BAD, CONFLICT, NOT_FOUND, Deployments, check_alias
from fluvial_fce_wasm.seat.interface_printer import InterfacePrinter
from fluvial_fce_wasm.seat.permissions import Permissions
from fluvial_fce_wasm.tables import ModuleRow, ServiceEntry

DEPLOY_S: Final = 600.0
"""Modules are fetched and compiled meanwhile."""
UNREACHED: Final = 503


class Dist(Effector[NoConfig]):
    """Modules and blueprints of services in WebAssembly."""

    service_id = "dist"
    timeout_s = DEPLOY_S

    def __init__(self, deployments: Deployments, permissions: Permissions, printer: InterfacePrinter) -> None:
        super().__init__()
        self._deployments = deployments
        self._permissions = permissions
        self._printer = printer

    @function
    async def add_module(self, call: Call, module: str, name: str = "") -> str:
        """Fetch a component as a blob, from the caller or whoever has it, and compile it; its id."""
        self._permissions.require_deployer(call)
        try:
            await self._deployments.add_module(BlobId.parse(module), name, call.initiator)
        except (FluvialError, ValueError) as error:
            raise _as_service_error(error) from error
        return module

    @function
    async def remove_module(self, call: Call, module: str) -> None:
        """Forget a module that no blueprint names."""
        self._permissions.require_self(call)
        await self._deployments.remove_module(module)

    @function
    async def remove_blueprint(self, call: Call, blueprint: str) -> None:
        """Forget a blueprint that no service has."""
        self._permissions.require_self(call)
        await self._deployments.remove_blueprint(blueprint)

    @function(inline=True)
    def list_modules(self) -> list[dict[str, Any]]:
        """The modules that this peer has."""
        return [_module(row) for row in self._deployments.inventory.modules.values()]

    @function
    async def get_module_interface(self, module: str) -> dict[str, Any]:
        """What a module imports and exports, as WIT."""
        row = self._deployments.inventory.modules.get(module)
        if row is None:
            raise EffectorError(NOT_FOUND, f"there is no module {module[:80]!r}")
        printed = await self._printer.printed(row.shape)
        return {**_module(row), **{key: one for key, one in printed.items() if key != "types"}}

    @function(inline=True)
    def make_blueprint(self, name: str, dependencies: list[str]) -> dict[str, Any]:
        """A blueprint of modules, in their order; the last is the facade."""
        try:
            made: dict[str, Any] = msgspec.json.decode(blueprint_bytes(made_blueprint(name, dependencies)))
        except (ValueError, msgspec.ValidationError) as error:
            raise EffectorError(BAD, str(error)) from error
        return made

    @function
    async def add_blueprint(self, call: Call, blueprint: dict[str, Any]) -> str:
        """Keep a blueprint and fetch its modules; its id."""
        self._permissions.require_deployer(call)
        try:
            read = read_blueprint(msgspec.json.encode(blueprint))
            return str(await self._deployments.add_blueprint(read, call.initiator))
        except (FluvialError, ValueError) as error:
            raise _as_service_error(error) from error

    @function(inline=True)
    def list_blueprints(self) -> list[dict[str, Any]]:
        """The blueprints that this peer has."""
        return [_blueprint(key, one) for key, one in self._deployments.inventory.blueprints.items()]

    @function(inline=True)
    def get_blueprint(self, blueprint: str) -> dict[str, Any]:
        """A blueprint by its id."""
        found = self._deployments.inventory.blueprints.get(blueprint)
        if found is None:
            raise EffectorError(NOT_FOUND, f"there is no blueprint {blueprint[:80]!r}")
        return _blueprint(blueprint, found)

    @function(inline=True)
    def list_interfaces(self) -> list[dict[str, Any]]:
        """The interfaces that this peer has for guests, with their effectors."""
        return self._deployments.interfaces()


class Srv(Effector[NoConfig]):
    """Services in WebAssembly: made, replaced, named and removed."""

    service_id = "srv"
    timeout_s = DEPLOY_S

    def __init__(self, deployments: Deployments, permissions: Permissions, printer: InterfacePrinter) -> None:
        super().__init__()
        self._deployments = deployments
        self._permissions = permissions
        self._printer = printer

    @function(inline=True, timeout_s=None)
    def list_(self) -> list[dict[str, Any]]:
        """All services of this peer."""
        return [self._deployments.info(one) for one in self._deployments.inventory.services.values()]

    @function
    async def create(self, call: Call, blueprint: str) -> str:
        """Make a service of a blueprint, which is fetched if it is not here; its id. The caller owns it."""
        self._permissions.require_deployer(call)
        try:
            return (await self._deployments.create(blueprint, self._permissions.actor(call), hint=call.initiator)).id
        except FluvialError as error:
            raise _as_service_error(error) from error

    @function
    async def replace(self, call: Call, service: str, blueprint: str) -> str:
        """Give a service another blueprint; id, aliases and state stay."""
        entry = self._owned(call, service)
        try:
            return (await self._deployments.replace(entry, blueprint, call.initiator)).id
        except FluvialError as error:
            raise _as_service_error(error) from error

    @function
    async def remove(self, call: Call, service: str) -> None:
        """Remove a service with all that it has kept."""
        await self._deployments.remove(self._owned(call, service))

    @function
    async def add_alias(self, call: Call, alias: str, service: str) -> None:
        """Let an alias name a service; the alias must be free or the caller's."""
        check_alias(alias)
        entry = self._owned(call, service)
        deployments = self._deployments
        if alias in deployments.inventory.services:
            raise EffectorError(CONFLICT, f"{alias!r} is the id of a service")
        if (taken := deployments.find(alias)) is not None:
            self._permissions.require_owner(call, taken)
        await deployments.set_alias(alias, entry, taken=None if taken is None else taken.id)

    @function
    async def remove_alias(self, call: Call, alias: str) -> None:
        """Forget an alias."""
        await self._deployments.remove_alias(alias, self._owned(call, alias))

    @function(inline=True)
    def resolve_alias(self, alias: str) -> str:
        """The id of the service that an alias names; status 404 if it names none."""
        return self._deployments.service(alias).id

    @function(inline=True)
    def resolve_alias_opt(self, alias: str) -> list[str]:
        """The id of the service that an alias names, or nothing."""
        found = self._deployments.find(alias)
        return [] if found is None else [found.id]

    @function(inline=True)
    def info(self, service: str) -> dict[str, Any]:
        """A service by its id or an alias."""
        return self._deployments.info(self._deployments.service(service))

    @function
    async def get_interface(self, service: str) -> dict[str, Any]:
        """The functions of a service, with their types."""
        facade = self._deployments.facade_of(self._deployments.service(service))
        if facade is None:
            raise EffectorError(NOT_FOUND, "its facade is not here any more")
        return await self._printer.printed(facade.shape)

    def _owned(self, call: Call, service: str) -> ServiceEntry:
        self._permissions.require_deployer(call)
        entry = self._deployments.service(service)
        self._permissions.require_owner(call, entry)
        return entry


def _module(row: ModuleRow) -> dict[str, Any]:
    return {"id": row.id, "name": row.name, "size": row.size, "added_by": row.added_by, "added_ms": row.added_ms}


def _blueprint(key: str, blueprint: Blueprint) -> dict[str, Any]:
    body: dict[str, Any] = msgspec.json.decode(blueprint_bytes(blueprint))
    return {"id": key, **body}


def _as_service_error(error: Exception) -> ServiceError:
    """What a script sees of an error that is its caller's or another peer's."""
    if isinstance(error, ServiceError):
        return error
    if isinstance(error, FluvialError):
        return EffectorError(UNREACHED, error.message)
    return EffectorError(BAD, str(error))
