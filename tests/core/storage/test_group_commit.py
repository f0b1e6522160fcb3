"""The writing thread: durable before it is acknowledged, shared by those who wait, and safe from each other's mistakes."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from fluvial.errors import StorageError
from fluvial.particle import ParticleKey
from fluvial.prepared import Statement
from fluvial.storage import JournalEntry, SharedDatabase, Store, open_store, writer
from fluvial.storage.backend import READERS_MAX
from fluvial.storage.condition import Condition
from fluvial.storage.database import open_database
from fluvial.storage.direct import DIRECT_BYTES_MAX, DirectWrite
from fluvial.storage.particle_tables import scripts
from fluvial.storage.writer import GROUP_MAX, WAITING_MAX
from fluvial.telemetry import make_logger
from sqlalchemy import Connection, Engine, event, func, insert, select, text

from tests.core.storage.samples import NOW_MS, make_particle, peer
from tests.support.postgres import PostgresServer


def adding(connection: Connection, number: int) -> int:
    connection.execute(insert(scripts), {"hash": number.to_bytes(32, "big"), "text": b""})
    return number


def rows(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(scripts)).scalar_one()


async def add_row(database: SharedDatabase, number: int) -> int:
    return await database.write(lambda connection: adding(connection, number))


@asynccontextmanager
async def busy(database: SharedDatabase) -> AsyncIterator[None]:
    """Keep the writing thread occupied during the block, so that writes made in it wait and form one group."""
    started, go_on = threading.Event(), threading.Event()

    def occupy(_: Connection) -> None:
        started.set()
        assert go_on.wait(10)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.write, occupy)
        await to_thread.run_sync(started.wait, 10)
        try:
            yield
            await anyio.wait_all_tasks_blocked()
        finally:
            go_on.set()


@contextmanager
def counted_commits() -> Iterator[list[Connection]]:
    commits: list[Connection] = []
    count = commits.append
    event.listen(Engine, "commit", count)
    try:
        yield commits
    finally:
        event.remove(Engine, "commit", count)


async def test_writes_that_wait_share_one_commit(store: Store) -> None:
    results: list[int] = []

    async def write(number: int) -> None:
        results.append(await add_row(store.database, number))

    with counted_commits() as commits:
        async with anyio.create_task_group() as tasks, busy(store.database):
            for number in range(50):
                tasks.start_soon(write, number)
            await anyio.wait_all_tasks_blocked()
    assert results == list(range(50)), "acknowledged in the order of arrival"
    assert len(commits) == 2, "one for the write that kept the thread busy, one for all others"
    assert await store.database.read(rows) == 50


def script(number: int) -> DirectWrite[None]:
    row = {"hash": number.to_bytes(32, "big"), "text": b"", "initiator": b""}
    return DirectWrite([(Statement(insert(scripts), columns=scripts.c.keys()), row)], lambda _: None)


async def test_what_nobody_waits_for_goes_along_with_the_next_write(store: Store) -> None:
    for number in range(3):
        store.database.defer(script(number))
    with counted_commits() as commits:
        assert await add_row(store.database, 3) == 3
    assert len(commits) == 1
    assert await store.database.read(rows) == 4


async def test_what_nobody_waits_for_is_read_and_is_there_after_the_end(url: str, tmp_path: Path) -> None:
    async with open_store(url, base_dir=tmp_path) as store:
        store.database.defer(script(0))
        assert await store.database.read(rows) == 1
        store.database.defer(script(1))
    async with open_store(url, base_dir=tmp_path, read_only=True) as store:
        assert await store.database.read(rows) == 2


async def test_what_nobody_waits_for_waits_only_for_a_moment(url: str, tmp_path: Path) -> None:
    async with (
        open_store(url, base_dir=tmp_path) as store,
        open_store(url, base_dir=tmp_path, read_only=True) as other,
    ):
        store.database.defer(script(0))
        with anyio.fail_after(30):
            while await other.database.read(rows) == 0:  # noqa: ASYNC110 - it is another database
                await anyio.sleep(0.01)


async def test_a_failure_of_what_nobody_waits_for_is_told_and_harms_no_other(tmp_path: Path) -> None:
    out = io.StringIO()
    condition = Condition(make_logger(log_format="json", log_level="info", file=out))
    opening = open_database("sqlite:///fluvial.db", base_dir=tmp_path, condition=condition)
    async with opening as database:
        for number in (0, 0, 1):
            database.defer(script(number))
        assert await add_row(database, 2) == 2
        assert await database.read(rows) == 3
    (line,) = out.getvalue().splitlines()
    assert json.loads(line)["event"] == "storage_failed"
    assert condition.failure is None, "it is about that write alone"


async def test_a_write_is_visible_to_others_when_it_returns(url: str, tmp_path: Path) -> None:
    async with (
        open_store(url, base_dir=tmp_path) as store,
        open_store(url, base_dir=tmp_path, read_only=True) as other,
    ):
        for number in range(5):
            await add_row(store.database, number)
            assert await other.database.read(rows) == await store.database.read(rows) == number + 1


async def test_a_refused_write_takes_no_other_with_it(store: Store) -> None:
    outcomes: dict[int, Exception | None] = {}

    async def write(number: int) -> None:
        outcomes[number] = None
        try:
            if number == 3:
                await store.database.write(lambda connection: adding(connection, 1000) // 0)
            else:
                await add_row(store.database, 5 if number == 7 else number)
        except (ZeroDivisionError, StorageError) as error:
            outcomes[number] = error

    async with anyio.create_task_group() as tasks, busy(store.database):
        for number in range(10):
            tasks.start_soon(write, number)
        await anyio.wait_all_tasks_blocked()
    assert isinstance(outcomes.pop(3), ZeroDivisionError)
    assert isinstance(outcomes.pop(7), StorageError), "the row of number 5 again"
    assert set(outcomes.values()) == {None}
    assert await store.database.read(rows) == 8


async def test_journals_stay_without_gaps_when_writers_compete(store: Store) -> None:
    particles = [make_particle(f"p{number}") for number in range(4)]
    for particle in particles:
        await store.particles.admit(particle, sender=peer(2), hops=1, now_ms=NOW_MS)
    accepted: dict[tuple[ParticleKey, int], bytes] = {}

    async def compete(key: ParticleKey, writer: int) -> None:
        for seq in range(15):
            entry = JournalEntry(seq, NOW_MS, "batch", bytes([writer]))
            try:
                await store.particles.record(key, now_ms=NOW_MS, entries=[entry])
            except StorageError:
                continue
            assert (key, seq) not in accepted, "two writers were given the same number"
            accepted[key, seq] = entry.payload

    async with anyio.create_task_group() as tasks:
        for particle in particles:
            for writer in range(3):
                tasks.start_soon(compete, particle.key, writer)
    for particle in particles:
        stored = await store.particles.load(particle.key)
        assert stored is not None
        assert [entry.seq for entry in stored.journal] == list(range(15))
        assert all(accepted[particle.key, entry.seq] == entry.payload for entry in stored.journal)


async def test_more_writes_than_may_wait_are_all_done(store: Store) -> None:
    async def write(number: int) -> None:
        await store.database.write(lambda connection: done.append(number))

    done: list[int] = []
    total = WAITING_MAX + GROUP_MAX + 1
    async with anyio.create_task_group() as tasks:
        for number in range(total):
            tasks.start_soon(write, number)
    assert sorted(done) == list(range(total))


async def test_small_large_and_plain_writes_share_a_group(store: Store) -> None:
    sizes = [1, 2 * DIRECT_BYTES_MAX, 2, 3 * DIRECT_BYTES_MAX, 3]
    particles = [make_particle(f"p{number}") for number in range(len(sizes))]

    async def admit(number: int) -> None:
        entry = JournalEntry(0, NOW_MS, "batch", bytes(sizes[number]))
        await store.particles.admit(particles[number], sender=peer(2), hops=1, now_ms=NOW_MS, entries=[entry])

    async with anyio.create_task_group() as tasks, busy(store.database):
        for number in range(len(sizes)):
            tasks.start_soon(admit, number)
            tasks.start_soon(add_row, store.database, number)
        await anyio.wait_all_tasks_blocked()
    for number, particle in enumerate(particles):
        stored = await store.particles.load(particle.key)
        assert stored is not None
        assert [len(entry.payload) for entry in stored.journal] == [sizes[number]]
    assert await store.database.read(rows) == len(sizes) + 1, "one for each, and the particles' script"


async def test_a_refused_write_takes_none_of_another_kind_with_it(store: Store) -> None:
    particle = make_particle("p")
    await store.particles.admit(particle, sender=peer(2), hops=1, now_ms=NOW_MS)
    refused: list[int] = []

    async def record(seq: int) -> None:
        try:
            entry = JournalEntry(seq, NOW_MS, "batch", b"x")
            await store.particles.record(particle.key, now_ms=NOW_MS, entries=[entry])
        except StorageError:
            refused.append(seq)

    async with anyio.create_task_group() as tasks, busy(store.database):
        for number, seq in enumerate([0, 1, 7, 2]):
            tasks.start_soon(record, seq)
            tasks.start_soon(add_row, store.database, number)
        await anyio.wait_all_tasks_blocked()
    stored = await store.particles.load(particle.key)
    assert refused == [7]
    assert stored is not None
    assert [entry.seq for entry in stored.journal] == [0, 1, 2]
    assert await store.database.read(rows) == 5, "one for each, and the particle's script"


async def test_a_write_that_takes_too_long_is_given_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "WRITE_DEADLINE_S", 0.1)
    go_on = threading.Event()
    given_up: list[str] = []

    async def write(work: Callable[[Connection], object]) -> None:
        try:
            await store.database.write(work)
        except StorageError as error:
            given_up.append(error.message)
        if len(given_up) == 2:
            go_on.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write, lambda _: go_on.wait(10))
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(write, lambda connection: adding(connection, 1))
    assert all("a write took longer than 0.1 s" in message for message in given_up)
    monkeypatch.undo()
    assert await add_row(store.database, 2) == 2


async def test_a_cancelled_write_does_not_disturb_the_next(store: Store) -> None:
    async with anyio.create_task_group() as outer, busy(store.database):
        for number in range(5):
            outer.start_soon(add_row, store.database, number)
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0):
            await add_row(store.database, 5)
    assert await add_row(store.database, 6) == 6
    assert await store.database.read(rows) in (6, 7), "a cancelled write may happen or not"


async def test_closing_commits_what_waits(url: str, tmp_path: Path) -> None:
    async with anyio.create_task_group() as tasks, open_store(url, base_dir=tmp_path) as store:
        for number in range(20):
            tasks.start_soon(add_row, store.database, number)
        await anyio.lowlevel.checkpoint()
    with pytest.raises(StorageError, match="the store is closed"):
        await add_row(store.database, 99)
    async with open_store(url, base_dir=tmp_path) as store:
        assert await store.database.read(rows) == 20


async def test_reads_run_side_by_side_each_in_its_snapshot_while_writes_go_on(url: str, tmp_path: Path) -> None:
    async with open_store(url, base_dir=tmp_path) as store:
        together, written = threading.Barrier(READERS_MAX + 1, timeout=10), threading.Event()
        seen: list[tuple[int, int]] = []

        def read_twice(connection: Connection) -> None:
            before = rows(connection)
            together.wait()
            assert written.wait(10)
            seen.append((before, rows(connection)))

        async with anyio.create_task_group() as tasks:
            for _ in range(READERS_MAX):
                tasks.start_soon(store.database.read, read_twice)
            await to_thread.run_sync(together.wait)
            await add_row(store.database, 1)
            written.set()
        assert seen == [(0, 0)] * READERS_MAX
        assert await store.database.read(rows) == 1


async def test_a_read_cannot_write(url: str, tmp_path: Path) -> None:
    async with open_store(url, base_dir=tmp_path) as store:
        with pytest.raises(StorageError, match=r"(?i)read-?only"):
            await store.database.read(lambda connection: adding(connection, 1))
        assert await store.database.read(rows) == 0


async def test_a_full_disk_is_reported_and_survived(tmp_path: Path) -> None:
    async with open_store("sqlite:///peer.db", base_dir=tmp_path) as store:
        big = insert(scripts).values(hash=b"1", text=bytes(500_000))
        await store.database.write(lambda connection: connection.execute(text("PRAGMA max_page_count = 60")))
        with pytest.raises(StorageError, match=r"peer\.db: database or disk is full") as raised:
            await store.database.write(lambda connection: connection.execute(big))
        assert raised.value.hint == "free some space on the disk"
        assert await add_row(store.database, 1) == 1


async def test_a_lost_server_connection_fails_the_write_and_is_made_anew(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    with postgres_server.database() as url:
        async with open_store(url, base_dir=tmp_path) as store:
            end = text("SELECT pg_terminate_backend(pg_backend_pid())")
            with pytest.raises(StorageError, match="terminating connection due to administrator command") as raised:
                await store.database.write(lambda connection: (adding(connection, 1), connection.execute(end)))
            assert raised.value.hint
            assert await add_row(store.database, 2) == 2
            assert await store.database.read(rows) == 1
            with pytest.raises(StorageError, match="another process writes to it"):
                async with open_store(url, base_dir=tmp_path, busy_timeout_s=0.05):
                    pass
