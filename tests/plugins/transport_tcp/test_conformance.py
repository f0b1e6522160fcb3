"""The transport does what every transport must."""

from __future__ import annotations

import pytest
from fluvial.ports import Context
from fluvial.seats import Transport
from fluvial.testing.transport import BuildTransport, TransportConformance
from fluvial_transport_tcp.options import Options
from fluvial_transport_tcp.transport import TcpTransport


class TestTcp(TransportConformance):
    too_large_bytes = 2**20

    @pytest.fixture
    def build(self) -> BuildTransport:
        def build(context: Context, *, listens: bool) -> Transport:
            options = Options(
                listen=("/ip4/127.0.0.1/tcp/0",) if listens else (),
                frame_bytes_max=2**20,
                reconnect_min_s=0.05,
                reconnect_max_s=1.0,
            )
            return TcpTransport(context, options)

        return build
