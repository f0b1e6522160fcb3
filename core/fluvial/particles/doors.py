"""Doors through which particles are opened, so that none is opened twice at once."""

from __future__ import annotations

from fluvial.particle import ParticleKey
from fluvial.waiting import Lock


class _Door:
    """One particle's door; ``guests`` is how many are in it or before it."""

    __slots__ = ("guests", "lock")

    def __init__(self) -> None:
        self.lock = Lock()
        self.guests = 0


class Doors:
    """Whoever wants to open a particle goes through its door, one after another; a door before which nobody is is forgotten."""

    def __init__(self) -> None:
        self._doors: dict[ParticleKey, _Door] = {}

    def is_free(self, key: ParticleKey) -> bool:
        """Whether nobody is in a particle's door or before it: what is done without waiting needs none then."""
        return key not in self._doors

    def through(self, key: ParticleKey) -> DoorPassage:
        """For ``async with``, at once: the block has the particle's door for itself."""
        return DoorPassage(self._doors, key)


class DoorPassage:
    """See :meth:`Doors.through`."""

    __slots__ = ("_door", "_doors", "_key")

    def __init__(self, doors: dict[ParticleKey, _Door], key: ParticleKey) -> None:
        self._doors = doors
        self._key = key
        self._door = doors.setdefault(key, _Door())
        self._door.guests += 1

    async def __aenter__(self) -> None:
        try:
            await self._door.lock.acquire()
        except BaseException:
            self._leave()
            raise

    async def __aexit__(self, *_: object) -> None:
        self._door.lock.release()
        self._leave()

    def _leave(self) -> None:
        self._door.guests -= 1
        if not self._door.guests:
            del self._doors[self._key]
