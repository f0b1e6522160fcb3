"""When a write is committed on the event loop, and what keeps that from holding it up."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fluvial.storage import JournalEntry, Store, lone_writes, open_store
from fluvial.storage.committer import PAGE_BYTES, SqliteCommitter, Ticket
from fluvial.storage.lone_writes import ALONE, LOOK_EVERY, PAUSE, PAUSE_S_MIN, QUICK_S, SLOW_S, LoneWrites

from tests.core.storage.samples import NOW_MS, make_particle, peer


def alone(took_s: float = QUICK_S / 4, *, groups: int = 50) -> LoneWrites:
    """After some groups of one caller, each of which took so long."""
    lone = LoneWrites()
    for _ in range(groups):
        lone.committed(took_s, 0.0)
        lone.seen(alone=True)
    return lone


def share(lone: LoneWrites, now_s: float = 0.0) -> float:
    """How many of the next writes are committed on the loop."""
    return sum(lone.goes_at_once(now_s) for _ in range(LOOK_EVERY)) / LOOK_EVERY


def test_whoever_is_alone_with_a_quick_disk_is_served_on_the_loop_but_for_looks_at_who_else_comes() -> None:
    assert share(alone()) == 1 - 1 / LOOK_EVERY


def test_nothing_is_on_the_loop_before_it_is_known_who_writes_and_how_quick_the_disk_is() -> None:
    assert share(LoneWrites()) == 0
    assert share(alone(groups=ALONE - 1)) == 0


def test_a_disk_that_is_not_quick_is_waited_for_in_the_thread() -> None:
    assert share(alone(QUICK_S * 1.5)) == 0


def test_several_callers_share_commits_in_the_thread() -> None:
    lone = alone()
    lone.seen(alone=False)
    assert share(lone) == 0
    for _ in range(ALONE):
        lone.seen(alone=True)
    assert share(lone) > 0.9


@pytest.mark.parametrize("took_s", [SLOW_S * 1.01, 0.3, 20.0])
def test_slow_commits_hold_the_loop_for_a_hundredth_of_the_time_at_most(took_s: float) -> None:
    lone = alone()
    lone.committed(took_s, took_s)
    for _ in range(50):  # it is quick again at once
        lone.committed(QUICK_S / 4, took_s)
    pause_s = max(PAUSE * took_s, PAUSE_S_MIN)
    assert share(lone, took_s + 0.99 * pause_s) == 0
    assert share(lone, took_s + 1.01 * pause_s) > 0.9


class Journal:
    """A particle of a store that gets an entry with each write."""

    def __init__(self, store: Store) -> None:
        self._particles = store.particles
        self._key = make_particle("p").key
        self.entries = 0

    async def admit(self) -> None:
        await self._particles.admit(make_particle("p"), sender=peer(2), hops=1, now_ms=NOW_MS)

    async def write(self, times: int = 1) -> None:
        for _ in range(times):
            entry = JournalEntry(self.entries, NOW_MS, "batch", b"x")
            await self._particles.record(self._key, now_ms=NOW_MS, entries=[entry])
            self.entries += 1
            await anyio.lowlevel.checkpoint()

    async def stored(self) -> int:
        stored = await self._particles.load(self._key)
        assert stored is not None
        return len(stored.journal)


@pytest.fixture
def commits(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each commit of SQLite is on the event loop; however slow the disk is, it counts as quick."""
    monkeypatch.setattr(lone_writes, "QUICK_S", 30.0)
    monkeypatch.setattr(lone_writes, "SLOW_S", 60.0)
    commit, here = SqliteCommitter.commit, list[bool]()

    def watched(self: SqliteCommitter, tickets: Sequence[Ticket[Any]]) -> None:
        here.append(threading.current_thread() is threading.main_thread())
        commit(self, tickets)

    monkeypatch.setattr(SqliteCommitter, "commit", watched)
    return here


async def test_the_first_slow_commit_is_the_last_on_the_loop(
    tmp_path: Path, commits: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_store("sqlite:///peer.db", base_dir=tmp_path) as store:
        journal = Journal(store)
        await journal.admit()
        await journal.write(ALONE)
        commits.clear()
        await journal.write(5)
        assert all(commits)
        monkeypatch.setattr(lone_writes, "SLOW_S", 0.0)  # from now on every commit takes longer
        commits.clear()
        await journal.write(5)
        assert commits == [True, False, False, False, False]
        assert await journal.stored() == journal.entries
    async with open_store("sqlite:///peer.db", base_dir=tmp_path, read_only=True) as store:
        assert await Journal(store).stored() == ALONE + 10


async def test_two_writes_in_one_turn_of_the_loop_are_not_alone(tmp_path: Path, commits: list[bool]) -> None:
    async with open_store("sqlite:///peer.db", base_dir=tmp_path) as store:
        journal = Journal(store)
        await journal.admit()
        await journal.write(ALONE)
        commits.clear()
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                particle = make_particle(f"q{number}")
                entry = JournalEntry(0, NOW_MS, "batch", b"x")

                async def admit(particle: Any = particle, entry: JournalEntry = entry) -> None:
                    await store.particles.admit(particle, sender=peer(2), hops=1, now_ms=NOW_MS, entries=[entry])

                tasks.start_soon(admit)
        assert commits == [True, False], "the first is alone when it comes, all others are one group"
        commits.clear()
        await journal.write(ALONE)
        assert not any(commits)


async def test_a_file_that_another_program_has_locked_does_not_hold_up_the_loop(
    tmp_path: Path, commits: list[bool]
) -> None:
    async with open_store("sqlite:///peer.db", base_dir=tmp_path, busy_timeout_s=60) as store:
        journal = Journal(store)
        await journal.admit()
        await journal.write(ALONE + 1)
        assert commits[-1], "it is alone"
        other = sqlite3.connect(tmp_path / "peer.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        before = journal.entries
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(journal.write)
            for _ in range(5):
                await anyio.sleep(0.01)
            assert journal.entries == before, "it waits, and the loop goes on"
            other.rollback()
        other.close()
        assert await journal.stored() == before + 1


async def test_the_log_is_brought_into_the_file_though_all_commits_are_on_the_loop(
    tmp_path: Path, commits: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fluvial.storage.committer.LOG_PAGES", 40)
    monkeypatch.setattr(lone_writes, "LOOK_EVERY", 10**9)
    async with open_store("sqlite:///peer.db", base_dir=tmp_path) as store:
        journal = Journal(store)
        await journal.admit()
        await journal.write(ALONE)
        await journal.write(120)
        assert (tmp_path / "peer.db-wal").stat().st_size < 100 * PAGE_BYTES, "it is written anew from its beginning"
        assert commits.count(False) > ALONE, "by the thread"
        assert commits.count(True) > 60
