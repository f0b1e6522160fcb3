"""What a database holds, by name and definition, so that it can be compared before and after the migrations of a plugin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple, TypeAlias

from sqlalchemy import Connection, inspect, text

_SQLITE: Final = text(
    "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
)

_POSTGRESQL: Final = text(r"""
WITH spaces AS (
    SELECT oid, CASE WHEN nspname = current_schema() THEN '' ELSE nspname || '.' END AS before
    FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
), relations AS (
    SELECT c.oid, s.before || c.relname AS name, c.relkind, c.relacl, c.relrowsecurity
    FROM pg_class c JOIN spaces s ON s.oid = c.relnamespace
)
SELECT 'schema', before, before, '' FROM spaces WHERE before <> ''
UNION ALL
SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' WHEN 'S' THEN 'sequence' WHEN 'c' THEN 'type' ELSE 'table' END, name, name,
    concat(relkind, relacl, relrowsecurity, CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(relations.oid) END, (
        SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, attidentity, attcollation,
            pg_get_expr(adbin, adrelid)), ', ' ORDER BY attnum)
        FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = relations.oid AND attnum > 0 AND NOT attisdropped))
FROM relations WHERE relkind NOT IN ('i', 'I')
UNION ALL
SELECT 'index', i.name, t.name, pg_get_indexdef(i.oid)
FROM pg_index JOIN relations i ON i.oid = indexrelid JOIN relations t ON t.oid = indrelid
UNION ALL
SELECT 'constraint', conname, t.name, pg_get_constraintdef(c.oid) FROM pg_constraint c JOIN relations t ON t.oid = conrelid
UNION ALL
SELECT 'trigger', tgname, t.name, pg_get_triggerdef(g.oid) FROM pg_trigger g JOIN relations t ON t.oid = tgrelid WHERE NOT tgisinternal
UNION ALL
SELECT 'rule', rulename, t.name, pg_get_ruledef(r.oid) FROM pg_rewrite r JOIN relations t ON t.oid = ev_class WHERE rulename <> '_RETURN'
UNION ALL
SELECT 'function', before || proname, before || proname, concat(prosrc, proargtypes) FROM pg_proc JOIN spaces s ON s.oid = pronamespace
UNION ALL
SELECT 'type', before || typname, before || typname, typtype::text FROM pg_type JOIN spaces s ON s.oid = typnamespace
WHERE typtype IN ('d', 'e', 'r')
UNION ALL
SELECT 'extension', extname, extname, extversion FROM pg_extension
""")


class Item(NamedTuple):
    """Something in a database: its kind, its name, and the table or the like that it belongs to (often itself)."""

    kind: str
    name: str
    of: str


Inventory: TypeAlias = Mapping[Item, str]
"""Definitions by item."""


def take_inventory(connection: Connection) -> Inventory:
    """All tables, views, indexes, constraints, triggers, sequences, functions and types, with a text that changes when one of them does."""
    query = _SQLITE if connection.dialect.name == "sqlite" else _POSTGRESQL
    return {
        Item(str(kind), str(name), str(of)): str(definition) for kind, name, of, definition in connection.execute(query)
    }


def foreign_references(connection: Connection, prefix: str) -> list[str]:
    """The foreign keys that lead from tables with this prefix to tables without it, or the other way round; each as ``table.column``."""
    keys = inspect(connection).get_multi_foreign_keys()
    return sorted(
        f"{table}.{key['constrained_columns'][0]}"
        for (_, table), found in keys.items()
        for key in found
        if table.startswith(prefix)
        != (str(key["referred_table"]).startswith(prefix) and key["referred_schema"] is None)
    )
