"""Names inside of bodies: scopes, and the ids that services have in them."""

from __future__ import annotations

from collections.abc import Iterator

from fluvial_aqua.checking.tree import ServiceUnit, Variable


class NameScope:
    """The names of a block, and through its parent those of the blocks around it.

    ``on`` shares the names of the block around it, but ids of services that are set inside of it are its own.

    Args:
        parent: the scope around it.
        shares_names: whether names go to the parent.
        function: whether it is the outermost scope of a function or closure.
    """

    def __init__(self, parent: NameScope | None = None, *, shares_names: bool = False, function: bool = False) -> None:
        self._parent = parent
        self._function = function
        self._names: dict[str, Variable] = parent._names if parent is not None and shares_names else {}
        self._services: set[ServiceUnit] = set()

    def find(self, name: str) -> Variable | None:
        """The variable of a name."""
        scope: NameScope | None = self
        while scope is not None:
            if (found := scope._names.get(name)) is not None:
                return found
            scope = scope._parent
        return None

    def add(self, variable: Variable) -> None:
        """Make a variable known from here on."""
        self._names[variable.name] = variable

    def add_outside(self, variable: Variable) -> None:
        """Make a variable known in the whole function."""
        scope = self
        while scope._parent is not None and not scope._function:
            scope = scope._parent
        scope._names[variable.name] = variable

    def names(self) -> Iterator[str]:
        """All names that are known here."""
        scope: NameScope | None = self
        while scope is not None:
            yield from scope._names
            scope = scope._parent

    def set_id(self, service: ServiceUnit) -> None:
        """A service has an id from here on."""
        self._services.add(service)

    def has_id(self, service: ServiceUnit) -> bool:
        """Whether a service was given an id."""
        scope: NameScope | None = self
        while scope is not None:
            if service in scope._services:
                return True
            scope = scope._parent
        return False
