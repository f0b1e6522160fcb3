"""The conformance kit for ordering services: subclass it, give a fixture that opens services over one log, run pytest.

::

    class TestEtcd(OrderingConformance):
        @pytest.fixture
        def open_service(self, etcd):
            return lambda: EtcdLog(EtcdGateway([etcd.url]), "/conformance/", 10_000)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import pytest

from fluvial.consensus.ordering import ENTRY_BYTES_MAX, OrderedEntry, OrderingService
from fluvial.testing.part import check

WITHIN_S = 20.0


class OrderingConformance:
    """What every ordering service must do. The one fixture to give is ``open_service``; each test needs a log that is empty."""

    @pytest.fixture
    def open_service(self) -> Callable[[], OrderingService]:
        """Opens one more service over the same log."""
        raise NotImplementedError(f"{type(self).__name__} must define the fixture `open_service`")

    async def read(self, service: OrderingService, count: int, *, after: int = 0) -> Sequence[OrderedEntry]:
        """The next entries behind a position."""
        entries: list[OrderedEntry] = []
        with anyio.fail_after(WITHIN_S):
            async for entry in service.follow(after):
                entries.append(entry)
                if len(entries) == count:
                    break
        return entries

    async def test_what_is_submitted_comes_back_in_order(self, open_service: Callable[[], OrderingService]) -> None:
        """To who submitted it, too; positions begin above 0 and grow."""
        service = open_service()
        try:
            for number in range(20):
                await service.submit(b"entry %d" % number)
            entries = await self.read(service, 20)
            check(
                [one.data for one in entries] == [b"entry %d" % number for number in range(20)], "the order is another"
            )
            positions = [0, *(one.position for one in entries)]
            check(positions == sorted(set(positions)), f"positions do not grow: {positions}")
        finally:
            await service.close()

    async def test_everybody_sees_one_order(self, open_service: Callable[[], OrderingService]) -> None:
        """While several write at once, and one follows from the beginning."""
        services = [open_service() for _ in range(3)]
        seen: list[Sequence[OrderedEntry]] = []

        async def write(number: int) -> None:
            for turn in range(10):
                await services[number].submit(b"%d of %d" % (turn, number))

        async def watch() -> None:
            seen.append(await self.read(services[0], 30))

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(watch)
                for number in range(3):
                    tasks.start_soon(write, number)
            for service in services[1:]:
                seen.append(await self.read(service, 30))
            check(seen[0] == seen[1] == seen[2], "two followers have seen different orders")
            wanted = {b"%d of %d" % (turn, number) for turn in range(10) for number in range(3)}
            check({one.data for one in seen[0]} == wanted, "an entry is lost or doubled")
        finally:
            for service in services:
                await service.close()

    async def test_who_was_away_goes_on_where_it_was(self, open_service: Callable[[], OrderingService]) -> None:
        """With the entry behind the position that it names."""
        first = open_service()
        for number in range(6):
            await first.submit(b"%d" % number)
        entries = await self.read(first, 3)
        await first.close()
        again = open_service()
        try:
            rest = await self.read(again, 3, after=entries[-1].position)
            check([one.data for one in rest] == [b"3", b"4", b"5"], "entries are missing or doubled")
            await again.submit(b"6")
            (last,) = await self.read(again, 1, after=rest[-1].position)
            check(last.data == b"6", "what was submitted after a restart is not at the end")
        finally:
            await again.close()

    async def test_large_and_odd_entries(self, open_service: Callable[[], OrderingService]) -> None:
        """Up to ``ENTRY_BYTES_MAX``, with any bytes."""
        service = open_service()
        try:
            entries = [b'\0\xff\n"{', bytes(range(256)) * (ENTRY_BYTES_MAX // 256), b"x"]
            for entry in entries:
                await service.submit(entry)
            found = await self.read(service, 3)
            check([one.data for one in found] == entries, "an entry has come back with other bytes")
        finally:
            await service.close()

    async def test_it_says_what_it_is(self, open_service: Callable[[], OrderingService]) -> None:
        """For people."""
        service = open_service()
        try:
            check(bool(service.describe()), "describe() says nothing")
        finally:
            await service.close()
