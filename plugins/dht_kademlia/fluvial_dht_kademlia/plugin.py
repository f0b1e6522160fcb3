"""The offers of this distribution. What costs time to import is imported when it is built."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fluvial.hooks import hookimpl
from fluvial.offers import Registry
from fluvial.ports import Context
from fluvial.seats import Routing
from fluvial.tables import Tables

from fluvial_dht_kademlia.shell.options import KademliaOptions

TABLES: Final = Tables(name="kademlia", migrations=Path(__file__).parent / "migrations")


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the routing."""
    registry.routing("kademlia", build_routing, options=KademliaOptions, tables=TABLES)


def build_routing(context: Context, options: KademliaOptions) -> Routing:
    """The routing for a node."""
    from fluvial_dht_kademlia.shell.routing import KademliaRouting

    return KademliaRouting(context, options)
