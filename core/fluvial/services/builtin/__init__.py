"""The services that every peer has; their reference page is ``docs/services.md``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import structlog

from fluvial.clock import Clock
from fluvial.effectors import Effector
from fluvial.guard.guarded import GuardedRouting, GuardedTransport
from fluvial.identity import KeyPair
from fluvial.services.builtin.arrays import Array
from fluvial.services.builtin.console import Console
from fluvial.services.builtin.numbers import Cmp, Math
from fluvial.services.builtin.objects import Debug, JsonService
from fluvial.services.builtin.op import Op
from fluvial.services.builtin.peer import PING, PING_PROTOCOL, PeerService, Versions
from fluvial.services.builtin.sig import Sig
from fluvial.services.builtin.stat import Stat
from fluvial.services.dispatcher import Services

__all__ = ["BUILTINS", "PING", "PING_PROTOCOL", "Versions", "serve_builtins"]

BUILTINS: Final[Sequence[type[Effector[Any]]]] = (
    Op,
    Math,
    Cmp,
    Array,
    JsonService,
    Debug,
    Console,
    PeerService,
    Sig,
    Stat,
)
"""Their classes, in the order of the reference page."""


async def serve_builtins(
    services: Services,
    *,
    keys: KeyPair,
    transport: GuardedTransport,
    routing: GuardedRouting,
    clock: Clock,
    versions: Versions,
    log: structlog.stdlib.BoundLogger,
) -> None:
    """Register all built-in services, before any other service, so that no other service can take their names."""
    peer = PeerService(
        keys=keys,
        transport=transport,
        routing=routing,
        clock=clock,
        versions=versions,
        disclosure=services.disclosure,
    )
    console = Console(peer=keys.peer_id, log=log)
    effectors: Sequence[Effector[Any]] = (
        Op(), Math(), Cmp(), Array(), JsonService(), Debug(), console, peer, Sig(keys), Stat(services)
    )  # fmt: skip
    for effector in effectors:
        await services.serve(effector, kind="builtin", plugin="core")
