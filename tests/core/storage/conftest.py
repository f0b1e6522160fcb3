"""Real databases for the tests of the storage: SQLite in a file and in memory, and a private PostgreSQL server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from fluvial.storage import Store, open_store

from tests.support.postgres import PostgresServer, server_for_session


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    yield from server_for_session()


def _url(kind: str, request: pytest.FixtureRequest) -> Iterator[str]:
    if kind == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        with server.database() as url:
            yield url
    else:
        yield {"sqlite": "sqlite:///peer.db", "memory": "sqlite://"}[kind]


@pytest.fixture(params=["sqlite", "memory", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of each kind."""
    yield from _url(request.param, request)


@pytest.fixture(params=["sqlite", "postgresql"])
def lasting_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of each kind that can be opened a second time."""
    yield from _url(request.param, request)


@pytest.fixture
async def store(url: str, tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(url, base_dir=tmp_path) as opened:
        yield opened
