"""Containers that mostly have nothing or next to nothing in them, and of which a peer has very many.

A waiting particle has several dozen, and a peer has thousands of such particles. An empty dictionary takes 64 bytes, and a set of one member 216.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, NoReturn, TypeAlias, TypeVar

MemberT = TypeVar("MemberT")

FEW: Final = 4
"""Members that are looked through one by one."""

Members: TypeAlias = tuple[MemberT, ...] | set[MemberT]
"""Different members: a tuple of few, or a set; see :func:`added`."""


def added(members: Members[MemberT], new: Iterable[MemberT]) -> Members[MemberT]:
    """Members and new ones, to be put in the place of the members, which may have been changed."""
    if isinstance(members, set):
        members.update(new)
        return members
    together = dict.fromkeys((*members, *new))
    return tuple(together) if len(together) <= FEW else set(together)


EMPTIED: Final = 1_000
"""Entries of a mapping that are taken out together: a millisecond, with what they hold."""


def emptying(mapping: dict[Any, Any]) -> Iterator[None]:
    """Empty a mapping in slices: what is in it may be a great many objects, of which nobody else has any."""
    while mapping:
        for _ in range(min(EMPTIED, len(mapping))):
            mapping.popitem()
        if mapping:
            yield


class _Empty(dict[Any, Any]):
    """Whatever would put something into it raises TypeError."""

    __slots__ = ()

    def _refuse(self, *_: object, **__: object) -> NoReturn:
        raise TypeError("the shared empty mapping stays empty: whoever has something to put in makes one of its own")

    __setitem__ = _refuse
    __ior__ = _refuse
    setdefault = _refuse
    update = _refuse


EMPTY: Final[dict[Any, Any]] = _Empty()
"""Read as any other; before the first entry its place is given to a new one: ``if self.things is EMPTY: self.things = {}``."""
