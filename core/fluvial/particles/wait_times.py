"""Since when a particle waits for something. The machine has no clock, so the answer is found in the journal, which has the times.

Whatever waits at the end of the journal began to wait at one of the moments at which entries were written. The session as it was at a
moment, restored from the entries up to it, says whether it waited then. The moments are bisected, for all waits together; where most of them are, first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from heapq import heappop, heappush
from itertools import count
from typing import Final, TypeAlias

import msgspec

from fluvial.air.data.facts import Instance
from fluvial.air.machine.findings import Wait
from fluvial.particles.session import ParticleSession
from fluvial.particles.sliced import at_once
from fluvial.stored import JournalEntry, StoredParticle

RESTORED_MAX: Final = 32
"""Sessions that are restored for one answer, each from the beginning of the journal; a wait whose time is not found by then is left out."""

WaitName: TypeAlias = tuple[Instance, str]
"""An instance and what it waits for. An instruction may wait for a value and later for a peer: these are two waits."""


def name_of(wait: Wait) -> WaitName:
    """What distinguishes a wait from others."""
    return wait.instance, wait.reason


def since_when(
    stored: StoredParticle,
    waits: Iterable[Wait],
    restore: Callable[[StoredParticle], ParticleSession],
    *,
    restored_max: int = RESTORED_MAX,
) -> Mapping[WaitName, int]:
    """When each of these waits began, milliseconds since 1970, by the clock of the peer that wrote the journal.

    Args:
        stored: the particle.
        waits: what waits at the end of its journal.
        restore: makes the session of a stored particle.
        restored_max: how many sessions it makes.

    Raises:
        RemoteProtocolError: the journal is damaged.
    """
    return _Bisection(stored, restore, restored_max).find({name_of(wait) for wait in waits})


class _Bisection:
    """A *moment* is a number of entries from the beginning; entries that were written together have one time and one moment."""

    def __init__(
        self, stored: StoredParticle, restore: Callable[[StoredParticle], ParticleSession], restored_max: int
    ) -> None:
        self._stored = stored
        self._restore = restore
        self._moments = _moments(stored.journal)
        self._left = restored_max
        self._found: dict[WaitName, int] = {}
        self._pending: list[tuple[int, int, tuple[int, int, Set[WaitName]]]] = []
        self._order = count()

    def find(self, names: Set[WaitName]) -> Mapping[WaitName, int]:
        self._put(-1, len(self._moments) - 1, names)
        while self._pending:
            _, _, (before, then, some) = heappop(self._pending)
            self._search(before, then, some)
        return self._found

    def _put(self, before: int, then: int, names: Set[WaitName]) -> None:
        """Search for names that wait at the moment ``then`` and do not wait at the moment ``before``, after those that are more."""
        if names and before < then:
            heappush(self._pending, (-len(names), next(self._order), (before, then, names)))

    def _search(self, before: int, then: int, names: Set[WaitName]) -> None:
        if then - before == 1:
            at_ms = self._stored.journal[self._moments[then] - 1].at_ms
            self._found.update(dict.fromkeys(names, at_ms))
        elif self._left:
            self._left -= 1
            middle = (before + then) // 2
            waiting = self._waiting(self._moments[middle])
            self._put(middle, then, names - waiting)
            self._put(before, middle, names & waiting)

    def _waiting(self, moment: int) -> Set[WaitName]:
        session = self._restore(msgspec.structs.replace(self._stored, journal=self._stored.journal[:moment]))
        waiting = {name_of(wait) for wait in session.waits()}
        at_once(session.release())
        return waiting


def _moments(journal: Sequence[JournalEntry]) -> list[int]:
    """The numbers of entries after which time went on; there are none as long as nothing was written."""
    return [
        number
        for number, entry in enumerate(journal, start=1)
        if number == len(journal) or journal[number].at_ms != entry.at_ms
    ]
