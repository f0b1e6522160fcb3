"""The tables of the seat: modules, blueprints, services and aliases."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec
from fluvial.tables import SortedText, Tables, new_metadata, per_dialect
from sqlalchemy import BigInteger, Column, Connection, LargeBinary, Table, Text, delete, select, update

from fluvial_fce_wasm.blueprints import Blueprint, read_blueprint
from fluvial_fce_wasm.wit.types import ModuleShape

TABLES: Final = Tables(name="fce", migrations=Path(__file__).parent / "migrations")

metadata = new_metadata()
modules = Table(
    "fce_modules",
    metadata,
    Column("id", SortedText, primary_key=True),
    Column("name", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("shape", LargeBinary, nullable=False),
    Column("added_by", SortedText, nullable=False),
    Column("added_ms", BigInteger, nullable=False),
)
blueprints = Table(
    "fce_blueprints",
    metadata,
    Column("id", SortedText, primary_key=True),
    Column("body", LargeBinary, nullable=False),
    Column("added_ms", BigInteger, nullable=False),
)
services = Table(
    "fce_services",
    metadata,
    Column("id", SortedText, primary_key=True),
    Column("blueprint", SortedText, nullable=False),
    Column("owner", SortedText, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
)
aliases = Table(
    "fce_aliases",
    metadata,
    Column("alias", SortedText, primary_key=True),
    Column("service", SortedText, nullable=False),
)

_ADD_MODULE = per_dialect(lambda insert: insert(modules).on_conflict_do_nothing(index_elements=["id"]))
_ADD_BLUEPRINT = per_dialect(lambda insert: insert(blueprints).on_conflict_do_nothing(index_elements=["id"]))
_SET_ALIAS = per_dialect(
    lambda insert: (new := insert(aliases)).on_conflict_do_update(
        index_elements=["alias"], set_={"service": new.excluded.service}
    )
)


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
    """Everything that the tables have."""

    modules: dict[str, ModuleRow]
    blueprints: dict[str, Blueprint]
    services: dict[str, ServiceEntry]
    aliases: dict[str, str]


def read_all(connection: Connection) -> Inventory:
    """All rows."""
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
            for row in connection.execute(select(modules))
        },
        {row.id: read_blueprint(row.body) for row in connection.execute(select(blueprints))},
        {row.id: ServiceEntry(*row) for row in connection.execute(select(services))},
        {row.alias: row.service for row in connection.execute(select(aliases))},
    )


def add_module(connection: Connection, row: ModuleRow) -> None:
    """Add a module; one that is there stays as it is."""
    values = {**msgspec.structs.asdict(row), "shape": msgspec.msgpack.encode(row.shape)}
    connection.execute(_ADD_MODULE[connection.dialect.name], [values])


def remove_module(connection: Connection, module: str) -> None:
    """Remove a module."""
    connection.execute(delete(modules).where(modules.c.id == module))


def add_blueprint(connection: Connection, blueprint: str, body: bytes, added_ms: int) -> None:
    """Add a blueprint; one that is there stays as it is."""
    row = {"id": blueprint, "body": body, "added_ms": added_ms}
    connection.execute(_ADD_BLUEPRINT[connection.dialect.name], [row])


def remove_blueprint(connection: Connection, blueprint: str) -> None:
    """Remove a blueprint."""
    connection.execute(delete(blueprints).where(blueprints.c.id == blueprint))


def add_service(connection: Connection, row: ServiceEntry) -> None:
    """Add a service."""
    connection.execute(services.insert(), [msgspec.structs.asdict(row)])


def replace_service(connection: Connection, service: str, blueprint: str) -> None:
    """Give a service another blueprint."""
    connection.execute(update(services).where(services.c.id == service).values(blueprint=blueprint))


def remove_service(connection: Connection, service: str) -> None:
    """Remove a service and its aliases."""
    connection.execute(delete(services).where(services.c.id == service))
    connection.execute(delete(aliases).where(aliases.c.service == service))


def set_alias(connection: Connection, alias: str, service: str) -> None:
    """Let an alias name a service."""
    connection.execute(_SET_ALIAS[connection.dialect.name], [{"alias": alias, "service": service}])


def remove_alias(connection: Connection, alias: str) -> None:
    """Forget an alias."""
    connection.execute(delete(aliases).where(aliases.c.alias == alias))
