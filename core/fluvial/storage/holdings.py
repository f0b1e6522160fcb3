"""What a peer knows by heart of its particles in the store, so that what comes often costs no query."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, TypeAlias

import msgspec

from fluvial.particle import ParticleKey
from fluvial.storage.account import DiskAccount, script_bytes
from fluvial.storage.known_keys import KnownKeys

LARGE_BYTES: Final = 32_768
"""A particle with more in the account is worth to be shrunk when it has ended."""


Place: TypeAlias = tuple[int, int | bytes]
"""Of a particle among all, the oldest first: its deadline, and what the database tells those with one deadline apart by."""


class Written(msgspec.Struct, frozen=True):
    """What a write came to.

    Attributes:
        version: of the outbox rows that were asked for with it.
        initiator: whose particle it is.
        bytes: of the particle in the account, all in all.
        deadline_ms: when it dies.
        is_new: the particle was not here before.
        new_script: neither was its script.
    """

    version: int
    initiator: bytes
    bytes: int
    deadline_ms: int
    is_new: bool = False
    new_script: bool = False


class Removed(msgspec.Struct):
    """What one step came to.

    Attributes:
        count: how many particles and stories are gone.
        oldest_ms: how long the oldest of them should have been gone already, milliseconds.
        work_s: how long it held up other writes, seconds, without the COMMIT.
        keys: of the particles.
        change: initiators, and by how much their bytes have changed.
        reached: where to look on for what has ended, if there was more than one step looks at.
    """

    count: int = 0
    oldest_ms: int = 0
    work_s: float = 0.0
    keys: list[ParticleKey] = msgspec.field(default_factory=list)
    change: list[tuple[bytes, int]] = msgspec.field(default_factory=list)
    reached: Place | None = None

    @property
    def freed(self) -> int:
        """Bytes that are free now."""
        return -sum(size for _, size in self.change)


class _Large(msgspec.Struct, frozen=True):
    initiator: bytes
    deadline_ms: int
    finished: bool


class Holdings:
    """See the module's docstring.

    Attributes:
        known: the keys whose time is not over.
        account: whose bytes are whose.
        admitted: how many particles were written that were not here before, since the start.
    """

    def __init__(self) -> None:
        self.admitted = 0
        self.known: Final = KnownKeys()
        self.account: Final = DiskAccount()
        self._large: dict[ParticleKey, _Large] = {}

    def fill(
        self,
        *,
        keys: Iterable[tuple[ParticleKey, int]],
        large: Iterable[tuple[ParticleKey, bytes, int, bool]],
        rows: Iterable[tuple[bytes, int]],
        since_ms: int,
    ) -> None:
        """What the store held before this process: see the attributes; of keys those whose deadline is not before a time."""
        self.known.fill(keys, since_ms)
        self.account.fill(rows)
        self._large |= {key: _Large(of, deadline_ms, finished) for key, of, deadline_ms, finished in large}

    def wrote(self, key: ParticleKey, written: Written, *, added: int, script: int = 0, finished: bool) -> None:
        """Something was written.

        Args:
            key: about which particle.
            written: what the write came to.
            added: bytes of what was added to a particle that was here.
            script: bytes of the script that came with it.
            finished: whether nothing is left to do.
        """
        self.admitted += written.is_new
        size = written.bytes if written.is_new else added
        self.account.add(written.initiator, size + (script_bytes(script) if written.new_script else 0))
        if written.bytes > LARGE_BYTES or key in self._large or (written.new_script and script > LARGE_BYTES):
            self._large[key] = _Large(written.initiator, written.deadline_ms, finished)

    def removed(self, removed: Removed) -> None:
        """Something was removed."""
        for initiator, size in removed.change:
            self.account.add(initiator, size)
        for key in removed.keys:
            self._large.pop(key, None)

    def to_shrink(self, now_ms: int, most: int, own: bytes) -> list[ParticleKey]:
        """Large particles that have ended.

        Args:
            now_ms: milliseconds since 1970.
            most: how many.
            own: those of this initiator have not ended before their deadlines.
        """
        found = (
            key
            for key, large in self._large.items()
            if large.deadline_ms < now_ms or (large.finished and large.initiator != own)
        )
        return list(islice(found, most))

    def put_off(self, key: ParticleKey) -> None:
        """A large particle is not to be named again before its deadline."""
        if (large := self._large.get(key)) is not None:
            self._large[key] = msgspec.structs.replace(large, finished=False)

    def leave(self, key: ParticleKey) -> None:
        """A large particle is not to be named again."""
        self._large.pop(key, None)
