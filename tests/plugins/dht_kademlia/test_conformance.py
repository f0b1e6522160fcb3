"""The routing passes the kits that every routing and every set of tables has to pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fluvial.tables import Tables
from fluvial.testing.part import Build
from fluvial.testing.routing import RoutingConformance
from fluvial.testing.tables import TablesConformance
from fluvial_dht_kademlia.plugin import TABLES
from fluvial_dht_kademlia.shell import definitions
from fluvial_dht_kademlia.shell.options import KademliaOptions
from fluvial_dht_kademlia.shell.routing import KademliaRouting
from sqlalchemy import MetaData

from tests.support.postgres import PostgresServer


class TestKademlia(RoutingConformance):
    tables = TABLES

    @pytest.fixture
    def build(self) -> Build:
        return lambda context: KademliaRouting(context, KademliaOptions())


class TestKademliaTables(TablesConformance):
    @pytest.fixture
    def tables(self) -> Tables:
        return TABLES

    @pytest.fixture
    def metadata(self) -> MetaData:
        return definitions.metadata

    @pytest.fixture
    def postgresql_url(self, postgres_server: PostgresServer) -> Iterator[str]:
        with postgres_server.database() as url:
            yield url
