"""Stores over real databases, for the tests of the storage."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from fluvial.storage import Store, open_store


@pytest.fixture
def url(storage_url: str) -> str:
    return storage_url


@pytest.fixture
async def store(url: str, tmp_path: Path) -> AsyncIterator[Store]:
    """An open store on each kind of database; in memory it is test_model.py's."""
    async with open_store(url, base_dir=tmp_path) as opened:
        yield opened
