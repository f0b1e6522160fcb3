"""The database of one part: what it may cost the others, and what its mistakes cost itself."""

from __future__ import annotations

import asyncio
import io
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest
from fluvial.errors import StorageError
from fluvial.storage import Store, open_store
from fluvial.storage.particle_tables import scripts
from fluvial.storage.parts import WORK_BUDGET_S
from fluvial.telemetry import make_logger
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, func, insert, select, text


def adding(connection: Connection, number: int) -> None:
    connection.execute(insert(scripts), {"hash": number.to_bytes(32, "big"), "text": b""})


async def count(store: Store) -> int | None:
    return await store.database.read(lambda connection: connection.scalar(select(func.count()).select_from(scripts)))


def raising(error: BaseException) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        adding(connection, 99)
        raise error

    return work


def executing(statement: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        adding(connection, 99)
        connection.execute(text(statement))

    return work


def ending(how: str) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        adding(connection, 99)
        getattr(connection, how)()

    return work


BAD_WORK: list[tuple[Callable[[Connection], None], type[Exception], str]] = [
    (raising(KeyError("mine")), KeyError, "mine"),
    (raising(SystemExit(3)), StorageError, "the work raised SystemExit"),
    (raising(KeyboardInterrupt()), StorageError, "the work raised KeyboardInterrupt"),
    (raising(GeneratorExit()), StorageError, "the work raised GeneratorExit"),
    (raising(asyncio.CancelledError()), StorageError, "the work raised CancelledError"),
    (raising(BaseExceptionGroup("several", [SystemExit(1)])), StorageError, "the work raised BaseExceptionGroup"),
    (executing("SELECT a FROM nowhere"), StorageError, "nowhere"),
    (executing("this is no SQL"), StorageError, "syntax error"),
    (ending("commit"), StorageError, "the transaction was to be ended"),
    (ending("rollback"), StorageError, "the transaction was to be ended"),
    (ending("close"), StorageError, "closed|the transaction was to be ended"),
]


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(("work", "kind", "words"), BAD_WORK)
async def test_what_comes_out_of_bad_work_costs_that_write_only(
    url: str, tmp_path: Path, inline: bool, work: Callable[[Connection], None], kind: type[Exception], words: str
) -> None:
    async with open_store(url, base_dir=tmp_path, inline=inline) as store:
        database = store.part("bad")

        async def fail() -> None:
            with pytest.raises(kind, match=words):
                await database.write(work)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(database.write, lambda connection: adding(connection, 1))
            tasks.start_soon(fail)
            tasks.start_soon(database.write, lambda connection: adding(connection, 2))
        await database.write(lambda connection: adding(connection, 3))
        assert await count(store) == 3


@pytest.mark.parametrize("inline", [False, True])
async def test_a_read_that_raises_costs_that_read_only(url: str, tmp_path: Path, inline: bool) -> None:
    def leave(_: Connection) -> None:
        raise SystemExit(1)

    async with open_store(url, base_dir=tmp_path, inline=inline) as store:
        with pytest.raises(StorageError, match="the work raised SystemExit"):
            await store.part("bad").read(leave)
        assert await count(store) == 0


async def test_a_part_that_holds_up_the_others_is_named(tmp_path: Path) -> None:
    out, metrics = io.StringIO(), CollectorRegistry()
    log = make_logger(log_format="json", log_level="info", file=out)
    async with open_store("sqlite:///peer.db", base_dir=tmp_path, metrics=metrics, log=log) as store:
        await store.part("quick").write(lambda connection: adding(connection, 1))
        await store.part("slow").write(lambda _: time.sleep(WORK_BUDGET_S * 1.2))
    assert '"event": "database_write_slow"' in out.getvalue()
    assert '"part": "slow"' in out.getvalue()
    assert '"part": "quick"' not in out.getvalue()
    assert metrics.get_sample_value("fluvial_database_slow_writes_total", {"part": "slow"}) == 1


async def test_an_inline_store_works_on_the_loops_thread_in_the_order_of_the_calls(url: str, tmp_path: Path) -> None:
    here = threading.get_ident()
    seen: list[tuple[int, int]] = []

    def work(number: int, connection: Connection) -> None:
        adding(connection, number)
        seen.append((number, threading.get_ident()))

    before = threading.active_count()
    async with open_store(url, base_dir=tmp_path, inline=True) as store:
        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(store.database.write, partial(work, number))
        assert await count(store) == 10
        assert threading.active_count() <= before
    assert seen == [(number, here) for number in range(10)]
    with pytest.raises(StorageError, match="the store is closed"):
        await store.database.write(partial(work, 11))
