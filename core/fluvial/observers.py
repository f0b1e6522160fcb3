"""Reports the events of a node to its watchers. A watcher that raises is logged and counted; the others are still called.

The hooks' contracts are in ``hooks.py``. Watchers are the hooks of loaded plugins, which observe every node of the process, and the objects that
parts contribute to their own node. Implementations are called one by one and directly, since a hook call of pluggy ends at the first that raises.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import lru_cache, partial
from itertools import chain, count
from typing import Any, Final

import pluggy
import structlog
from prometheus_client import CollectorRegistry, Counter

from fluvial import hooks
from fluvial.addresses import Contact
from fluvial.effectors import Call
from fluvial.errors import PluginError
from fluvial.faults import describe
from fluvial.guard.blame import BLAME
from fluvial.guard.guard import safe
from fluvial.identity import PeerId
from fluvial.particle import Particle
from fluvial.plugins import Plugins, check_hooks

PROJECT: Final = "fluvial"


class Observers:
    """The watchers of one node.

    Args:
        node: the node's peer id.
        plugins: the loaded plugins.
        log: where a failing watcher is reported.
        metrics: gets ``fluvial_observer_failures_total{plugin, hook}``.
    """

    def __init__(
        self, node: PeerId, plugins: Plugins, *, log: structlog.stdlib.BoundLogger, metrics: CollectorRegistry
    ) -> None:
        self._node = node
        self._log = log
        self._plugins: dict[str, str] = {}
        self._of_plugins = plugins.manager
        self._manager = _Watchers(PROJECT)
        self._manager.add_hookspecs(hooks)
        self._failures = Counter(
            "fluvial_observer_failures", "Exceptions raised by observer hooks", ["plugin", "hook"], registry=metrics
        )

    def add(self, watcher: object, *, owner: str, plugin: str) -> None:
        """Report events to an object, too, until :meth:`remove`.

        Args:
            watcher: has methods marked with ``hookimpl``.
            owner: the part that contributes it.
            plugin: the plugin whose code it is, for log and metrics.

        Raises:
            PluginError: it has a hook that does not exist, or no hook at all.
        """
        try:
            names = chain((owner,), (f"{owner} {number}" for number in count(2)))
            name = next(name for name in names if not self._manager.has_plugin(name))
            self._manager.register(watcher, name)
            self._plugins[name] = plugin
            check_hooks(self._manager, watcher)
        except (PluginError, ValueError, pluggy.PluginValidationError) as error:
            self.remove(watcher)
            raise PluginError(f"a watcher of {owner} cannot be used: {error}") from error

    def remove(self, watcher: object) -> None:
        """Stop reporting events to an object."""
        if self._manager.is_registered(watcher):
            self._plugins.pop(self._manager.get_name(watcher) or "", None)
            self._manager.unregister(watcher)

    def peer_connected(self, contact: Contact) -> None:
        """Call ``fluvial_peer_connected``."""
        self._tell("fluvial_peer_connected", peer=contact.peer, contact=contact)

    def peer_disconnected(self, peer: PeerId) -> None:
        """Call ``fluvial_peer_disconnected``."""
        self._tell("fluvial_peer_disconnected", peer=peer)

    def particle_received(self, particle: Particle, sender: PeerId) -> None:
        """Call ``fluvial_particle_received``."""
        self._tell("fluvial_particle_received", particle=particle, sender=sender)

    def particle_refused(self, sender: PeerId, particle_id: str, reason: str) -> None:
        """Call ``fluvial_particle_refused``."""
        self._tell("fluvial_particle_refused", sender=sender, particle_id=particle_id, reason=reason)

    def failure_noticed(self, particle: Particle, peer: PeerId, code: int, message: str) -> None:
        """Call ``fluvial_failure_noticed``."""
        self._tell("fluvial_failure_noticed", particle=particle, peer=peer, code=code, message=message)

    def call_done(self, call: Call, status: int, seconds: float) -> None:
        """Call ``fluvial_call_done``."""
        self._tell("fluvial_call_done", call=call, status=status, seconds=seconds)

    def capabilities_changed(self) -> None:
        """Call ``fluvial_capabilities_changed``."""
        self._tell("fluvial_capabilities_changed")

    def _tell(self, hook: str, **facts: Any) -> None:
        of_plugins: pluggy.HookCaller = getattr(self._of_plugins.hook, hook)
        for implementation in of_plugins.get_hookimpls():
            self._call(implementation, implementation.plugin_name, hook, facts)
        of_watchers: pluggy.HookCaller = getattr(self._manager.hook, hook)
        for implementation in of_watchers.get_hookimpls():
            self._call(implementation, self._plugins[implementation.plugin_name], hook, facts)

    def _call(self, implementation: pluggy.HookImpl, plugin: str, hook: str, facts: Mapping[str, Any]) -> None:
        token = BLAME.set(partial(self._failed, plugin, hook))
        try:
            implementation.function(
                *[self._node if name == "node" else facts[name] for name in implementation.argnames]
            )
        except BaseException as error:  # noqa: BLE001 - the plugin boundary
            self._failed(plugin, hook, error)
        finally:
            BLAME.reset(token)

    def _failed(self, plugin: str, hook: str, error: BaseException) -> None:
        self._failures.labels(plugin, hook).inc()
        self._log.warning("observer_failed", plugin=plugin, hook=hook, error=describe(error), exc_info=safe(error))


class _Watchers(pluggy.PluginManager):
    """Looks for the hooks of a watcher once for each class: pluggy asks every attribute of every object whether it is one."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        """What an attribute says of itself if it is a hook."""
        kind: type = type(plugin)
        if name in _hooks_of(kind) or name in getattr(plugin, "__dict__", ()):
            return super().parse_hookimpl_opts(plugin, name)
        return None


@lru_cache(maxsize=256)
def _hooks_of(kind: type) -> frozenset[str]:
    """The attributes of a class that are marked with ``hookimpl``."""
    return frozenset(name for name in dir(kind) if hasattr(inspect.getattr_static(kind, name, None), f"{PROJECT}_impl"))
