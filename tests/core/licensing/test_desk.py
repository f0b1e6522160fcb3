"""What a call costs is durable before it is made, and a call that is not made costs nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
from fluvial.encoding import encode
from fluvial.errors import StorageError
from fluvial.hosting.genesis_file import read_genesis
from fluvial.ledger.licences import sign_voucher
from fluvial.licensing.desk import LicenceDesk
from fluvial.licensing.tables import TABLES
from fluvial.ports import Database
from fluvial.testing.tables import part_database

from tests.core.licensing.test_meter import ID, LICENCE, PROVIDER, USER, call, view
from tests.support.ledgers import write_genesis


class SlowDisk:
    """A database whose writes wait for a test to say how they end."""

    def __init__(self, inner: Database) -> None:
        self.inner = inner
        self.full = False
        self.free = anyio.Event()
        self.free.set()

    async def read(self, work: Any) -> Any:
        return await self.inner.read(work)

    async def write(self, work: Any) -> Any:
        full = self.full
        await self.free.wait()
        if full:
            raise StorageError("the disk is full")
        return await self.inner.write(work)


@asynccontextmanager
async def desk(genesis: Path, disk: SlowDisk) -> AsyncIterator[LicenceDesk]:
    """The desk of a provider on whose ledger there is one licence, of 100 units with 30 settled."""
    ledger: Any = SimpleNamespace(view=lambda: view(LICENCE))
    made = LicenceDesk(PROVIDER, genesis, ledger, disk, prices={}, served=frozenset)
    async with anyio.create_task_group() as group:
        await group.start(lambda *, task_status: made.run(task_status=task_status))
        yield made
        group.cancel_scope.cancel()


def used(made: LicenceDesk) -> list[int]:
    return [one.used for one in made.held() or ()]


async def test_a_call_whose_payment_is_not_written_costs_nothing(tmp_path: Path) -> None:
    write_genesis(tmp_path / "genesis.json", ["ada"])
    chain = read_genesis(tmp_path / "genesis.json").chain
    paying = call(encode(sign_voucher(USER, chain, ID, 60)))
    async with part_database(TABLES) as inner:
        disk = SlowDisk(inner)
        async with desk(tmp_path / "genesis.json", disk) as made:
            disk.full, disk.free = True, anyio.Event()
            async with anyio.create_task_group() as group, anyio.create_task_group() as cancelled:
                decided: list[bool] = []

                async def charge(price: int) -> None:
                    decided.append((await made.charge(paying, price)).allowed)

                group.start_soon(charge, 10)
                await anyio.wait_all_tasks_blocked()
                disk.full = False
                group.start_soon(charge, 7)
                cancelled.start_soon(charge, 5)
                await anyio.wait_all_tasks_blocked()
                assert used(made) == [52]
                cancelled.cancel_scope.cancel()
                disk.free.set()
            assert sorted(decided) == [False, True]
            assert used(made) == [37]
            assert (await made.charge(paying, 23)).allowed
            assert not (await made.charge(paying, 1)).allowed
        async with desk(tmp_path / "genesis.json", disk) as made:
            assert used(made) == [60]
