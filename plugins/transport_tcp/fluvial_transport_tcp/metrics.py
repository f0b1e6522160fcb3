"""What the transport counts, in plain numbers that cost nothing where messages pass; prometheus reads them when it is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fluvial_transport_tcp.framing import Kind


class Metrics(Collector):
    """The transport's metrics in one registry.

    Attributes:
        bytes_in, bytes_out: on the wire, encrypted.
        messages_in, messages_out: by kind, which is the index.
        dials: of addresses, by outcome: ``connected``, ``failed``, ``paused`` (not their turn), ``refused`` (not to be dialled).
        handshakes: by outcome.
        closed: connections that ended, by reason.
        dropped: messages that came to nothing: one-way ones ``refused`` by the node, answers that came ``late``.
        connections: how many stand now.
        queued_bytes: how much waits to be written now, over all connections.
        wasted_s: seconds that were spent on what came to nothing: messages that were refused or of no use, signs of life.
        intake_bytes: how much of the room for long messages of others is in use now.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.bytes_in = 0
        self.bytes_out = 0
        self.messages_in: Final = [0] * (max(Kind) + 1)
        self.messages_out: Final = [0] * (max(Kind) + 1)
        self.dials: Final[Counter[str]] = Counter()
        self.handshakes: Final[Counter[str]] = Counter()
        self.closed: Final[Counter[str]] = Counter()
        self.dropped: Final[Counter[str]] = Counter()
        self.connections: Callable[[], int] = lambda: 0
        self.queued_bytes: Callable[[], int] = lambda: 0
        self.wasted_s: Callable[[], float] = lambda: 0.0
        self.intake_bytes: Callable[[], int] = lambda: 0
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """For prometheus: the present values."""
        size = CounterMetricFamily("fluvial_transport_bytes", "Bytes on the wire, encrypted", labels=["direction"])
        size.add_metric(["in"], self.bytes_in)
        size.add_metric(["out"], self.bytes_out)
        messages = CounterMetricFamily("fluvial_transport_messages", "Messages by kind", labels=["direction", "kind"])
        for kind in Kind:
            messages.add_metric(["in", kind.name.lower()], self.messages_in[kind])
            messages.add_metric(["out", kind.name.lower()], self.messages_out[kind])
        return (
            size,
            messages,
            _by("fluvial_transport_dials", "Addresses to dial, by outcome", "outcome", self.dials),
            _by("fluvial_transport_handshakes", "Handshakes by outcome", "outcome", self.handshakes),
            _by("fluvial_transport_closed", "Connections that ended, by reason", "reason", self.closed),
            _by("fluvial_transport_dropped", "Messages that came to nothing, by reason", "reason", self.dropped),
            CounterMetricFamily(
                "fluvial_transport_wasted_seconds",
                "Time of the event loop for messages that were refused or of no use",
                value=self.wasted_s(),
            ),
            GaugeMetricFamily("fluvial_transport_connections", "Connections that stand", value=self.connections()),
            GaugeMetricFamily(
                "fluvial_transport_queued_bytes", "Bytes that wait to be written", value=self.queued_bytes()
            ),
            GaugeMetricFamily(
                "fluvial_transport_intake_bytes",
                "Bytes of others' messages held beyond what each connection has for itself",
                value=self.intake_bytes(),
            ),
        )


def _by(name: str, documentation: str, label: str, counts: Counter[str]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in tuple(counts.items()):  # a scrape may come from another thread
        family.add_metric([value], count)
    return family
