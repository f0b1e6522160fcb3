"""Peers with the TCP transport on this machine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tests.plugins.transport_tcp.peers import StartPeer


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[StartPeer]:
    """Starts peers; they are stopped with the test."""
    async with anyio.create_task_group() as group:
        yield StartPeer(group, tmp_path)
        group.cancel_scope.cancel()
