"""The tables of the seat: modules, blueprints, services and aliases."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from fluvial.prepared import KeptStatements, Transaction
from fluvial.tables import Tables

from fluvial_fce_wasm.aliases import AliasBook
from fluvial_fce_wasm.blueprints import Blueprint, read_blueprint
from fluvial_fce_wasm.wit.types import ModuleShape

TABLES: Final = Tables(name="fce", migrations=Path(__file__).parent / "migrations")

_KEPT: Final = KeptStatements("fluvial_fce_wasm.definitions", Path(__file__).with_name("definitions.sql"))
_MODULES: Final = _KEPT["modules"]
_ADD_MODULE: Final = _KEPT["add_module"]
_REMOVE_MODULE: Final = _KEPT["remove_module"]
_BLUEPRINTS: Final = _KEPT["blueprints"]
_ADD_BLUEPRINT: Final = _KEPT["add_blueprint"]
_REMOVE_BLUEPRINT: Final = _KEPT["remove_blueprint"]
_SERVICES: Final = _KEPT["services"]
_ADD_SERVICE: Final = _KEPT["add_service"]
_REPLACE_SERVICE: Final = _KEPT["replace_service"]
_REMOVE_SERVICE: Final = _KEPT["remove_service"]
_ALIASES: Final = _KEPT["aliases"]
_SET_ALIAS: Final = _KEPT["set_alias"]
_REMOVE_ALIAS: Final = _KEPT["remove_alias"]
_REMOVE_ALIASES: Final = _KEPT["remove_aliases"]


class ModuleRow(msgspec.Struct, frozen=True):
    """A module that this peer has."""

    id: str
    name: str
    size: int
    shape: ModuleShape
    added_by: str
    added_ms: int


class ServiceEntry(msgspec.Struct, frozen=True):
    """A service of this peer."""

    id: str
    blueprint: str
    owner: str
    created_ms: int


class Inventory(msgspec.Struct, frozen=True):
    """Everything that the tables have.

    Attributes:
        modules, blueprints, services: by their ids.
        aliases: of services.
        authors: who has added each blueprint, by its id; empty for old ones.
    """

    modules: dict[str, ModuleRow] = {}
    blueprints: dict[str, Blueprint] = {}
    services: dict[str, ServiceEntry] = {}
    aliases: AliasBook = msgspec.field(default_factory=lambda: AliasBook({}))
    authors: dict[str, str] = {}


def read_all(transaction: Transaction) -> Inventory:
    """All rows."""
    blueprints = list(transaction.each(_BLUEPRINTS))
    return Inventory(
        {
            row.id: ModuleRow(
                row.id,
                row.name,
                row.size,
                msgspec.msgpack.decode(row.shape, type=ModuleShape),
                row.added_by,
                row.added_ms,
            )
            for row in transaction.each(_MODULES)
        },
        {row.id: read_blueprint(row.body) for row in blueprints},
        {row.id: ServiceEntry(*row) for row in transaction.each(_SERVICES)},
        AliasBook({row.alias: row.service for row in transaction.each(_ALIASES)}),
        {row.id: row.added_by for row in blueprints},
    )


def add_module(transaction: Transaction, row: ModuleRow) -> None:
    """Add a module; one that is there stays as it is."""
    values = {**msgspec.structs.asdict(row), "shape": msgspec.msgpack.encode(row.shape)}
    transaction.change(_ADD_MODULE, values)


def remove_module(transaction: Transaction, module: str) -> None:
    """Remove a module."""
    transaction.change(_REMOVE_MODULE, {"of": module})


def add_blueprint(transaction: Transaction, blueprint: str, body: bytes, added_ms: int, added_by: str) -> None:
    """Add a blueprint; one that is there stays as it is."""
    row = {"id": blueprint, "body": body, "added_ms": added_ms, "added_by": added_by}
    transaction.change(_ADD_BLUEPRINT, row)


def remove_blueprint(transaction: Transaction, blueprint: str) -> None:
    """Remove a blueprint."""
    transaction.change(_REMOVE_BLUEPRINT, {"of": blueprint})


def add_service(transaction: Transaction, row: ServiceEntry) -> None:
    """Add a service."""
    transaction.change(_ADD_SERVICE, msgspec.structs.asdict(row))


def replace_service(transaction: Transaction, service: str, blueprint: str) -> None:
    """Give a service another blueprint."""
    transaction.change(_REPLACE_SERVICE, {"of": service, "by": blueprint})


def remove_service(transaction: Transaction, service: str) -> None:
    """Remove a service and its aliases."""
    transaction.change(_REMOVE_SERVICE, {"of": service})
    transaction.change(_REMOVE_ALIASES, {"of": service})


def set_alias(transaction: Transaction, alias: str, service: str) -> None:
    """Let an alias name a service."""
    transaction.change(_SET_ALIAS, {"alias": alias, "service": service})


def remove_alias(transaction: Transaction, alias: str) -> None:
    """Forget an alias."""
    transaction.change(_REMOVE_ALIAS, {"of": alias})
