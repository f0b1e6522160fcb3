"""How much a state directory takes, and calls that keep within its quota.

Where a call is made while the directory takes

1. no more than its quota, it has failed if there is more afterwards; it is ended as soon as that is seen;
2. more than that, its guest can write nothing, but it can read files, delete them and make them shorter; a call that makes more of it all the same, by
   empty files and folders, has failed, too;
3. more than that, with files and folders alone and whatever is in them, it is refused: the owner of the peer must delete some.

So calls in a row take no more than the quota, what one call can write between two looks, and :data:`SPARE_BYTES`.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
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
    total, count, pending = 0, 0, [str(folder)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    try:
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                            total += FILE_BYTES
                        else:
                            total += max(entry.stat(follow_symlinks=False).st_size, FILE_BYTES)
                        count += 1
                    except OSError:
                        continue
        except OSError:
            continue
    return FolderUse(total, count)


async def within_quota(folder: Path, bytes_max: int, work: Callable[[bool], Awaitable[T]]) -> T:
    """Do what makes guests run, with an eye on their state directory.

    Args:
        folder: the state directory.
        bytes_max: its quota.
        work: given whether the guest may write; raises GuestError, or another ServiceError if it cannot be done now.

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
                values.append(await work(not is_full))
            except ServiceError as error:
                failures.append(error)
            group.cancel_scope.cancel()
    after = await in_thread(partial(folder_use, folder))
    full = f"{told}: nothing can be written until the service, or the peer's owner in {where}, has deleted files"
    if after.size > most or not (values or failures):
        text = full if is_full else f"its state directory would take more than {bytes_max:,} bytes"
        raise GuestError(FailureKind.QUOTA, text)
    for failure in failures:
        if is_full and isinstance(failure, GuestError):
            raise GuestError(failure.kind, f"{failure.reason}; {full}")
        raise failure
    return values[0]
