"""The kits of the seat and of tables, for our own authorization."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fluvial.tables import Tables
from fluvial.testing.authorization import AuthorizationConformance
from fluvial.testing.tables import TablesConformance
from fluvial_trust_graph.authorization import TrustGraphAuthorization
from fluvial_trust_graph.options import TrustGraphOptions
from fluvial_trust_graph.storage.definitions import metadata
from fluvial_trust_graph.tables import TABLES

from tests.support.postgres import PostgresServer


class TestTrustGraph(AuthorizationConformance):
    tables = TABLES

    @pytest.fixture
    def build(self) -> Any:
        return lambda context: TrustGraphAuthorization(context, TrustGraphOptions())


class TestTrustTables(TablesConformance):
    @pytest.fixture
    def tables(self) -> Tables:
        return TABLES

    @pytest.fixture
    def metadata(self) -> Any:
        return metadata

    @pytest.fixture
    def postgresql_url(self, postgres_server: PostgresServer) -> Iterator[str]:
        with postgres_server.database() as url:
            yield url
