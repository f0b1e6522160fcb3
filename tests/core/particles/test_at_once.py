"""Calls that inline functions answer, and what follows from them, are written in one transaction, and before anything leaves the peer."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from fluvial.effectors import Call, Effector, NoConfig, function
from fluvial.particles.advance import AT_ONCE_BYTES, AT_ONCE_MAX
from fluvial.services.dispatcher import Services

from tests.support.nodes import peer, until


class Looker(Effector[NoConfig]):
    """Notes how much the database has when it is called."""

    service_id = "looker"

    def __init__(self, database: Path) -> None:
        super().__init__()
        self._database = database
        self.seen: list[int] = []

    def _look(self) -> int:
        with closing(sqlite3.connect(self._database)) as connection:
            (entries,) = connection.execute("SELECT coalesce(sum(entries), -1) FROM particles").fetchone()
        self.seen.append(entries)
        return len(self.seen)

    @function(inline=True)
    def at_once(self) -> int:
        """Entries of the journal so far; -1 without a particle."""
        return self._look()

    @function(inline=True)
    def large(self) -> str:
        """As much as one value may have that is answered at once."""
        self._look()
        return f"{len(self.seen):06}" + "x" * 100_000

    @function
    async def later(self, call: Call) -> int:
        """The same, as a call that takes a place and a task."""
        return self._look()


def calls(at: str, *functions: str) -> str:
    script = "(null)"
    for name in reversed(functions):
        script = f'(seq (call "{at}" ("looker" "{name}") []) {script})'
    return script


async def test_nothing_is_written_between_calls_of_inline_functions(tmp_path: Path) -> None:
    looker = Looker(tmp_path / "a.db")
    async with peer("a", tmp_path, serves=[looker]) as a:
        await a.node.submit(a.node.particle(calls(a.peer_id, *["at_once"] * 3, "later", "at_once"), ttl_ms=60_000))
        await until(lambda: len(looker.seen) == 5)
    first, second, third, fourth, last = looker.seen
    assert (first, second, third) == (-1, -1, -1)
    assert fourth >= 3, "the outcomes of the calls before are there when a function is called that is not inline"
    assert last == fourth, "its own outcome is written with what follows from it"


async def test_what_waits_for_other_calls_is_not_gone_through_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be tens of thousands of them."""
    asked = 0

    def is_inline(self: Services, *call: Any) -> bool:
        nonlocal asked
        asked += 1
        return found(self, *call)

    found = Services.is_inline
    monkeypatch.setattr(Services, "is_inline", is_inline)
    looker = Looker(tmp_path / "a.db")
    async with peer("a", tmp_path, serves=[looker]) as a:
        script = calls(a.peer_id, *["at_once"] * 30)
        for _ in range(100):
            script = f'(par (call "{a.peer_id}" ("looker" "later") []) {script})'
        await a.node.submit(a.node.particle(script, ttl_ms=60_000))
        await until(lambda: len(looker.seen) == 130)
    assert asked < 1_500


async def test_no_service_hears_of_a_flow_that_could_be_lost(tmp_path: Path) -> None:
    """Not even one that begins at once: of a flow of this peer's own, and of another's."""
    looker = Looker(tmp_path / "b.db")
    async with peer("b", tmp_path, serves=[looker]) as b, peer("a", tmp_path, knows=[b]) as a:
        await b.node.submit(b.node.particle(calls(b.peer_id, "later"), ttl_ms=60_000))
        await until(lambda: len(looker.seen) == 1)
        own = looker.seen[0]
        await a.node.submit(a.node.particle(calls(b.peer_id, "later"), ttl_ms=60_000))
        await until(lambda: len(looker.seen) == 2)
    assert own >= 1
    assert looker.seen[1] > own


async def test_steps_that_wait_for_nothing_leave_the_others_their_turns(tmp_path: Path) -> None:
    steps, turns = 30, 0
    looker = Looker(tmp_path / "a.db")
    async with peer("a", tmp_path, serves=[looker]) as a, anyio.create_task_group() as tasks:

        async def count() -> None:
            nonlocal turns
            while True:
                turns += bool(looker.seen)
                await anyio.lowlevel.checkpoint()

        tasks.start_soon(count)
        await a.node.submit(a.node.particle(calls(a.peer_id, *["later"] * steps), ttl_ms=60_000))
        while len(looker.seen) < steps:  # the most eager one of all that wait
            await anyio.lowlevel.checkpoint()
        assert turns >= steps - 1
        tasks.cancel_scope.cancel()
    assert looker.seen == sorted(set(looker.seen)), "each outcome is written before the next step is called"


async def test_a_stranger_cannot_put_off_the_transaction_for_ever(tmp_path: Path) -> None:
    looker = Looker(tmp_path / "b.db")
    async with peer("b", tmp_path, serves=[looker]) as b, peer("a", tmp_path, knows=[b]) as a:
        many = calls(b.peer_id, *["at_once"] * (AT_ONCE_MAX + 2))
        await a.node.submit(a.node.particle(many, ttl_ms=60_000))
        await until(lambda: len(looker.seen) == AT_ONCE_MAX + 2)
    assert set(looker.seen[:AT_ONCE_MAX]) == {-1}
    assert looker.seen[AT_ONCE_MAX] >= AT_ONCE_MAX


async def test_a_flow_that_holds_much_has_as_many_calls_in_one_transaction_as_a_small_one(tmp_path: Path) -> None:
    looker = Looker(tmp_path / "a.db")
    async with peer("a", tmp_path, serves=[looker]) as a:
        many = calls(a.peer_id, *["large"] * (AT_ONCE_BYTES // 50_000), *["at_once"] * AT_ONCE_MAX)
        await a.node.submit(a.node.particle(many, ttl_ms=60_000))
        await until(lambda: len(looker.seen) == AT_ONCE_BYTES // 50_000 + AT_ONCE_MAX)
    written = len(set(looker.seen))
    assert 1 < written <= 6, "a transaction for each megabyte and for each 64 calls, not one for each call"


async def test_whoever_begins_a_flow_and_gives_up_has_begun_it(tmp_path: Path) -> None:
    looker = Looker(tmp_path / "a.db")
    async with peer("a", tmp_path, serves=[looker]) as a:
        particle = a.node.particle(calls(a.peer_id, "at_once", "later"), ttl_ms=60_000)
        with anyio.CancelScope() as gives_up:
            gives_up.cancel()  # where it first waits: for the disk
            await a.node.submit(particle)
        await until(lambda: a.events("particle_finished"))
        assert looker.seen[0] == -1
        assert len(looker.seen) == 2
