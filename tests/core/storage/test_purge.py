"""The purge under way: paced, faster while it falls behind, and put off by a store that fails."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from fluvial.storage import Store, open_store, purge, removal
from fluvial.storage.kept import PARTICLES
from fluvial.storage.purge import STEP, Purge
from fluvial.telemetry import make_logger
from sqlalchemy import Connection, text

from tests.core.storage.samples import NOW_MS, TTL_MS, make_particle, peer

COUNT = 5 * STEP + 10


async def fill(
    store: Store,
    count: int,
    *,
    finished: bool = False,
    waits: bool = False,
    name: str = "p",
    timestamp_ms: int = NOW_MS,
    each_ms: int = 1,
) -> None:
    peers = [peer(9)] if waits else []
    async with anyio.create_task_group() as tasks:
        for number in range(count):

            async def admit(number: int = number) -> None:
                particle = make_particle(f"{name}{number}", timestamp_ms=timestamp_ms + number * each_ms)
                await store.particles.admit(
                    particle, sender=peer(2), hops=1, now_ms=NOW_MS, peers=peers, finished=finished
                )

            tasks.start_soon(admit)


def purge_of(store: Store, now_ms: int, out: io.StringIO, *, keep_bytes: int = 2**40) -> Purge:
    log = make_logger(log_format="json", log_level="info", file=out)
    retention = store.particles.retention
    return Purge(
        retention, now_ms=lambda: now_ms, keep_ms=0, keep_bytes=keep_bytes, skew_ms=0, gone=lambda _: None, log=log
    )


async def test_a_backlog_goes_in_steps_with_pauses_of_twice_their_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    counts = [COUNT]

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        counts.append(len(await store.particles.recent(COUNT)))
        if seconds == purge.GLANCE_S:
            scope.cancel()
        await anyio.lowlevel.checkpoint()

    await fill(store, COUNT)
    monkeypatch.setattr(purge.anyio, "sleep", sleep)
    with anyio.CancelScope() as scope:
        await purge_of(store, NOW_MS + 9 * TTL_MS, io.StringIO()).run()
    assert counts[-1] == 0
    assert len(pauses) >= 3, "in several steps"
    assert pauses[-1] == purge.GLANCE_S
    assert all(pause > 0 for pause in pauses)


async def test_more_goes_than_comes(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    left, came = [COUNT], 0
    for limit in ("STEP_S", "STEP_S_BEHIND"):
        monkeypatch.setattr(purge, limit, 60.0)

    async def sleep(_: float) -> None:
        nonlocal came
        left.append(len(await store.particles.recent(10 * COUNT)) - came)
        if left[-1] <= 0:
            scope.cancel()
        else:
            await fill(store, STEP, name="new", timestamp_ms=NOW_MS + 9 * TTL_MS + came)
            came += STEP
        await anyio.lowlevel.checkpoint()

    await fill(store, COUNT)
    monkeypatch.setattr(purge.anyio, "sleep", sleep)
    with anyio.CancelScope() as scope:
        await purge_of(store, NOW_MS + 9 * TTL_MS, io.StringIO()).run()
    went = [before - after for before, after in pairwise(left)]
    assert sum(went) == COUNT
    assert sum(went[1:-1]) >= 1.5 * STEP * (len(went) - 2), (
        "after the first step, and before the last, which has less left"
    )


async def test_what_is_not_due_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    await fill(store, 20)

    async def sleep(_: float) -> None:
        scope.cancel()
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(purge.anyio, "sleep", sleep)
    with anyio.CancelScope() as scope:
        await purge_of(store, NOW_MS + TTL_MS + 10, io.StringIO()).run()
    assert len(await store.particles.recent()) == 10


async def test_what_has_ended_goes_while_there_is_more_than_may_be_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, 20, finished=True)
    keep_bytes, rests = store.particles.account.total // 2, 0

    async def sleep(seconds: float) -> None:
        nonlocal rests
        rests += seconds == purge.GLANCE_S
        if rests == 3:
            scope.cancel()
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(purge.anyio, "sleep", sleep)
    monkeypatch.setattr(purge, "STEP", 4)
    monkeypatch.setattr(purge, "STEP_MIN", 4)
    with anyio.CancelScope() as scope:
        await purge_of(store, NOW_MS, io.StringIO(), keep_bytes=keep_bytes).run()
    left = await store.particles.recent()
    assert 4 <= len(left) <= 10, "no more than what was too much, but for the last step, and the guards count"
    assert store.particles.account.total <= keep_bytes
    assert {summary.id for summary in left} == {f"p{19 - number}" for number in range(len(left))}, (
        "the oldest have gone"
    )


async def test_what_waits_is_looked_through_a_little_at_a_time_and_not_again_at_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, 16, finished=True, waits=True, name="waits")
    await fill(store, 3, finished=True, timestamp_ms=NOW_MS + 100)
    monkeypatch.setattr(removal, "LOOKED_AT_MAX", 4)
    pauses: list[float] = []
    rounds: list[int] = []

    async def sleep(seconds: float) -> None:
        if seconds == purge.GLANCE_S:
            rounds.append(len(pauses))
            if len(rounds) == 5:
                scope.cancel()
        else:
            pauses.append(seconds)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(purge.anyio, "sleep", sleep)
    monkeypatch.setattr(purge, "STEP", 4)
    monkeypatch.setattr(purge, "STEP_MIN", 4)
    with anyio.CancelScope() as scope:
        await purge_of(store, NOW_MS, io.StringIO(), keep_bytes=0).run()
    assert {summary.id for summary in await store.particles.recent()} == {f"waits{number}" for number in range(16)}
    assert rounds[0] == 5, (
        "two steps found nothing, one found what has ended, and two nothing again; a pause follows each"
    )
    assert rounds[1] == rounds[0] + 2, "it looked once more"
    assert set(rounds[1:]) == {rounds[1]}, "nothing of it can go, so it is not looked at for a while"


async def test_of_many_that_die_at_one_moment_none_is_left_out(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, waits in (("a", True), ("b", False), ("c", True), ("d", False)):
        await fill(store, 5, finished=True, waits=waits, name=name, each_ms=0)
    monkeypatch.setattr(removal, "LOOKED_AT_MAX", 3)
    counts: list[int] = []
    while True:
        removed = await store.particles.retention.make_room(NOW_MS, skew_ms=0, limit=2)
        counts.append(removed.count)
        if removed.reached is None:
            break
    assert sum(counts) == 10
    assert max(counts) == 2
    assert {summary.id[0] for summary in await store.particles.recent()} == {"a", "c"}


@pytest.mark.parametrize("name", ["dead", "tied", "later"])
async def test_what_may_go_is_found_in_the_order_of_an_index(tmp_path: Path, name: str) -> None:
    statement = PARTICLES[name].text("sqlite")
    given = {"since": NOW_MS, "after": 1, "end": NOW_MS, "most": 10}

    def plan(connection: Connection) -> list[str]:
        return [row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}"), given)]

    async with open_store("sqlite:///peer.db", base_dir=tmp_path) as store:
        steps = await store.database.read(plan)
    assert steps[0].startswith("SEARCH particles USING INDEX ix_particles_deadline_ms")
    assert not [step for step in steps if "TEMP B-TREE" in step]


async def test_a_store_that_fails_puts_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    async with open_store("sqlite:///peer.db", base_dir=tmp_path) as closed:
        pass

    async def sleep(seconds: float) -> None:
        assert seconds == purge.GLANCE_S
        scope.cancel()
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(purge.anyio, "sleep", sleep)
    with anyio.CancelScope() as scope:
        await purge_of(closed, NOW_MS, out).run()
    assert '"event": "storage_failed"' in out.getvalue()
