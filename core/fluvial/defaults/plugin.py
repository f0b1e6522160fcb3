"""Core's own offers, made like those of every plugin: entry point ``core`` of distribution ``fluvial``."""

from __future__ import annotations

from fluvial.defaults.no_consensus import NoConsensus
from fluvial.defaults.signatures import SignatureAuthorization
from fluvial.defaults.static_routing import StaticOptions, StaticRouting
from fluvial.effectors import NoConfig
from fluvial.hooks import hookimpl
from fluvial.offers import Registry
from fluvial.services.native import NativeExecution, NativeOptions


@hookimpl
def fluvial_register(registry: Registry) -> None:
    """Offer one candidate for every seat except the transport."""
    registry.routing("static", StaticRouting, options=StaticOptions)
    registry.authorization("signatures", SignatureAuthorization, options=NoConfig)
    registry.execution("native", NativeExecution, options=NativeOptions)
    registry.consensus("none", NoConsensus, options=NoConfig)
