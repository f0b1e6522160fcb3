"""Real processes on the loopback; what takes long to start is started once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.support.postgres import PostgresServer, server_for_session
from tests.support.processes import environment


@pytest.fixture(scope="session")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of all processes; compiled modules are shared, also with those that other workers of this run start."""
    return environment(tmp_path_factory.getbasetemp().parent / "compiled")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    yield from server_for_session()


@pytest.fixture(params=["sqlite", "postgresql"])
def storage_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """An empty database of each kind that lasts."""
    if request.param == "sqlite":
        yield "sqlite:///peer.db"
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        with server.database() as address:
            yield address
