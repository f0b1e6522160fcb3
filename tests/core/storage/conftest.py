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


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of each kind that lasts."""
    if request.param == "sqlite":
        yield "sqlite:///peer.db"
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        with server.database() as address:
            yield address


@pytest.fixture
async def store(url: str, tmp_path: Path) -> AsyncIterator[Store]:
    """An open store on each kind of database; in memory it is test_model.py's."""
    async with open_store(url, base_dir=tmp_path) as opened:
        yield opened
