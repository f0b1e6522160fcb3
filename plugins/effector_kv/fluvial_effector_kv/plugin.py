"""Offers the extra ``kv``."""

from __future__ import annotations

from fluvial import hookimpl
from fluvial.offers import Registry
from fluvial.ports import Context
from fluvial.seats import Part

from fluvial_effector_kv.settings import TABLES, KeyValueOptions


def _kv(context: Context, options: KeyValueOptions) -> Part:
    """Imports SQLAlchemy only in a peer that needs it."""
    from fluvial_effector_kv.part import KeyValuePart

    return KeyValuePart(context, options)


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the extra."""
    registry.extra("kv", _kv, options=KeyValueOptions, tables=TABLES)
