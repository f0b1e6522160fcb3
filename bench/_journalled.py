"""A machine that writes what it must remember to SQLite before it goes on, as a peer does: one transaction per run and one per departure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, Final

from anyio.from_thread import BlockingPortal, start_blocking_portal
from fluvial.air.data.batch import Known
from fluvial.air.data.facts import Instance
from fluvial.air.data.log import Record, encode_record
from fluvial.air.machine.machine import Effects, Machine
from fluvial.air.machine.outcomes import CallOutcome
from fluvial.air.syntax import Script
from fluvial.identity import KeyPair, PeerId
from fluvial.particle import Particle
from fluvial.particles.journal import kind_of
from fluvial.storage import JournalEntry, Store, open_store

KEYS: Final = KeyPair.generate()


class Shelf:
    """The databases of all peers, one file each, and the thread in which they are used."""

    def __init__(self, folder: Path, portal: BlockingPortal, open_: ExitStack) -> None:
        self._folder = folder
        self._portal = portal
        self._open = open_
        self._stores: dict[PeerId, Store] = {}
        self._numbers = count()

    def store_of(self, peer: PeerId) -> Store:
        """A peer's database; made when it is first asked for."""
        if peer not in self._stores:
            opening = open_store(f"sqlite:///{peer}.db", base_dir=self._folder)
            self._stores[peer] = self._open.enter_context(self._portal.wrap_async_context_manager(opening))
        return self._stores[peer]

    def particle(self) -> Particle:
        """A row of its own for every flow."""
        return Particle.create(
            KEYS, "(null)", particle_id=f"{next(self._numbers)}", timestamp_ms=0, ttl_ms=1, max_hops=9, network="bench"
        )

    def write(self, work: Callable[[], Any]) -> None:
        """Wait until something is written."""
        self._portal.call(work)


class Journalled(Machine):
    """See the module's docstring; made by :func:`journalled`."""

    shelf: ClassVar[Shelf]

    def __init__(self, script: Script, particle: bytes, me: PeerId, **environment: Any) -> None:
        super().__init__(script, particle, me, **environment)
        self._row = self.shelf.particle()
        self._particles = self.shelf.store_of(me).particles
        self._entries = 0

    def merge(self, known: Known) -> Effects:
        return self._kept(super().merge(known))

    def resolve(self, outcomes: Mapping[Instance, CallOutcome]) -> Effects:
        return self._kept(super().resolve(outcomes))

    def seal(self, sign: Callable[[bytes], bytes], *, closing: bool = True) -> Record | None:
        record = super().seal(sign, closing=closing)
        if record is not None:
            self._keep([record], finished=False)
        return record

    def _kept(self, effects: Effects) -> Effects:
        if effects.records:
            self._keep(effects.records, finished=effects.finished)
        return effects

    def _keep(self, records: Sequence[Record], *, finished: bool) -> None:
        first, self._entries = self._entries, self._entries + len(records)
        entries = [
            JournalEntry(first + number, 0, kind_of(record), encode_record(record))
            for number, record in enumerate(records)
        ]

        async def write() -> None:
            if first == 0:
                await self._particles.admit(self._row, sender=KEYS.peer_id, hops=0, now_ms=0, entries=entries)
            else:
                await self._particles.record(self._row.key, now_ms=0, entries=entries, finished=finished)

        self.shelf.write(write)


@contextmanager
def journalled(folder: Path) -> Iterator[type[Machine]]:
    """Machines whose peers have their databases in a folder."""
    with start_blocking_portal() as portal, ExitStack() as open_:
        yield type("JournalledHere", (Journalled,), {"shelf": Shelf(folder, portal, open_)})
