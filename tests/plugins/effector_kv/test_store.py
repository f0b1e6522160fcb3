"""The key-value store: what a call sees, what is kept, and its limits; on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from fluvial.effectors import Call, EffectorError
from fluvial.host_interfaces import Guest
from fluvial.ports import Context
from fluvial.tables import Tables
from fluvial.testing.extra import ExtraConformance
from fluvial.testing.solo import Solo, solo
from fluvial.testing.tables import TablesConformance
from fluvial_effector_kv.interface import CHANGES_MAX, KeyValueSession, KeyValueStore
from fluvial_effector_kv.part import KeyValuePart
from fluvial_effector_kv.settings import TABLES, KeyValueOptions, KeyValueSettings
from fluvial_effector_kv.tables import metadata
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import MetaData

from tests.plugins.fce_wasm.deploying import OWNER
from tests.support.postgres import PostgresServer


class TestPart(ExtraConformance):
    tables = TABLES

    @pytest.fixture
    def build(self) -> Callable[[Context], KeyValuePart]:
        options = KeyValueOptions(scripts_of=(str(OWNER),))
        return lambda context: KeyValuePart(context, options)


class TestTables(TablesConformance):
    @pytest.fixture
    def tables(self) -> Tables:
        return TABLES

    @pytest.fixture
    def metadata(self) -> MetaData:
        return metadata

    @pytest.fixture
    def postgresql_url(self, postgres_server: PostgresServer) -> Iterator[str]:
        with postgres_server.database() as url:
            yield url


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Solo[KeyValuePart]]:
    async with solo(KeyValuePart, KeyValueOptions(), tables=TABLES, base_dir=tmp_path) as part:
        yield part


def session(part: Solo[KeyValuePart], store: str = "s", **limits: int) -> KeyValueSession:
    return KeyValueSession(part.around.context.database, store, KeyValueSettings(**limits))


async def test_a_call_sees_its_own_changes_and_keeps_them_at_once(alone: Solo[KeyValuePart]) -> None:
    first = session(alone)
    await first.set("a", "1")
    await first.set("b/x", "2")
    assert (await first.get("a"), await first.keys("", "", 10), await first.used()) == ("1", ["a", "b/x"], 6)
    assert await session(alone).get("a") is None
    await first.keep()
    second = session(alone)
    await second.delete("a")
    assert (await second.get("a"), await second.keys("", "", 10), await second.used()) == (None, ["b/x"], 4)
    assert await session(alone).keys("", "", 10) == ["a", "b/x"]
    await second.keep()
    assert await session(alone).keys("", "", 10) == ["b/x"]
    assert await session(alone, "other").keys("", "", 10) == []


async def test_the_quota_is_of_what_is_there_and_what_is_new(alone: Solo[KeyValuePart]) -> None:
    one = session(alone, bytes_max=20, entries_max=2, key_bytes_max=4, value_bytes_max=15)
    await one.set("a", "x" * 10)
    for key, value in (("b", "x" * 10), ("abcde", ""), ("", ""), ("b", "x" * 16), ("\ud800", "")):
        with pytest.raises(EffectorError):
            await one.set(key, value)
    await one.set("b", "")
    with pytest.raises(EffectorError, match="3 entries"):
        await one.set("c", "")
    await one.keep()
    two = session(alone, bytes_max=20)
    with pytest.raises(EffectorError, match="quota is 20"):
        await two.set("b", "x" * 12)
    await two.delete("a")
    await two.set("b", "x" * 12)
    await two.keep()
    assert await session(alone).used() == 13


async def test_one_call_changes_so_many_keys_and_the_next_one_others(alone: Solo[KeyValuePart]) -> None:
    first = session(alone)
    for number in range(CHANGES_MAX):
        await first.set(f"{number}", "")
    await first.set("0", "again")
    with pytest.raises(EffectorError, match="one call changes at most 2,048 keys"):
        await first.set("one more", "")
    await first.keep()
    await session(alone).set("one more", "")


async def test_a_removed_service_leaves_nothing(alone: Solo[KeyValuePart]) -> None:
    store = KeyValueStore(alone.around.context.database)
    call = Call(particle_id="p", initiator=OWNER, service="s", function="f", arguments=[])
    one = store.session(Guest(service="s", owner=OWNER, call=call), KeyValueSettings())
    await one.functions["set"]("a", "1")
    await one.keep()
    await store.forget("s")
    assert (await session(alone).keys("", "", 10), await session(alone).used()) == ([], 0)


KEYS = st.text(st.sampled_from("ab\0é\U0010ffff/"), min_size=1, max_size=4)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    calls=st.lists(st.lists(st.tuples(KEYS, st.none() | st.text("xy", max_size=3)), max_size=6), max_size=4),
    prefix=st.just("") | KEYS,
    after=st.just("") | KEYS,
    limit=st.integers(0, 5),
)
async def test_it_is_a_dictionary(
    tmp_path: Path, calls: list[list[tuple[str, str | None]]], prefix: str, after: str, limit: int
) -> None:
    model: dict[str, str] = {}
    async with solo(KeyValuePart, KeyValueOptions(), tables=TABLES, base_dir=tmp_path) as part:
        for changes in calls:
            one = session(part)
            for key, value in changes:
                if value is None:
                    await one.delete(key)
                    model.pop(key, None)
                else:
                    await one.set(key, value)
                    model[key] = value
            for view in (one, session(part)):
                expected = sorted(
                    (k for k in model if k.startswith(prefix) and k.encode() > after.encode()), key=str.encode
                )
                assert await view.keys(prefix, after, limit) == expected[:limit]
                assert await view.used() == sum(len(k.encode()) + len(v) for k, v in model.items())
                assert [await view.get(key) for key in model] == list(model.values())
                await one.keep()
