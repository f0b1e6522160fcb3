"""Since when a particle waits for something: the machine has no clock, so it is found in the journal, which has the times.

What waits now has waited since a moment of the journal, and not before: the machine as it was at other moments, restored from what the
journal had then, says which. The moments are bisected, for all waits together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Final, TypeAlias

from fluvial.air.data.facts import Instance
from fluvial.air.data.log import Record
from fluvial.air.machine.findings import Wait
from fluvial.air.machine.machine import Machine
from fluvial.particles.journal import records_of
from fluvial.storage.particle_rows import JournalEntry

RESTORED_MAX: Final = 32
"""Machines that are restored for one answer, each from a part of the journal; what is not found by then is left out."""

WaitName: TypeAlias = tuple[Instance, str]
"""An instance and what it waits for: one that first needs a name and then a peer waits for the peer from then on only."""


def name_of(wait: Wait) -> WaitName:
    """What tells a wait from others."""
    return wait.instance, wait.reason


def since_when(
    journal: Sequence[JournalEntry], waits: Iterable[Wait], restore: Callable[[Sequence[Record]], Machine]
) -> Mapping[WaitName, int]:
    """When each of these began, milliseconds since 1970, by the clock that the journal was written with.

    Args:
        journal: all of the particle's journal.
        waits: what waits at its end.
        restore: the particle's machine as it was when these records were written.

    Raises:
        RemoteProtocolError: the journal is damaged.
    """
    return _Bisection(journal, restore).find({name_of(wait) for wait in waits})


class _Bisection:
    """A *moment* is the number of the entries up to it; those that were written together have one time."""

    def __init__(self, journal: Sequence[JournalEntry], restore: Callable[[Sequence[Record]], Machine]) -> None:
        self._journal = journal
        self._restore = restore
        following = [entry.at_ms for entry in journal[1:]]
        self._moments = [
            number
            for number, (entry, next_ms) in enumerate(zip(journal, [*following, None], strict=True), start=1)
            if entry.at_ms != next_ms
        ]
        self._left = RESTORED_MAX
        self._found: dict[WaitName, int] = {}

    def find(self, names: Set[WaitName]) -> Mapping[WaitName, int]:
        self._search(-1, len(self._moments) - 1, names)
        return self._found

    def _search(self, before: int, then: int, names: Set[WaitName]) -> None:
        """Of names that wait at the moment ``then`` and do not at the moment ``before``."""
        if not names or before >= then:
            return
        if then - before == 1:
            at_ms = self._journal[self._moments[then] - 1].at_ms
            self._found.update(dict.fromkeys(names, at_ms))
        elif self._left:
            self._left -= 1
            middle = (before + then) // 2
            waiting = self._waiting(self._moments[middle])
            self._search(middle, then, names - waiting)
            self._search(before, middle, names & waiting)

    def _waiting(self, moment: int) -> Set[WaitName]:
        machine = self._restore(list(records_of(self._journal[:moment])))
        return {name_of(wait) for wait in machine.waits()}
