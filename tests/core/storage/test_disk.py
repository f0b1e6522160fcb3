"""What the store takes on the disk: a running account that agrees with the database, and what is left of particles that have ended."""

from __future__ import annotations

import random
import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from fluvial.particle import Particle, ParticleKey
from fluvial.prepared import Prepared
from fluvial.storage import JournalEntry, ParticleState, Store, committer, open_store, sql_retention
from fluvial.storage.account import NOBODY, DiskAccount
from fluvial.storage.holdings import LARGE_BYTES
from fluvial.storage.in_memory import InMemoryParticles
from fluvial.storage.removal import contents
from fluvial.storage.retention import FREED_BYTES_MAX
from sqlalchemy import Connection, func, select, text

from tests.core.storage.samples import NOW_MS, TTL_MS, keys, peer
from tests.support.postgres import PostgresServer

SKEW_MS = 1_000


def particle_of(number: int, name: str, *, script: str = "(null)", timestamp_ms: int = NOW_MS) -> Particle:
    return Particle.create(
        keys(number),
        script,
        particle_id=name,
        timestamp_ms=timestamp_ms,
        ttl_ms=TTL_MS,
        max_hops=20,
        network="test",
    )


async def keep(
    store: Store, particle: Particle, *sizes: int, finished: bool = False, peers: tuple[int, ...] = ()
) -> ParticleKey:
    """Admit a particle with journal entries of these sizes."""
    entries = [
        JournalEntry(seq, NOW_MS, "stepped", random.Random(seq).randbytes(size)) for seq, size in enumerate(sizes)
    ]
    await store.particles.admit(
        particle, sender=peer(2), hops=1, now_ms=NOW_MS, entries=entries, peers=map(peer, peers), finished=finished
    )
    return particle.key


def taken(folder: Path) -> int:
    """Bytes of a database's files."""
    return sum(path.stat().st_size for path in folder.iterdir())


async def counted(store: Store) -> dict[bytes, int]:
    """What the database says that everybody has."""
    found: dict[bytes, int] = {}
    for initiator, size in await store.database.read(Prepared(contents)):
        found[initiator] = found.get(initiator, 0) + size
    return {initiator: size for initiator, size in found.items() if size}


async def agrees(store: Store, *numbers: int) -> None:
    account, found = store.particles.account, await counted(store)
    assert account.total == sum(found.values())
    for number in numbers:
        key = keys(number).public_key
        assert account.of(key) == found.get(key, 0)


async def test_the_account_agrees_with_the_database_whatever_happens(store: Store) -> None:
    rng = random.Random(1)
    alive: list[ParticleKey] = []
    for number in range(60):
        owner, script = rng.randint(1, 3), f"(shared {rng.randint(0, 5)} {'x' * rng.choice((0, 5_000))})"
        particle = particle_of(owner, f"p{number}", script=script, timestamp_ms=NOW_MS + number * 100)
        sizes = [rng.choice((1, 300, 2_000, 50_000)) for _ in range(rng.randint(0, 3))]
        alive.append(await keep(store, particle, *sizes, finished=rng.random() < 0.4))
        if sizes and rng.random() < 0.5:
            entry = JournalEntry(len(sizes), NOW_MS, "stepped", bytes(rng.randint(0, 9_000)))
            await store.particles.record(particle.key, now_ms=NOW_MS, entries=[entry], peers=[peer(9)])
            await store.particles.admit(particle, sender=peer(2), hops=1, now_ms=NOW_MS)
        if number % 10 == 9:
            now_ms = NOW_MS + rng.randint(0, 3 * TTL_MS)
            retention = store.particles.retention
            await retention.shrink(rng.choice(alive), b"story", now_ms, skew_ms=SKEW_MS)
            await retention.make_room(now_ms, skew_ms=SKEW_MS, limit=rng.randint(1, 4))
            await retention.forget(now_ms, keep_ms=0, skew_ms=SKEW_MS, limit=3)
        await agrees(store, 1, 2, 3)


async def test_the_account_is_filled_at_the_start(url: str, tmp_path: Path) -> None:
    async with open_store(url, base_dir=tmp_path) as store:
        await keep(store, particle_of(1, "a", script="(long)" * 100), 300, 5_000)
        await keep(store, particle_of(2, "b"), 50_000, finished=True)
        gone = await keep(store, particle_of(3, "c", timestamp_ms=NOW_MS - 10), finished=True)
        await store.particles.retention.make_room(NOW_MS, skew_ms=SKEW_MS, limit=1)
        before = await counted(store)
    async with open_store(url, base_dir=tmp_path) as store:
        await store.particles.remember(NOW_MS, skew_ms=SKEW_MS)
        await agrees(store, 1, 2, 3)
        assert await counted(store) == before
        assert store.particles.retention.to_shrink(NOW_MS, 10, keys(9).public_key) == [particle_of(2, "b").key]
        assert await store.particles.is_spent(gone)
        assert store.particles.knows(particle_of(3, "c", timestamp_ms=NOW_MS - 10))


async def test_a_script_is_kept_once_and_counts_for_whoever_brought_it_first(store: Store) -> None:
    script = f"({'x' * 100_000})"
    await keep(store, particle_of(1, "a", script=script, timestamp_ms=NOW_MS - 10), finished=True)
    first = store.particles.account.of(keys(1).public_key)
    await keep(store, particle_of(2, "b", script=script))
    assert first > 100_000
    assert 0 < store.particles.account.of(keys(2).public_key) < 10_000
    await store.particles.retention.make_room(NOW_MS + TTL_MS, skew_ms=SKEW_MS, limit=1)
    assert await store.particles.load(particle_of(2, "b", script=script).key) is not None
    assert store.particles.account.of(keys(1).public_key) > 100_000, "it is still here"


async def test_what_an_earlier_version_kept_is_counted_and_is_nobodys(url: str, tmp_path: Path) -> None:
    async with open_store(url, base_dir=tmp_path) as store:
        key = await keep(store, particle_of(1, "a"), 300, 5_000)
        await store.database.write(_as_before)
    async with open_store(url, base_dir=tmp_path) as store:
        await store.particles.remember(NOW_MS, skew_ms=SKEW_MS)
        await agrees(store, 1)
        assert 5_300 < store.particles.account.of(NOBODY) < 20_000
        await store.particles.record(key, now_ms=NOW_MS, entries=[JournalEntry(2, NOW_MS, "stepped", b"")])
        await agrees(store, 1)
        assert (await store.particles.retention.forget(NOW_MS + 2 * TTL_MS, keep_ms=0, skew_ms=0)).count == 1
        assert store.particles.account.total == 0


def _as_before(connection: Connection) -> None:
    """Bring the database back to the revision before there was an account."""
    for statement in (
        "DROP TABLE ways",
        "DROP TABLE stories",
        "DROP TABLE replay_guards",
        "ALTER TABLE particles DROP COLUMN bytes",
        "ALTER TABLE particles DROP COLUMN initiator",
        "ALTER TABLE scripts DROP COLUMN initiator",
        "UPDATE fluvial_version SET version_num = '0002'",
    ):
        connection.execute(text(statement))


# --- room ---------------------------------------------------------------------------------------------------------------


async def test_room_is_made_of_what_has_ended_the_oldest_first(store: Store) -> None:
    names = ("old", "finished", "live", "late", "waits")
    held = {
        name: await keep(
            store,
            particle_of(1, name, timestamp_ms=NOW_MS - (2 * TTL_MS if name == "old" else TTL_MS // 2 - at)),
            100,
            finished=name in ("finished", "late", "waits"),
            peers=(5,) if name == "waits" else (),
        )
        for at, name in enumerate(names)
    }
    gone = []
    while (removed := await store.particles.retention.make_room(NOW_MS, skew_ms=SKEW_MS, limit=1)).count:
        gone += [name for name, key in held.items() if key in removed.keys]
    assert gone == ["old", "finished", "late"], "what lives, and what must still be delivered, stays"
    assert not await store.particles.is_spent(held["old"]), "its age is enough to refuse it"
    assert await store.particles.is_spent(held["finished"])
    assert await store.particles.load(held["finished"]) is None
    assert await store.particles.status(held["live"]) is ParticleState.LIVE


async def test_a_guard_goes_when_the_age_of_its_particle_is_enough(store: Store) -> None:
    key = await keep(store, particle_of(1, "a"), finished=True)
    retention = store.particles.retention
    await retention.make_room(NOW_MS, skew_ms=SKEW_MS)
    await retention.forget(NOW_MS + TTL_MS + SKEW_MS, keep_ms=0, skew_ms=SKEW_MS)
    assert await store.particles.is_spent(key)
    await retention.forget(NOW_MS + TTL_MS + SKEW_MS + 1, keep_ms=0, skew_ms=SKEW_MS)
    assert not await store.particles.is_spent(key)
    assert store.particles.account.total == 0


async def test_one_transaction_frees_no_more_than_it_should(store: Store) -> None:
    size = FREED_BYTES_MAX // 3
    for number in range(6):
        script = f"({number}{'x' * size})" if number % 2 else "(null)"
        sizes = () if number % 2 else (size,)
        await keep(
            store, particle_of(1, f"p{number}", script=script, timestamp_ms=NOW_MS - number), *sizes, finished=True
        )
    removed = await store.particles.retention.make_room(NOW_MS, skew_ms=SKEW_MS)
    assert 1 < removed.count < 6
    assert size < removed.freed < FREED_BYTES_MAX + 2 * size


# --- stories ------------------------------------------------------------------------------------------------------------


async def test_a_large_particle_that_has_ended_is_only_its_story(store: Store) -> None:
    particle = particle_of(1, "large", script="(long)" * 1_000)
    key = await keep(store, particle, LARGE_BYTES, 5, finished=True)
    retention, before = store.particles.retention, store.particles.account.total
    assert retention.to_shrink(NOW_MS, 10, keys(9).public_key) == [key]
    assert retention.to_shrink(NOW_MS, 10, keys(1).public_key) == [], (
        "of an own one there may be news until its deadline"
    )
    assert retention.to_shrink(NOW_MS + TTL_MS + 1, 10, keys(1).public_key) == [key]
    assert await retention.shrink(key, b"once upon a time", NOW_MS, skew_ms=SKEW_MS)
    assert await store.particles.story(key) == b"once upon a time"
    assert await store.particles.load(key) is None
    assert await store.particles.is_spent(key)
    assert await store.particles.status(key) is ParticleState.FINISHED
    assert retention.to_shrink(NOW_MS, 10, keys(9).public_key) == []
    assert store.particles.account.total < before // 10
    rows = text(
        "SELECT (SELECT count(*) FROM journal) + (SELECT count(*) FROM scripts) + (SELECT count(*) FROM particles)"
    )
    assert await store.database.read(lambda connection: connection.scalar(rows)) == 0


async def test_a_particle_that_lives_again_since_the_clock_was_set_back_is_shrunk_again(store: Store) -> None:
    """Of the two stories the first one stays; a store that refused the second one would have the others wait for it for ever."""
    particle, retention = particle_of(1, "large"), store.particles.retention
    key = await keep(store, particle, LARGE_BYTES, finished=True)
    assert await retention.shrink(key, b"first", NOW_MS, skew_ms=SKEW_MS)
    ahead_ms = NOW_MS + TTL_MS + 2 * SKEW_MS
    await retention.forget(ahead_ms, keep_ms=10 * TTL_MS, skew_ms=SKEW_MS)
    assert not await store.particles.is_spent(key)
    await keep(store, particle, LARGE_BYTES, finished=True)
    assert await retention.shrink(key, b"second", NOW_MS, skew_ms=SKEW_MS)
    assert await store.particles.story(key) == b"first"
    assert await store.particles.load(key) is None
    await agrees(store, 1)


async def test_it_is_found_and_listed_among_the_others(store: Store) -> None:
    for at, name in enumerate(("x1", "x2", "x3", "y")):
        await keep(store, particle_of(1, name, timestamp_ms=NOW_MS + at), LARGE_BYTES, finished=True)
    for name, at in (("x2", 1), ("y", 3)):
        key = particle_of(1, name, timestamp_ms=NOW_MS + at).key
        assert await store.particles.retention.shrink(key, b"s", NOW_MS, skew_ms=SKEW_MS)
    assert {one.id for one in await store.particles.recent()} == {"x1", "x2", "x3", "y"}
    found = {one.id: one for one in await store.particles.find("x")}
    assert found.keys() == {"x1", "x2", "x3"}
    assert (found["x2"].initiator, found["x2"].entries, found["x2"].state) == (peer(1), 1, ParticleState.FINISHED)
    assert len(await store.particles.recent(3)) == 3


@pytest.mark.parametrize(("finished", "peers"), [(False, ()), (True, (5,))])
async def test_what_is_not_over_is_not_shrunk(store: Store, finished: bool, peers: tuple[int, ...]) -> None:
    key = await keep(store, particle_of(1, "a"), LARGE_BYTES, finished=finished, peers=peers)
    retention = store.particles.retention
    assert not await retention.shrink(key, b"s", NOW_MS, skew_ms=SKEW_MS)
    assert await store.particles.load(key) is not None
    assert retention.to_shrink(NOW_MS, 10, keys(9).public_key) == []
    late = NOW_MS + TTL_MS + 1
    assert retention.to_shrink(late, 10, keys(9).public_key) == [key]
    assert await retention.shrink(key, b"s", late, skew_ms=SKEW_MS)


async def test_stories_go_with_their_age_and_when_room_is_needed(store: Store) -> None:
    retention = store.particles.retention
    for name in ("a", "b"):
        key = await keep(store, particle_of(1, name), LARGE_BYTES, finished=True)
        await retention.shrink(key, b"s", NOW_MS, skew_ms=SKEW_MS)
    removed = await retention.make_room(NOW_MS, skew_ms=SKEW_MS, limit=1)
    assert removed.count == 1
    assert len(await store.particles.recent()) == 1
    assert (await retention.forget(NOW_MS + TTL_MS + 5_001, keep_ms=5_000, skew_ms=SKEW_MS)).count == 1
    assert await store.particles.recent() == []
    assert store.particles.account.total == 0


# --- the disk itself ------------------------------------------------------------------------------------------------------


async def test_the_file_never_takes_more_than_the_account_says(tmp_path: Path) -> None:
    rng = random.Random(3)
    log_bytes, most, margin = 256 * 1024, 0, 400_000  # empty tables, a log and one group of writes
    async with open_store("sqlite:///peer.db", base_dir=tmp_path, log_bytes=log_bytes) as store:
        for number in range(400):
            sizes = [rng.choice((10, 700, 1_500, 2_100, 4_000, 30_000)) for _ in range(rng.randint(1, 4))]
            script = f"({number}{'x' * rng.choice((10, 3_000))})"
            await keep(
                store, particle_of(1, f"p{number}", script=script, timestamp_ms=NOW_MS + number), *sizes, finished=True
            )
            if store.particles.account.total > 4_000_000:
                await store.particles.retention.make_room(NOW_MS, skew_ms=SKEW_MS, limit=20)
            most = max(most, store.particles.account.total)
            assert taken(tmp_path) < most + log_bytes + margin
        await store.particles.retention.measure()
        await agrees(store, 1)
    assert most > 3_900_000, "room had to be made"


async def test_a_server_uses_the_place_of_removed_rows_again(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_retention, "VACUUM_BYTES", 1_000_000)
    size = text("SELECT sum(pg_total_relation_size(oid)) FROM pg_class WHERE relname IN ('particles', 'journal')")
    with postgres_server.database() as address:
        async with open_store(address, base_dir=tmp_path) as store:
            for number in range(120):
                await keep(
                    store, particle_of(1, f"p{number}", timestamp_ms=NOW_MS + number), 100_000, 1_000, finished=True
                )
                if store.particles.account.total > 1_000_000:
                    await store.particles.retention.make_room(NOW_MS, skew_ms=SKEW_MS, limit=5)
            on_disk = await store.database.read(lambda connection: connection.scalar(size))
            assert on_disk < 5_000_000, "twelve million were written"


async def test_the_log_is_cut_although_others_read(tmp_path: Path) -> None:
    log_bytes = 200_000
    async with open_store("sqlite:///peer.db", base_dir=tmp_path, log_bytes=log_bytes) as store:
        count = select(func.count()).select_from(text("journal"))
        for number in range(60):
            await keep(store, particle_of(1, f"p{number}"), 30_000)
            await store.database.read(lambda connection: connection.scalar(count))
            assert (tmp_path / "peer.db-wal").stat().st_size < log_bytes + 150_000


async def test_nobody_who_writes_waits_again_and_again_for_a_program_that_reads_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup holds the log for minutes."""
    monkeypatch.setattr(committer, "CUT_MS", 1_000)
    monkeypatch.setattr(committer, "CUT_AGAIN_S", 1_000.0)
    async with open_store("sqlite:///peer.db", base_dir=tmp_path, log_bytes=100_000) as store:
        with closing(sqlite3.connect(tmp_path / "peer.db", isolation_level=None)) as backup:
            backup.execute("BEGIN")
            backup.execute("SELECT * FROM particles").fetchall()
            with anyio.fail_after(40):  # each of them waited
                for number in range(80):
                    await keep(store, particle_of(1, f"p{number}"), 10_000)
        assert (tmp_path / "peer.db-wal").stat().st_size > 500_000


def test_tables_of_plugins_leave_particles_their_room() -> None:
    """A ledger may be larger than all that particles may have."""
    account = DiskAccount()
    account.add(b"a", 10_000)
    account.measured(10**9)
    account.add(b"a", 1_000_000)
    assert account.total < 4_000_000


def test_the_account_follows_a_database_that_takes_more() -> None:
    account = DiskAccount()
    account.add(b"a", 10_000_000)
    account.measured(9_000_000)
    assert account.total == 10_000_000
    account.measured(15_000_000)
    assert account.total == 15_000_000
    account.add(b"a", 2_000_000)
    assert account.total == 18_000_000
    account.reserve(500)
    assert account.total == 18_000_500
    account.reserve(-500)
    assert account.total == 18_000_000
    assert account.of(b"a") == 12_000_000


async def test_in_memory_what_is_removed_is_found_without_a_look_at_all_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that runs for hours has hundreds of thousands."""
    particles, looked_at = InMemoryParticles(), list[ParticleKey]()
    for number in range(300):
        particle = particle_of(1, f"p{number}", timestamp_ms=NOW_MS + number)
        await particles.admit(particle, sender=peer(1), hops=1, now_ms=NOW_MS, finished=True)

    def deadline_ms(particle: Particle) -> int:
        looked_at.append(particle.key)
        return particle.header.timestamp_ms + particle.header.ttl_ms

    monkeypatch.setattr(Particle, "deadline_ms", property(deadline_ms))
    assert (await particles.retention.make_room(NOW_MS, skew_ms=SKEW_MS, limit=5)).count == 5
    removed = await particles.retention.forget(NOW_MS + TTL_MS + 10, keep_ms=0, skew_ms=0, limit=50)
    assert removed.count == 5, "those that died, but for the five that are gone"
    assert len(set(looked_at)) <= 10
