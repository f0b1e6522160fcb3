"""Toy plugins for all seats and an extra: each does what its kit asks for, and all together live in two nodes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fluvial.effectors import Call, NoConfig
from fluvial.memory.network import LinkQuality, Memory
from fluvial.ports import Context
from fluvial.tables import Tables
from fluvial.testing.authorization import AuthorizationConformance
from fluvial.testing.execution import ExecutionConformance, call_of
from fluvial.testing.extra import ExtraConformance
from fluvial.testing.nodes import nodes
from fluvial.testing.routing import RoutingConformance
from fluvial.testing.tables import TablesConformance
from fluvial.virtual.loop import BACKEND
from sqlalchemy import MetaData

from tests.docs.pages import ROOT
from tests.support.postgres import PostgresServer
from tests.toys import asking, clockwork, story, uploading, vouching


class TestAsking(RoutingConformance):
    contacts_max = asking.KNOWN_MAX

    @pytest.fixture
    def build(self) -> Callable[[Context], asking.Asking]:
        return lambda context: asking.Asking(context, asking.Options())


class TestVouching(AuthorizationConformance):
    tables = vouching.TABLES

    @pytest.fixture
    def build(self) -> Callable[[Context], vouching.Vouching]:
        return lambda context: vouching.Vouching(context, NoConfig())


class TestVouchingTables(TablesConformance):
    @pytest.fixture
    def tables(self) -> Tables:
        return vouching.TABLES

    @pytest.fixture
    def metadata(self) -> MetaData:
        return vouching.metadata

    @pytest.fixture
    def postgresql_url(self, postgres_server: PostgresServer) -> Iterator[str]:
        with postgres_server.database() as url:
            yield url


class TestUploading(ExecutionConformance):
    @pytest.fixture
    def build(self) -> Callable[[Context], uploading.Uploading]:
        greeting = uploading.Module(say={"greet": "Hello, {}!"}, host={"now": "clock.now"}, policy={"weight": 1})
        return lambda context: uploading.Uploading(context, NoConfig(), greeting=greeting)

    @pytest.fixture
    def works(self) -> Call:
        return call_of("greeting", "greet", ["Ada"])


class TestClockwork(ExtraConformance):
    @pytest.fixture
    def build(self) -> Callable[[Context], clockwork.Clockwork]:
        return lambda context: clockwork.Clockwork(context, clockwork.Options())


async def test_they_live_together_over_tcp(tmp_path: Path) -> None:
    listens = {"transport": {"kind": "tcp", "listen": ["/ip4/127.0.0.1/tcp/0"]}}
    sections = {**story.SECTIONS, "extras": {"clockwork": {"period_s": 0.05}}}
    async with nodes(base_dir=tmp_path, plugins=story.PLUGINS, **sections) as network:
        await story.play(network, **listens)


@pytest.mark.parametrize("anyio_backend", [BACKEND], ids=["virtual"])
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_they_live_together_under_virtual_time(tmp_path: Path, seed: int) -> None:
    memory = Memory(seed, quality=LinkQuality(latency_s=0.02, jitter_s=0.1))
    async with nodes(base_dir=tmp_path, plugins=story.PLUGINS, memory=memory, seed=seed, **story.SECTIONS) as network:
        await story.play(network)


def test_messages_have_the_same_order_in_every_process() -> None:
    """Whatever texts and addresses hash to."""

    def told(hash_seed: str) -> list[str]:
        variables = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
        command: list[Any] = [sys.executable, "-m", "tests.toys.story"]
        done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=100, cwd=ROOT)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    first, second = told("1"), told("4242")
    assert len(first) > 1000
    assert first == second
