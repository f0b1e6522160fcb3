"""The hooks: the offer for the seat, and a check for ``fluvial doctor``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluvial.hooks import hookimpl

from fluvial_trust_graph.openness import check
from fluvial_trust_graph.options import TrustGraphOptions
from fluvial_trust_graph.tables import TABLES

if TYPE_CHECKING:
    from fluvial.offers import Registry
    from fluvial.ports import Context
    from fluvial.seats import Authorization


def build(context: Context, options: Any) -> Authorization:
    """The part; what it needs is imported when it is chosen."""
    from fluvial_trust_graph.authorization import TrustGraphAuthorization

    return TrustGraphAuthorization(context, options)


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer the authorization."""
    registry.authorization("trust_graph", build, options=TrustGraphOptions, tables=TABLES)
    registry.check("rules", check)
