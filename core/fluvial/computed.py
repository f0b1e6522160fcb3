"""Properties that are computed when they are first asked for: ``functools.cached_property`` without its lock, which Python 3.12 has left out, too.

Until then the lock costs as much as what is computed here, and is taken by all objects of a class together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class computed(Generic[T]):  # noqa: N801 - used as property is
    """A method as an attribute that keeps what it first gave; of a class whose objects have a ``__dict__``."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> T: ...

    def __get__(self, instance: object, owner: type) -> T | Self:
        if instance is None:
            return self
        value = instance.__dict__[self._name] = self._compute(instance)
        return value
