"""The aliases of services, by both ends. Pure."""

from __future__ import annotations

from collections.abc import Mapping


class AliasBook:
    """Which service each alias names.

    Args:
        aliases: ids of services by alias.
    """

    def __init__(self, aliases: Mapping[str, str]) -> None:
        self._services: dict[str, str] = {}
        self._aliases: dict[str, set[str]] = {}
        for alias, service in aliases.items():
            self.set(alias, service)

    def __len__(self) -> int:
        return len(self._services)

    def service(self, alias: str) -> str | None:
        """The id of the service that an alias names, or None."""
        return self._services.get(alias)

    def of(self, service: str) -> list[str]:
        """The aliases of a service, sorted."""
        return sorted(self._aliases.get(service, ()))

    def count(self, service: str) -> int:
        """How many aliases a service has."""
        return len(self._aliases.get(service, ()))

    def set(self, alias: str, service: str) -> None:
        """Let an alias name a service, and no other one."""
        self.remove(alias)
        self._services[alias] = service
        self._aliases.setdefault(service, set()).add(alias)

    def remove(self, alias: str) -> None:
        """Forget an alias; without effect if there is none."""
        service = self._services.pop(alias, None)
        if service is None:
            return
        others = self._aliases[service]
        others.discard(alias)
        if not others:
            del self._aliases[service]

    def forget(self, service: str) -> None:
        """Forget the aliases of a service."""
        for alias in self._aliases.pop(service, ()):
            del self._services[alias]
