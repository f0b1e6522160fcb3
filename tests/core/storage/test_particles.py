"""What a particle store keeps, on every kind of database."""

from __future__ import annotations

from pathlib import Path

import pytest
from fluvial.errors import DamagedParticle, ResourceLimit, StorageError
from fluvial.particle import ParticleKey
from fluvial.storage import Admission, JournalEntry, OutboxRow, ParticleState, Store, open_store
from fluvial.storage.entries import ERROR_CHARACTERS_MAX, KIND_CHARACTERS_MAX, PAYLOAD_BYTES_MAX
from fluvial.storage.particle_tables import scripts
from fluvial.stored import HandOver
from sqlalchemy import func, select, text

from tests.core.storage.samples import NOW_MS, TTL_MS, make_particle, peer

MISSING = ParticleKey(b"\7" * 32)


def entry(seq: int, payload: bytes = b"data", kind: str = "batch") -> JournalEntry:
    return JournalEntry(seq, NOW_MS + seq, kind, payload)


async def admit(store: Store, name: str, *, script: str = "(null)", timestamp_ms: int = NOW_MS) -> ParticleKey:
    particle = make_particle(name, script=script, timestamp_ms=timestamp_ms)
    await store.particles.admit(particle, sender=peer(2), hops=3, now_ms=timestamp_ms)
    return particle.key


async def script_count(store: Store) -> int | None:
    return await store.database.read(lambda connection: connection.scalar(select(func.count()).select_from(scripts)))


# --- admission --------------------------------------------------------------------------------------------------------


async def test_an_admitted_particle_comes_back_as_it_was(store: Store) -> None:
    particle = make_particle("id ü 🙂", script="(null) ; ü\0🙂")
    admission = await store.particles.admit(
        particle, sender=peer(2), hops=3, now_ms=NOW_MS, entries=[entry(0), entry(1, b"")], peers=[peer(3), peer(4)]
    )
    stored = await store.particles.load(particle.key)
    assert admission == Admission(is_new=True, version=1)
    assert stored is not None
    assert stored.particle == particle
    assert stored.particle.signed_by_initiator()
    assert (stored.sender, stored.hops, stored.received_at_ms) == (peer(2), 3, NOW_MS)
    assert stored.state is ParticleState.LIVE
    assert stored.journal == (entry(0), entry(1, b""))
    assert {row.peer for row in stored.outbox} == {peer(3), peer(4)}


async def test_a_second_copy_changes_nothing_of_the_first(store: Store) -> None:
    particle = make_particle("a")
    await store.particles.admit(particle, sender=peer(2), hops=3, now_ms=NOW_MS, entries=[entry(0)])
    await store.particles.record(particle.key, now_ms=NOW_MS, finished=True)
    before = await store.particles.load(particle.key)
    again = await store.particles.admit(particle, sender=peer(5), hops=9, now_ms=NOW_MS + 5)
    assert again == Admission(is_new=False, version=2)
    assert await store.particles.load(particle.key) == before


async def test_a_second_copy_may_bring_entries_and_peers(store: Store) -> None:
    particle = make_particle("a")
    await store.particles.admit(particle, sender=peer(2), hops=3, now_ms=NOW_MS, entries=[entry(0)])
    await store.particles.admit(
        particle, sender=peer(5), hops=9, now_ms=NOW_MS, entries=[entry(1)], peers=[peer(3), peer(3)]
    )
    stored = await store.particles.load(particle.key)
    assert stored is not None
    assert stored.journal == (entry(0), entry(1))
    assert [row.peer for row in stored.outbox] == [peer(3)]
    assert stored.sender == peer(2)


async def test_a_refused_admission_leaves_nothing_behind(store: Store) -> None:
    particle = make_particle("a")
    with pytest.raises(StorageError, match="journal entry 1 does not follow: 0 comes next"):
        await store.particles.admit(particle, sender=peer(2), hops=3, now_ms=NOW_MS, entries=[entry(1)])
    assert await store.particles.status(particle.key) is None
    assert await script_count(store) == 0


async def test_what_is_not_here_is_none(store: Store) -> None:
    assert await store.particles.load(MISSING) is None
    assert await store.particles.status(MISSING) is None


async def test_a_number_beyond_64_bits_is_an_error_of_that_particle_only(store: Store) -> None:
    with pytest.raises(StorageError):
        await store.particles.admit(make_particle("a"), sender=peer(2), hops=2**64, now_ms=NOW_MS)
    assert await store.particles.status(await admit(store, "b")) is ParticleState.LIVE


async def test_altered_bytes_in_the_database_are_noticed(store: Store) -> None:
    key = await admit(store, "a")
    await store.database.write(lambda connection: connection.execute(scripts.update().values(text=b"(call)")))
    with pytest.raises(DamagedParticle, match="stored bytes are damaged"):
        await store.particles.load(key)


async def test_a_store_knows_without_a_query_what_was_never_here(url: str, tmp_path: Path) -> None:
    here, expired, new = (
        make_particle("here"),
        make_particle("old", timestamp_ms=NOW_MS - 9 * TTL_MS),
        make_particle("new"),
    )
    async with open_store(url, base_dir=tmp_path) as store:
        assert store.particles.knows(new), "nothing was read yet"
        for particle in (here, expired):
            await store.particles.admit(particle, sender=peer(2), hops=3, now_ms=NOW_MS)
    async with open_store(url, base_dir=tmp_path) as store:
        await store.particles.remember(NOW_MS, skew_ms=TTL_MS)
        assert [store.particles.knows(one) for one in (here, expired, new)] == [True, True, False]
        await store.particles.admit(new, sender=peer(2), hops=3, now_ms=NOW_MS)
        assert store.particles.knows(new)


async def test_what_was_over_is_still_known_when_the_clock_is_set_back(url: str, tmp_path: Path) -> None:
    """A replay of something that lives again by the new time is found in the database: as long as it is kept there."""
    particle, later = make_particle("here"), make_particle("later", timestamp_ms=NOW_MS + 9 * TTL_MS)
    async with open_store(url, base_dir=tmp_path) as store:
        await store.particles.remember(NOW_MS, skew_ms=TTL_MS)
        await store.particles.admit(particle, sender=peer(2), hops=3, now_ms=NOW_MS)
        await store.particles.retention.forget(NOW_MS + 5 * TTL_MS, keep_ms=10 * TTL_MS, skew_ms=TTL_MS)
        assert [store.particles.knows(one) for one in (particle, later)] == [True, False]
        assert await store.particles.status(particle.key) is ParticleState.LIVE
    async with open_store(url, base_dir=tmp_path) as store:
        await store.particles.remember(NOW_MS + 5 * TTL_MS, skew_ms=TTL_MS)
        assert [store.particles.knows(one) for one in (particle, later)] == [True, False]


# --- journal ----------------------------------------------------------------------------------------------------------


async def test_entries_state_and_outbox_are_recorded_together(store: Store) -> None:
    key = await admit(store, "a")
    version = await store.particles.record(
        key, now_ms=NOW_MS + 7, entries=[entry(0), entry(1)], peers=[peer(3)], finished=True
    )
    stored = await store.particles.load(key)
    assert stored is not None
    assert stored.journal == (entry(0), entry(1))
    assert stored.state is await store.particles.status(key) is ParticleState.FINISHED
    assert stored.outbox == (
        OutboxRow(
            key=key,
            peer=peer(3),
            version=version,
            since_ms=NOW_MS + 7,
            attempts=0,
            last_error="",
            deadline_ms=NOW_MS + TTL_MS,
            initiator=stored.particle.initiator,
            sender=peer(2),
        ),
    )


async def test_a_gap_or_a_duplicate_is_refused_whole(store: Store) -> None:
    key = await admit(store, "a")
    await store.particles.record(key, now_ms=NOW_MS, entries=[entry(0), entry(1)])
    before = await store.particles.load(key)
    for seq in (0, 1, 3, 100):
        with pytest.raises(StorageError, match=f"journal entry {seq} does not follow: 2 comes next"):
            await store.particles.record(key, now_ms=NOW_MS, entries=[entry(seq)], peers=[peer(3)], finished=True)
    assert await store.particles.load(key) == before


async def test_entries_of_one_call_must_follow_each_other(store: Store) -> None:
    key = await admit(store, "a")
    with pytest.raises(StorageError, match="journal entry 2 does not follow 0"):
        await store.particles.record(key, now_ms=NOW_MS, entries=[entry(0), entry(2)])


async def test_nothing_is_recorded_about_an_unknown_particle(store: Store) -> None:
    for entries in ([entry(0)], []):
        with pytest.raises(StorageError, match="is not here"):
            await store.particles.record(MISSING, now_ms=NOW_MS, entries=entries, peers=[peer(3)])


async def test_an_entry_beyond_the_limits_is_refused(store: Store) -> None:
    key = await admit(store, "a")
    for bad in (entry(0, bytes(PAYLOAD_BYTES_MAX + 1)), entry(0, kind="k" * (KIND_CHARACTERS_MAX + 1))):
        with pytest.raises(ResourceLimit, match="journal entry 0 is too large"):
            await store.particles.record(key, now_ms=NOW_MS, entries=[bad])


async def test_a_record_without_finished_makes_a_particle_live_again(store: Store) -> None:
    key = await admit(store, "a")
    await store.particles.record(key, now_ms=NOW_MS, finished=True)
    await store.particles.record(key, now_ms=NOW_MS, entries=[entry(0)])
    assert list(await store.particles.live(NOW_MS)) == [key]


# --- outbox -----------------------------------------------------------------------------------------------------------


async def test_a_state_that_stays_is_as_it_was_with_all_else(store: Store) -> None:
    key = await admit(store, "a")
    for seq, finished in enumerate((False, True)):
        await store.particles.record(key, now_ms=NOW_MS, finished=finished)
        version = await store.particles.record(
            key, now_ms=NOW_MS, entries=[entry(seq)], peers=[peer(3)], finished=finished, stays=True
        )
        stored = await store.particles.load(key)
        assert stored is not None
        assert stored.state is (ParticleState.FINISHED if finished else ParticleState.LIVE)
        assert stored.journal == tuple(entry(number) for number in range(seq + 1))
        assert [row.version for row in stored.outbox] == [version]
    with pytest.raises(StorageError, match="journal entry 5 does not follow: 2 comes next"):
        await store.particles.record(key, now_ms=NOW_MS, entries=[entry(5)], finished=True, stays=True)
    with pytest.raises(StorageError, match="is not here"):
        await store.particles.record(MISSING, now_ms=NOW_MS, entries=[entry(0)], stays=True)


async def test_a_delivery_ends_its_row(store: Store) -> None:
    key = await admit(store, "a")
    version = await store.particles.record(key, now_ms=NOW_MS, peers=[peer(3), peer(4)])
    for _ in range(2):  # told twice: nothing waits all the same
        store.particles.delivered(key, peer(3), version)
        assert [row.peer for row in await store.particles.outbox_rows(NOW_MS)] == [peer(4)]


async def test_a_request_during_a_delivery_is_not_lost(store: Store) -> None:
    key = await admit(store, "a")
    first = await store.particles.record(key, now_ms=NOW_MS, peers=[peer(3)])
    store.particles.attempt_failed(key, peer(3), "connection refused")
    second = await store.particles.record(key, now_ms=NOW_MS + 1, peers=[peer(3)])
    store.particles.delivered(key, peer(3), first)
    (row,) = await store.particles.outbox_rows(NOW_MS)
    assert (row.version, row.since_ms, row.attempts, row.last_error) == (second, NOW_MS, 0, "")
    store.particles.delivered(key, peer(3), second)
    assert await store.particles.outbox_rows(NOW_MS) == []


async def test_ways_are_told_in_their_order_and_of_many_the_first(store: Store) -> None:
    key = await admit(store, "a")
    version = await store.particles.record(key, now_ms=NOW_MS, peers=[peer(3), peer(4)])
    ways = [
        HandOver(peer(3), NOW_MS, "known", "/ip4/192.0.2.7/tcp/7771,/ip4/192.0.2.8/tcp/7771"),
        HandOver(peer(4), NOW_MS + 1, "relay", str(peer(5))),
        HandOver(peer(3), NOW_MS + 2, "connection"),
    ]
    for way in ways:
        store.particles.delivered(key, way.peer, version, way)
    assert await store.particles.handed(key) == ways
    for number in range(100):
        store.particles.delivered(key, peer(4), version, HandOver(peer(4), NOW_MS + 3 + number, "connection"))
    told = await store.particles.handed(key)
    assert len(told) < 20
    assert [way.at_ms for way in told] == [NOW_MS + number for number in range(len(told))]
    assert await store.particles.handed(MISSING) == []
    store.particles.delivered(MISSING, peer(3), 1, ways[0])
    assert await store.particles.handed(MISSING) == [], "it has gone meanwhile"


async def test_a_version_is_never_used_again(store: Store) -> None:
    key = await admit(store, "a")
    first = await store.particles.record(key, now_ms=NOW_MS, peers=[peer(3)])
    store.particles.delivered(key, peer(3), first)
    await store.particles.record(key, now_ms=NOW_MS, peers=[peer(3)])
    store.particles.delivered(key, peer(3), first)  # a late report about the first delivery
    assert len(await store.particles.outbox_rows(NOW_MS)) == 1


async def test_failed_attempts_are_counted(store: Store) -> None:
    key = await admit(store, "a")
    await store.particles.record(key, now_ms=NOW_MS, peers=[peer(3)])
    store.particles.attempt_failed(key, peer(3), "first")
    store.particles.attempt_failed(key, peer(3), "bad\0\ud800text" + "x" * 2000)
    store.particles.attempt_failed(key, peer(4), "there is no such row")
    (row,) = await store.particles.outbox_rows(NOW_MS)
    assert row.attempts == 2
    assert row.last_error.startswith("bad\ufffd?text")
    assert len(row.last_error) == ERROR_CHARACTERS_MAX


async def test_outbox_rows_are_those_of_a_peer_if_asked_and_never_expired_ones(store: Store) -> None:
    old = await admit(store, "old", timestamp_ms=NOW_MS - 5_000)
    new = await admit(store, "new")
    await store.particles.record(new, now_ms=NOW_MS, peers=[peer(3), peer(4)])
    await store.particles.record(old, now_ms=NOW_MS - 1, peers=[peer(3)])
    assert [row.key for row in await store.particles.outbox_rows(NOW_MS, peer=peer(3))] == [old, new]
    assert [row.key for row in await store.particles.outbox_rows(NOW_MS, peer=peer(4))] == [new]
    late = NOW_MS + TTL_MS - 5_000
    assert [row.key for row in await store.particles.outbox_rows(late, peer=peer(3))] == [new]


# --- lists ------------------------------------------------------------------------------------------------------------


async def test_live_particles_are_the_unfinished_and_unexpired_oldest_first(store: Store) -> None:
    new, old = await admit(store, "new"), await admit(store, "old", timestamp_ms=NOW_MS - 1)
    expired = await admit(store, "expired", timestamp_ms=NOW_MS - TTL_MS)
    finished = await admit(store, "finished")
    await store.particles.record(finished, now_ms=NOW_MS, finished=True)
    assert list(await store.particles.live(NOW_MS)) == [old, new]
    assert list(await store.particles.live(NOW_MS - 1)) == [expired, old, new]


async def test_find_goes_by_the_beginning_of_the_id(store: Store) -> None:
    names = {"%", "Chat", "chat", "chat-1", "chat\U0010ffff", "chat\0x", "chau"}
    for name in names:
        await admit(store, name)
    expected = {
        "chat": {"chat", "chat-1", "chat\U0010ffff", "chat\0x"},
        "chat-": {"chat-1"},
        "Chat": {"Chat"},
        "%": {"%"},
        "_": set(),
        "chat\0": {"chat\0x"},
        "": names,
    }
    for prefix, found in expected.items():
        assert {summary.id for summary in await store.particles.find(prefix)} == found, prefix


async def test_a_summary_says_what_there_is(store: Store) -> None:
    key = await admit(store, "a")
    await store.particles.record(key, now_ms=NOW_MS, entries=[entry(0), entry(1)], peers=[peer(3)])
    (summary,) = await store.particles.find("a")
    assert (summary.key, summary.id, summary.initiator, summary.sender) == (key, "a", peer(1), peer(2))
    assert (summary.hops, summary.received_at_ms, summary.deadline_ms) == (3, NOW_MS, NOW_MS + TTL_MS)
    assert (summary.state, summary.entries, summary.waiting) == (ParticleState.LIVE, 2, 1)


async def test_recent_lists_the_newest_first_and_no_more_than_asked(store: Store) -> None:
    for number in range(5):
        await admit(store, f"p{number}", timestamp_ms=NOW_MS + number)
    assert [summary.id for summary in await store.particles.recent(3)] == ["p4", "p3", "p2"]


# --- purge ------------------------------------------------------------------------------------------------------------


async def test_purge_waits_for_the_longer_of_keeping_and_clock_skew(store: Store) -> None:
    key = await admit(store, "a")
    await store.particles.record(key, now_ms=NOW_MS, entries=[entry(0)], peers=[peer(3)], finished=True)
    end = NOW_MS + TTL_MS
    assert (await store.particles.retention.forget(end + 500, keep_ms=0, skew_ms=500)).count == 0
    assert (await store.particles.retention.forget(end + 800, keep_ms=800, skew_ms=500)).count == 0
    assert await store.particles.status(key) is ParticleState.FINISHED
    assert (await store.particles.retention.forget(end + 801, keep_ms=800, skew_ms=500)).count == 1
    assert await store.particles.load(key) is None
    assert await store.particles.find("") == []
    count = text("SELECT (SELECT count(*) FROM journal) + (SELECT count(*) FROM outbox)")
    assert await store.database.read(lambda connection: connection.scalar(count)) == 0


async def test_purge_keeps_scripts_that_others_share(store: Store) -> None:
    await admit(store, "old", script="(shared)", timestamp_ms=NOW_MS - 1)
    await admit(store, "old alone", script="(alone)", timestamp_ms=NOW_MS - 1)
    key = await admit(store, "new", script="(shared)")
    assert await script_count(store) == 2
    assert (await store.particles.retention.forget(NOW_MS + TTL_MS, keep_ms=0, skew_ms=0)).count == 2
    assert await script_count(store) == 1
    stored = await store.particles.load(key)
    assert stored is not None
    assert stored.particle.script == "(shared)"


async def test_purge_goes_in_batches_the_longest_expired_first(store: Store) -> None:
    for number in range(5):
        await admit(store, f"p{number}", timestamp_ms=NOW_MS - number)
    late = NOW_MS + 2 * TTL_MS
    assert (await store.particles.retention.forget(late, keep_ms=0, skew_ms=0, limit=2)).count == 2
    assert {summary.id for summary in await store.particles.recent()} == {"p0", "p1", "p2"}
    assert (await store.particles.retention.forget(late, keep_ms=0, skew_ms=0)).count == 3
    assert (await store.particles.retention.forget(late, keep_ms=0, skew_ms=0)).count == 0


async def test_purge_refuses_to_cut_the_replay_guard_short(store: Store) -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        await store.particles.retention.forget(NOW_MS, keep_ms=-1, skew_ms=0)
