"""What the transport counts."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge

from fluvial_transport_tcp.framing import Kind


class Metrics:
    """The transport's metrics in one registry; attributes for hot paths are labelled beforehand."""

    def __init__(self, registry: CollectorRegistry) -> None:
        size = Counter(
            "fluvial_transport_bytes_total", "Bytes on the wire, encrypted", ["direction"], registry=registry
        )
        messages = Counter(
            "fluvial_transport_messages_total", "Messages by kind", ["direction", "kind"], registry=registry
        )
        self.bytes_in: Final = size.labels("in")
        self.bytes_out: Final = size.labels("out")
        self.messages_in: Final = {kind: messages.labels("in", kind.name.lower()) for kind in Kind}
        self.messages_out: Final = {kind: messages.labels("out", kind.name.lower()) for kind in Kind}
        self.connections: Final = Gauge(
            "fluvial_transport_connections", "Authenticated connections that stand", registry=registry
        )
        self.queued_bytes: Final = Gauge(
            "fluvial_transport_queued_bytes", "Bytes that wait to be written, over all connections", registry=registry
        )
        self._handshakes = Counter(
            "fluvial_transport_handshakes_total", "Handshakes by outcome", ["outcome"], registry=registry
        )
        self._closed = Counter(
            "fluvial_transport_closed_total", "Connections that ended, by reason", ["reason"], registry=registry
        )
        self._dropped = Counter(
            "fluvial_transport_dropped_total", "Messages that came to nothing, by reason", ["reason"], registry=registry
        )

    def handshake(self, outcome: str) -> None:
        """A handshake ended: ``ok`` or what was wrong."""
        self._handshakes.labels(outcome).inc()

    def closed(self, reason: str) -> None:
        """A connection ended."""
        self._closed.labels(reason).inc()

    def dropped(self, reason: str) -> None:
        """Messages were dropped: one-way ones ``refused`` by the node, answers that came ``late``."""
        self._dropped.labels(reason).inc()
