"""The example distribution keeps to the kits; that pip installs it is shown in ``tests/e2e/test_third_party.py``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fluvial.ports import Context
from fluvial.seats import Part
from fluvial.tables import Tables
from fluvial.testing.extra import ExtraConformance
from fluvial.testing.tables import TablesConformance
from sqlalchemy import MetaData

from tests.docs.pages import ROOT
from tests.support.postgres import PostgresServer

FOLDER = ROOT / "examples" / "greetings"


def example(name: str) -> Any:
    """A module of the example, which is not installed."""
    sys.path.insert(0, str(FOLDER))
    try:
        return importlib.import_module(f"fluvial_greetings.{name}")
    finally:
        sys.path.remove(str(FOLDER))


class TestGreetings(ExtraConformance):
    tables = example("tables").TABLES

    @pytest.fixture
    def build(self) -> Callable[[Context], Part]:
        plugin = example("plugin")

        def build(context: Context) -> Part:
            part: Part = plugin.Greetings(context, plugin.Options())
            return part

        return build


class TestGreetingsTables(TablesConformance):
    @pytest.fixture
    def tables(self) -> Tables:
        tables: Tables = example("tables").TABLES
        return tables

    @pytest.fixture
    def metadata(self) -> MetaData:
        metadata: MetaData = example("tables").metadata
        return metadata

    @pytest.fixture
    def postgresql_url(self, postgres_server: PostgresServer) -> Iterator[str]:
        with postgres_server.database() as url:
            yield url
