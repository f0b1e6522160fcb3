"""How much a state directory takes, and calls that keep within its quota.

Where a call is made while the directory takes

1. no more than its quota, it has failed if there is more afterwards; it is ended as soon as that is seen;
2. more than that, it has failed if there is more than before, and what it has added is taken away again: files and folders that are new, and the ends of
   files that are longer; what it has written over or deleted stays so;
3. more than that, with files and folders alone and whatever is in them, it is refused: the owner of the peer must delete some.

So calls in a row take no more than the quota, what one call can write between two looks, and :data:`SPARE_BYTES`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import anyio
from fluvial.errors import ServiceError
from fluvial.virtual.threads import in_thread

from fluvial_fce_wasm.failures import FailureKind, GuestError

T = TypeVar("T")
FILE_BYTES: Final = 4_096
"""What each file and folder counts at least: they take room, too."""
LOOK_S: Final = 0.1
"""How often the state directory is measured during a call."""
SPARE_BYTES: Final = 16 * 1_048_576
"""So much more than the quota files and folders may count, whatever is in them: more than an honest service makes between two looks."""


class FolderUse(NamedTuple):
    """What a folder takes.

    Attributes:
        size: bytes of all files and folders below it.
        entries: how many these are.
    """

    size: int
    entries: int


def folder_use(folder: Path) -> FolderUse:
    """What is below a folder; links are not followed, and what goes away meanwhile does not count."""
    total = count = 0
    for _, size in _below(folder):
        total += max(size, FILE_BYTES)
        count += 1
    return FolderUse(total, count)


def take_back(folder: Path, before: Mapping[str, int]) -> None:
    """Take away what has come into a folder, of which nothing is used now.

    Args:
        folder: the folder.
        before: the sizes of what was there, by path; of folders 0.
    """
    grown = [(path, size) for path, size in _below(folder) if size > before.get(path, -1)]
    for path, _ in reversed(grown):  # what is in a folder comes after it
        with suppress(OSError):
            if path in before:
                descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW)
                try:
                    os.ftruncate(descriptor, before[path])
                finally:
                    os.close(descriptor)
            elif Path(path).is_dir() and not Path(path).is_symlink():
                os.rmdir(path)
            else:
                os.unlink(path)


def _below(folder: Path) -> Iterator[tuple[str, int]]:
    """Files and folders below a folder, those in a folder after it, with their sizes; that of a folder is 0."""
    pending = [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    try:
                        is_folder = entry.is_dir(follow_symlinks=False)
                        size = 0 if is_folder else entry.stat(follow_symlinks=False).st_size
                    except OSError:
                        continue
                    if is_folder:
                        pending.append(entry.path)
                    yield entry.path, size
        except OSError:
            continue


async def within_quota(folder: Path, bytes_max: int, work: Callable[[], Awaitable[T]]) -> T:
    """Do what makes guests run, with an eye on their state directory.

    Args:
        folder: the state directory.
        bytes_max: its quota.
        work: raises GuestError, or another ServiceError if it cannot be done now.

    Raises:
        GuestError: of the kind ``quota`` as the module's docstring says; or that of ``work``.
    """
    before = await in_thread(partial(folder_use, folder))
    told = f"its state directory takes {before.size:,} bytes, of which it may have {bytes_max:,}"
    where = "/".join(folder.parts[-3:])
    if before.entries * FILE_BYTES > bytes_max + SPARE_BYTES:
        raise GuestError(
            FailureKind.QUOTA,
            f"{told}, in {before.entries:,} files and folders: the peer's owner must delete some in {where}",
        )
    is_full = before.size > bytes_max
    there = dict(await in_thread(lambda: list(_below(folder)))) if is_full else {}
    most = max(bytes_max, before.size)
    values: list[T] = []
    failures: list[ServiceError] = []
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def look() -> None:
                while True:
                    await anyio.sleep(LOOK_S)
                    if (await in_thread(partial(folder_use, folder))).size > most:
                        scope.cancel()

            group.start_soon(look)
            try:
                values.append(await work())
            except ServiceError as error:
                failures.append(error)
            group.cancel_scope.cancel()
    after = await in_thread(partial(folder_use, folder))
    if after.size > most or not (values or failures):
        if not is_full:
            raise GuestError(FailureKind.QUOTA, f"its state directory would take more than {bytes_max:,} bytes")
        await in_thread(partial(take_back, folder, there))
        full = f"{told}: nothing can be added until the service, or the peer's owner in {where}, has deleted files"
        raise GuestError(FailureKind.QUOTA, full)
    for failure in failures:
        raise failure
    return values[0]
