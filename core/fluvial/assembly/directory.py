"""Implements the port ``directory``: the capabilities of this node, and the providers of a capability elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Final

from fluvial.guard.guard import Guard
from fluvial.guard.guarded import GuardedAuthorization, GuardedRouting
from fluvial.identity import PeerId
from fluvial.ports import Capability, Provider, is_capability

OWN_MAX: Final = 65_536
"""Most capabilities of one node; once so many are found, no further parts are asked."""
FIND_MAX: Final = 256


class NodeDirectory:
    """See :class:`fluvial.ports.Directory`. Capabilities are read whenever they are needed, so nothing is lost at a restart.

    Args:
        me: this peer.
        routing: looks for others.
        trust: weighs them.
        guard: asks the parts.
        services: the services and effectors that this node has, by kind of capability.
    """

    def __init__(
        self,
        me: PeerId,
        *,
        routing: GuardedRouting,
        trust: GuardedAuthorization,
        guard: Guard,
        services: Callable[[], Mapping[str, Iterable[str]]],
    ) -> None:
        self._me = me
        self._routing = routing
        self._trust = trust
        self._guard = guard
        self._services = services
        self._declared: dict[str, tuple[str, Callable[[], Iterable[Capability]]]] = {}

    def declare(self, owner: str, plugin: str, capabilities: Callable[[], Iterable[Capability]]) -> None:
        """Ask a part, whose code is of ``plugin``, for its capabilities from now on."""
        self._declared[owner] = (plugin, capabilities)

    def withdraw(self, owner: str) -> None:
        """Stop asking a part."""
        self._declared.pop(owner, None)

    def own(self) -> frozenset[Capability]:
        """As :meth:`Directory.own`."""
        own: set[Capability] = set()
        for kind, names in self._services().items():
            own.update(Capability(kind, name) for name in names if is_capability(kind, name))
        for plugin, declared in self._declared.values():
            room = OWN_MAX - len(own)
            if room <= 0:
                break
            own.update(self._guard.ask(plugin, "capabilities", partial(_declared, declared, room), ()))
        return frozenset(own)

    async def find(self, capability: Capability, *, limit: int = 8) -> Sequence[Provider]:
        """As :meth:`Directory.find`."""
        found = await self._routing.providers(capability, limit=min(limit, FIND_MAX))
        others = [one for one in found if one.peer != self._me]
        return sorted(others, key=lambda one: -max(one.weight, self._trust.weight(one.peer)))[:limit]


def _declared(declared: Callable[[], Iterable[Capability]], most: int) -> Sequence[Capability]:
    """What a part declares; an invalid capability is a failure of the part."""
    return [Capability.parse(str(Capability(*one))) for one in islice(declared(), most)]
