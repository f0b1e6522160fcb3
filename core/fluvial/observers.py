"""Tells the plugins that watch what happens in a node; one that raises is logged and counted, and the others still hear of it.

The hooks' contracts are in ``hooks.py``. Implementations are called one by one and directly, since a hook call of pluggy ends at the
first that raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from prometheus_client import CollectorRegistry, Counter

from fluvial.faults import describe
from fluvial.plugins import Plugins

if TYPE_CHECKING:
    from fluvial.effectors import Call
    from fluvial.identity import PeerId
    from fluvial.particle import Particle


class Observers:
    """The watchers among the loaded plugins, for one node.

    Args:
        plugins: the loaded plugins.
        log: where a failing watcher is reported.
        metrics: gets ``fluvial_observer_failures_total{plugin, hook}``.
    """

    def __init__(self, plugins: Plugins, *, log: structlog.stdlib.BoundLogger, metrics: CollectorRegistry) -> None:
        self._manager = plugins.manager
        self._log = log
        self._failures = Counter(
            "fluvial_observer_failures", "Exceptions raised by observer hooks", ["plugin", "hook"], registry=metrics
        )

    def peer_connected(self, peer: PeerId) -> None:
        """Tell ``fluvial_peer_connected``."""
        self._tell("fluvial_peer_connected", peer=peer)

    def peer_disconnected(self, peer: PeerId) -> None:
        """Tell ``fluvial_peer_disconnected``."""
        self._tell("fluvial_peer_disconnected", peer=peer)

    def particle_received(self, particle: Particle, sender: PeerId) -> None:
        """Tell ``fluvial_particle_received``."""
        self._tell("fluvial_particle_received", particle=particle, sender=sender)

    def particle_refused(self, sender: PeerId, particle_id: str, reason: str) -> None:
        """Tell ``fluvial_particle_refused``."""
        self._tell("fluvial_particle_refused", sender=sender, particle_id=particle_id, reason=reason)

    def failure_noticed(self, particle: Particle, peer: PeerId, code: int, message: str) -> None:
        """Tell ``fluvial_failure_noticed``."""
        self._tell("fluvial_failure_noticed", particle=particle, peer=peer, code=code, message=message)

    def call_done(self, call: Call, status: int, seconds: float) -> None:
        """Tell ``fluvial_call_done``."""
        self._tell("fluvial_call_done", call=call, status=status, seconds=seconds)

    def _tell(self, hook: str, **facts: Any) -> None:
        caller = getattr(self._manager.hook, hook)
        for implementation in caller.get_hookimpls():
            try:
                implementation.function(*[facts[name] for name in implementation.argnames])
            except Exception as error:  # noqa: BLE001 - the plugin boundary
                self._failures.labels(implementation.plugin_name, hook).inc()
                self._log.warning(
                    "observer_failed", plugin=implementation.plugin_name, hook=hook, error=describe(error)
                )
