"""Implements the port ``directory``: the capabilities of this node, and the providers of a capability elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from fluvial.guard.guard import Guard
from fluvial.guard.guarded import GuardedAuthorization, GuardedRouting
from fluvial.identity import PeerId
from fluvial.ports import Capability, Provider

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
        self._declared: dict[str, Callable[[], Iterable[Capability]]] = {}

    def declare(self, owner: str, capabilities: Callable[[], Iterable[Capability]]) -> None:
        """Ask a part for its capabilities from now on."""
        self._declared[owner] = capabilities

    def withdraw(self, owner: str) -> None:
        """Stop asking a part."""
        self._declared.pop(owner, None)

    def own(self) -> frozenset[Capability]:
        """As :meth:`Directory.own`."""
        own = {Capability(kind, name) for kind, names in self._services().items() for name in names}
        for owner, declared in self._declared.items():
            own.update(self._guard.ask(owner, "capabilities", lambda of=declared: _valid(of()), ()))  # type: ignore[misc]
            if len(own) >= OWN_MAX:
                break
        return frozenset(own)

    async def find(self, capability: Capability, *, limit: int = 8) -> Sequence[Provider]:
        """As :meth:`Directory.find`."""
        found = await self._routing.providers(capability, limit=min(limit, FIND_MAX))
        others = [one for one in found if one.peer != self._me]
        return sorted(others, key=lambda one: -max(one.weight, self._trust.weight(one.peer)))[:limit]


def _valid(capabilities: Iterable[Capability]) -> Sequence[Capability]:
    """Validate declared capabilities; an invalid one is a failure of the part that declares it."""
    return [Capability.parse(str(Capability(*one))) for one in capabilities]
