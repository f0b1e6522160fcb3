"""The tables of the seat and its statements, as SQLAlchemy has them; a peer on SQLite has their texts beside this file and does not import it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fluvial.prepared import Statement
from fluvial.tables import SortedText, new_metadata, per_dialect
from sqlalchemy import (
    BigInteger,
    BindParameter,
    Column,
    LargeBinary,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    update,
)

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
    Column("added_by", SortedText, nullable=False, server_default=""),
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

_ID: Final[BindParameter[Any]] = bindparam("of")

STATEMENTS: Final[Mapping[str, Statement]] = {
    "modules": Statement(select(modules)),
    "add_module": Statement(_ADD_MODULE, columns=modules.c.keys()),
    "remove_module": Statement(delete(modules).where(modules.c.id == _ID)),
    "blueprints": Statement(select(blueprints)),
    "add_blueprint": Statement(_ADD_BLUEPRINT, columns=blueprints.c.keys()),
    "remove_blueprint": Statement(delete(blueprints).where(blueprints.c.id == _ID)),
    "services": Statement(select(services)),
    "add_service": Statement(insert(services), columns=services.c.keys()),
    "replace_service": Statement(update(services).where(services.c.id == _ID).values(blueprint=bindparam("by"))),
    "remove_service": Statement(delete(services).where(services.c.id == _ID)),
    "aliases": Statement(select(aliases)),
    "set_alias": Statement(_SET_ALIAS, columns=aliases.c.keys()),
    "remove_alias": Statement(delete(aliases).where(aliases.c.alias == _ID)),
    "remove_aliases": Statement(delete(aliases).where(aliases.c.service == _ID)),
}
