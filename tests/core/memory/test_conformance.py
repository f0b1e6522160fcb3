"""The transport in memory does what every transport must, with real and with virtual time."""

from __future__ import annotations

import pytest
from fluvial.memory.network import LinkQuality, Memory
from fluvial.memory.options import MemoryOptions
from fluvial.memory.transport import MemoryTransport
from fluvial.ports import Context
from fluvial.seats import Transport
from fluvial.testing.transport import BuildTransport, TransportConformance
from fluvial.virtual.loop import BACKEND

QUALITY = LinkQuality(latency_s=0.001, jitter_s=0.002)


class TestMemory(TransportConformance):
    too_large_bytes = 2**20

    @pytest.fixture(params=["real", "virtual"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> object:
        return "asyncio" if request.param == "real" else BACKEND

    @pytest.fixture
    def build(self) -> BuildTransport:
        network = Memory(seed=1, quality=QUALITY)

        def build(context: Context, *, listens: bool) -> Transport:
            options = MemoryOptions(listen=listens, frame_bytes_max=2**20, reconnect_min_s=0.05)
            return MemoryTransport(network, context, options)

        return build
