"""The vaults of particles: a folder of files for each, which all services that the particle calls on this peer share, until the particle ends.

Whoever knows a particle's id does not get at its files: the folder's name is a hash of the id and the initiator. Vaults are there again after a restart,
since what is recorded of a particle may name their files. Every vault is bounded, all together are. One initiator has at most a quarter of that, and what one peer brings no more than it leaves free: names cost nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import msgspec
from fluvial.clock import Clock
from fluvial.effectors import Call, EffectorError
from fluvial.virtual.threads import in_thread

from fluvial_fce_wasm.quota import FILE_BYTES

FILES_MAX: Final = 256
"""Files in one vault."""
SHARE_OF_ONE: Final = 4
"""One initiator has at most so much of all room: the whole divided by this."""
NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
ABOUT: Final = ".about"

BAD: Final = 400
NOT_FOUND: Final = 404
QUOTA: Final = 507


class VaultAbout(msgspec.Struct, frozen=True):
    """What lies beside the files: whose they are, until when, and which peer brought the particle."""

    initiator: str
    ends_ms: int
    sender: str = ""


class Vault(msgspec.Struct):
    """The files of one particle.

    Attributes:
        folder: where they are.
        about: whose, and until when.
        sizes: bytes of each file.
        on_disk: whether there is a folder, or soon will be.
        turn: held while files change.
    """

    folder: Path
    about: VaultAbout
    sizes: dict[str, int] = msgspec.field(default_factory=dict)
    on_disk: bool = False
    turn: anyio.Lock = msgspec.field(default_factory=anyio.Lock)

    @property
    def takes(self) -> int:
        """What it counts: a small file takes room, too, and so do the folder and what is noted about it."""
        return 2 * FILE_BYTES + sum(map(_counted, self.sizes.values()))


class Vaults:
    """All vaults of this peer.

    Args:
        folder: of all vaults.
        clock: tells which have ended.
        bytes_max: of one vault.
        total_bytes_max: of all vaults.
    """

    def __init__(self, folder: Path, clock: Clock, *, bytes_max: int, total_bytes_max: int) -> None:
        self._folder = folder
        self._clock = clock
        self.bytes_max = bytes_max
        self._total_bytes_max = total_bytes_max
        self._vaults: dict[str, Vault] = {}
        self._taken: Counter[str] = Counter()  # by initiator
        self._brought: Counter[str] = Counter()  # the same by who brought it

    async def open(self) -> None:
        """Find those that are there from before; those whose particle has ended go with the next :meth:`sweep`."""
        for vault in await in_thread(partial(_found, self._folder)):
            self._vaults[vault.folder.name] = vault
            self._count(vault.about, vault.takes)

    async def sweep(self) -> None:
        """Delete those whose particle has ended."""
        now = self._clock.now_ms()
        for vault in [one for one in self._vaults.values() if one.about.ends_ms <= now]:
            async with vault.turn:
                if self._has(vault):
                    await in_thread(partial(shutil.rmtree, vault.folder, ignore_errors=True))
                    self._forget(vault)

    def files(self, call: Call) -> list[str]:
        """The names of a particle's files, sorted."""
        return sorted(self._of(call).sizes)

    def size(self, call: Call, name: str) -> int | None:
        """The bytes of a file; None if there is none."""
        return self._of(call).sizes.get(_checked(name))

    async def read(self, call: Call, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a file; raises EffectorError 404 if there is none."""
        vault = self._of(call)
        async with vault.turn:
            if _checked(name) not in vault.sizes:
                raise EffectorError(NOT_FOUND, f"there is no file {name!r} in the vault of this particle")
            return await in_thread(partial(_read, vault.folder / name, offset, length))

    async def write(self, call: Call, name: str, data: bytes) -> None:
        """Make a file, or replace it; raises EffectorError 507 if there is no room."""
        await self._change(call, name, lambda old: len(data), partial(_replace, data=data))

    async def append(self, call: Call, name: str, data: bytes) -> None:
        """Add to a file, which is made if there is none; raises EffectorError 507 if there is no room."""
        await self._change(call, name, lambda old: old + len(data), partial(_append, data=data))

    async def remove(self, call: Call, name: str) -> None:
        """Delete a file; without effect if there is none."""
        vault = self._of(call)
        async with vault.turn:
            if _checked(name) in vault.sizes:
                await in_thread(partial((vault.folder / name).unlink, missing_ok=True))
                self._resize(vault, name, None)

    # --- the books ----------------------------------------------------------------------------------------------------

    def _of(self, call: Call) -> Vault:
        """The vault of a particle; a new one is not in the books before it has a file."""
        initiator = str(call.initiator)
        name = hashlib.sha256(f"{initiator}\0{call.particle_id}".encode(errors="surrogatepass")).hexdigest()[:40]
        if (found := self._vaults.get(name)) is not None:
            return found
        sender = str(call.payer.upstream.sender)
        return Vault(self._folder / name, VaultAbout(initiator, call.timestamp_ms + call.ttl_ms, sender))

    async def _change(self, call: Call, name: str, size: Callable[[int], int], work: Callable[[Path], None]) -> None:
        _checked(name)
        async with self._turn(call) as vault:
            old = vault.sizes.get(name)
            self._require_room(vault, old, size(old or 0))
            self._resize(vault, name, size(old or 0))
            vault.on_disk = True
            try:
                await in_thread(partial(_prepared, vault, name, work))
            except BaseException as error:
                with anyio.CancelScope(shield=True):
                    self._resize(vault, name, await in_thread(partial(_size, vault.folder / name)))
                if isinstance(error, OSError):
                    raise EffectorError(QUOTA, f"the file was not written: {error.strerror}") from error
                raise

    @asynccontextmanager
    async def _turn(self, call: Call) -> AsyncIterator[Vault]:
        """The vault of a particle in the books, to change it; if nothing was put into it, it is forgotten, and whoever waited for it begins anew."""
        while True:
            vault = self._of(call)
            if vault.about.ends_ms <= self._clock.now_ms():
                raise EffectorError(NOT_FOUND, "the particle has ended, and its vault with it")
            if not self._has(vault):
                self._vaults[vault.folder.name] = vault
                self._count(vault.about, vault.takes)
            try:
                async with vault.turn:
                    if self._has(vault):
                        yield vault
                        return
            finally:
                if not vault.on_disk:
                    self._forget(vault)

    def _require_room(self, vault: Vault, old: int | None, size: int) -> None:
        """Raises EffectorError if a file of this size, in place of an old one, would be too much."""
        if old is None and len(vault.sizes) >= FILES_MAX:
            raise EffectorError(QUOTA, f"a vault has at most {FILES_MAX} files")
        grows = _counted(size) - (0 if old is None else _counted(old))
        all_take, about = self._taken.total(), vault.about
        for takes, most, whose in (
            (vault.takes, self.bytes_max, "this vault"),
            (self._taken[about.initiator], self._total_bytes_max // SHARE_OF_ONE, "this initiator's vaults"),
            (all_take, self._total_bytes_max, "the vaults of this peer"),
            (self._brought[about.sender], self._total_bytes_max - all_take, f"vaults of what {about.sender} brought"),
        ):
            if grows > 0 and takes + grows > most:
                raise EffectorError(QUOTA, f"{whose} would take {takes + grows:,} bytes; {most:,} are allowed")

    def _resize(self, vault: Vault, name: str, size: int | None) -> None:
        before = vault.takes
        if size is None:
            vault.sizes.pop(name, None)
        else:
            vault.sizes[name] = size
        self._count(vault.about, vault.takes - before)

    def _has(self, vault: Vault) -> bool:
        """Whether this very vault is in the books: another one may be there under its name."""
        return self._vaults.get(vault.folder.name) is vault

    def _forget(self, vault: Vault) -> None:
        if self._has(vault):
            del self._vaults[vault.folder.name]
            self._count(vault.about, -vault.takes)
            vault.sizes.clear()  # some may wait for it

    def _count(self, about: VaultAbout, more: int) -> None:
        for counter, name in ((self._taken, about.initiator), (self._brought, about.sender)):
            counter[name] += more
            if not counter[name]:
                del counter[name]


def _counted(size: int) -> int:
    return max(size, FILE_BYTES)


def _checked(name: str) -> str:
    if not NAME.fullmatch(name):
        raise EffectorError(BAD, "a name in a vault has 1 to 128 letters, digits, dots, hyphens and underscores")
    return name


# --- files, in a thread -----------------------------------------------------------------------------------------------


def _prepared(vault: Vault, name: str, work: Callable[[Path], None]) -> None:
    if not vault.folder.exists():
        vault.folder.mkdir(parents=True, mode=0o700)
        (vault.folder / ABOUT).write_bytes(msgspec.json.encode(vault.about))
    work(vault.folder / name)


def _read(path: Path, offset: int, length: int | None) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(-1 if length is None else length)


def _replace(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.new")
    new.write_bytes(data)
    new.replace(path)


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.exists() else None


def _found(folder: Path) -> list[Vault]:
    """The vaults below a folder; what is none is deleted."""
    found: list[Vault] = []
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            about = msgspec.json.decode((path / ABOUT).read_bytes(), type=VaultAbout)
        except (OSError, msgspec.MsgspecError):
            shutil.rmtree(path, ignore_errors=True)
            continue
        sizes = {entry.name: entry.stat().st_size for entry in os.scandir(path) if NAME.fullmatch(entry.name)}
        found.append(Vault(path, about, sizes, on_disk=True))
    return found
